"""Production training: one configuration to its end, with one seed or several, recorded and registered in MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bnnsearch.commands.following import OK
from bnnsearch.config.study import TrackingConfig
from bnnsearch.core.trainer import quantisation_note
from bnnsearch.errors import InputError
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.text import metric_text, spread_text
from bnnsearch.terminal.training import epochs_shown
from bnnsearch.terminal.views import write_event

if TYPE_CHECKING:
    from bnnsearch.config.trial import AnyTrial
    from bnnsearch.export import Provenance
    from bnnsearch.tracking.store import Store
    from bnnsearch.training import Trained

RECORD = "mlflow.json"
"""In a run's folder, once it is recorded: where in MLflow it is."""

EXPERIMENT = "production"
"""MLflow's experiment for configurations that come from no study."""


@dataclass(frozen=True, slots=True)
class Recording:
    """How a finished run is recorded.

    Attributes:
        tracked: whether MLflow is told.
        register_as: name of the registered model; None is the study's, and without a study nothing is registered.
        alias: that the new version takes over.
    """

    tracked: bool = True
    register_as: str | None = None
    alias: str = "champion"


@dataclass(frozen=True, slots=True)
class _Run:
    """One seed's training and its folder."""

    config: AnyTrial
    out: Path


def train(config_path: Path, *, out: Path, device: str | None, seeds: int, recording: Recording, as_json: bool) -> int:
    """Train one configuration to its end with each seed, reading the test set once each; record what came of it."""
    from bnnsearch.export import load_trial

    config, provenance = load_trial(config_path)
    from bnnsearch.core.distributed import joined, share
    from bnnsearch.training import best_device, seeded

    configs = [seeded(config, offset=place) for place in range(seeds)]
    runs = [_Run(each, out if seeds == 1 else out / f"seed-{each.seed}") for each in configs]
    with joined(device or best_device()) as own_device:
        if share()[0] > 0:  # the first process speaks and records for all
            _train_all(runs, own_device, Console(quiet=True), as_json=False)
            return OK
        store = _store(provenance) if recording.tracked else None
        console = Console(stderr=as_json)
        print_lines(console, [f"training {config_path}; Ctrl-C stops it, the same command goes on"])
        trained = _train_all(runs, own_device, console, as_json=as_json)
    print_lines(console, _trained_lines(trained, provenance))
    if store is not None:
        print_lines(console, _record(runs, trained, provenance, store=store, recording=recording))
    return OK


def _train_all(runs: Sequence[_Run], device: str, console: Console, *, as_json: bool) -> list[Trained]:
    from bnnsearch.deploy import unpackable
    from bnnsearch.training import RESULT, train

    done = []
    for run in runs:
        if (run.out / RESULT).exists():
            print_lines(console, [f"{run.out} holds a finished run already; its result:"])
        else:
            print_lines(console, [f"seed {run.config.seed}: {run.config.epochs} epochs in {run.out}"])
            if (problem := unpackable(run.config)) is not None:
                print_lines(console, [f"warning: {problem}"])
        with epochs_shown(console, as_json=as_json) as on_epoch:
            trained = train(run.config, run.out, device=device, on_epoch=on_epoch)
        if as_json:
            write_event("trained", out=str(run.out), metrics=trained.metrics, costs=trained.costs, test=trained.test)
        done.append(trained)
    return done


def _trained_lines(trained: Sequence[Trained], provenance: Provenance | None) -> list[str]:
    seeds = "" if len(trained) == 1 else f" with each of {len(trained)} seeds"
    validation = _spread_texts([each.metrics for each in trained])["val_acc"]
    test = _spread_texts([each.test for each in trained])
    return [
        f"{trained[0].epochs} epochs{seeds}: val_acc {validation}{_expected_text(provenance)}",
        "test set, read once: " + ", ".join(f"{name} {text}" for name, text in test.items()),
        "costs: " + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained[0].costs.items()),
        *filter(None, dict.fromkeys(quantisation_note(each.metrics) for each in trained)),
    ]


def _spread_texts(runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    from bnnsearch.export import Spread

    return {name: spread_text(name, each.mean, each.deviation) for name, each in Spread.over(runs).items()}


def _expected_text(provenance: Provenance | None) -> str:
    expected = provenance.expected.get("val_acc") if provenance else None
    if provenance is None or expected is None:
        return ""
    deviation = provenance.deviation.get("val_acc")
    seeds = "" if deviation is None else f" over {provenance.repeats} seeds"
    return f" (expected {spread_text('val_acc', expected, deviation)}{seeds})"


def _store(provenance: Provenance | None) -> Store:
    """The store of the study that the configuration comes from; found out now, before hours of training."""
    from bnnsearch.tracking.store import check_store, named_store

    if provenance is None:
        store = named_store(TrackingConfig(), EXPERIMENT)
    else:
        store = named_store(provenance.tracking, provenance.study)
    check_store(store)
    return store


def _record(
    runs: Sequence[_Run],
    trained: Sequence[Trained],
    provenance: Provenance | None,
    *,
    store: Store,
    recording: Recording,
) -> list[str]:
    """Record each run once, and register the best in validation; the lines that say so."""
    from bnnsearch.core.checkpoint import CHECKPOINT
    from bnnsearch.tracking.production import Production, log_production
    from bnnsearch.training import RESULT, TRIAL, read_epochs

    best = max(range(len(runs)), key=lambda place: trained[place].metrics.get("val_acc", 0.0))
    name = recording.register_as or (provenance.study if provenance else None)
    lines = []
    for place, (run, each) in enumerate(zip(runs, trained, strict=True)):
        if (run.out / RECORD).exists():
            continue
        packed, told = _packed(run.out)
        production = Production(
            run.config,
            read_epochs(run.out),
            metrics=each.test | each.costs,
            files=[run.out / file for file in (CHECKPOINT, RESULT, TRIAL)],
            packed=packed,
            provenance=provenance,
        )
        register_as = name if packed and place == best else None
        logged = log_production(production, store, register_as=register_as, alias=recording.alias)
        (run.out / RECORD).write_text(json.dumps(asdict(logged), indent=2) + "\n")
        where = f"; registered as models:/{name}@{recording.alias}, version {logged.version}" if logged.version else ""
        lines += [told, f"recorded in MLflow's experiment {store.experiment} as run {logged.run_id}{where}"]
    return lines


def _packed(out: Path) -> tuple[Path | None, str]:
    """The run's network packed beside its checkpoint, where it can be, and a line about it."""
    from bnnsearch.deploy import pack_run

    try:
        packed = pack_run(out, out / "model.bnn")
    except InputError as error:
        return None, str(error)
    return out / "model.bnn", f"packed to {out / 'model.bnn'}: {packed.bytes} bytes"
