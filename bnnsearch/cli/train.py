"""`bnnsearch train`: one configuration to its end, with one seed or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.terminal.output import write_event

if TYPE_CHECKING:
    from rich.console import Console

    from bnnsearch.config.trial import AnyTrial
    from bnnsearch.export import Provenance
    from bnnsearch.training import Trained


@click.command()
@click.argument("config", type=options.FILE)
@options.output("trained", "The run's folder.", kind=options.FOLDER)
@options.device
@options.threads
@options.seed
@click.option("--seeds", type=options.AT_LEAST_ONE, default=1, show_default=True, help="Train with so many seeds.")
@options.register
@options.alias("champion")
@click.option("--no-track", is_flag=True, help="Leave MLflow alone.")
@options.as_json
def train(
    *,
    config: Path,
    out: Path,
    device: str | None,
    threads: int | None,
    seed: int | None,
    seeds: int,
    register: str | None,
    alias: str,
    no_track: bool,
    as_json: bool,
) -> None:
    """Train CONFIG to its end and read the test set once; called again, it goes on from the checkpoint.

    With the seed, the machine and the --threads of a trial it repeats the trial to the last digit. --seeds counts up
    from the seed.

    On several GPUs: torchrun --nproc-per-node 4 -m bnnsearch train best.yaml

    Example: bnnsearch train best.yaml --seeds 3
    """
    from rich.console import Console

    from bnnsearch.core.distributed import joined, share
    from bnnsearch.export import load_trial
    from bnnsearch.terminal.ending import print_lines
    from bnnsearch.training import best_device, seeded

    options.set_threads(threads)
    trial, provenance = load_trial(config)
    if seed is not None:
        trial = trial.model_copy(update={"seed": seed})
    trials = [seeded(trial, offset=index) for index in range(seeds)]
    runs = [(each, out if seeds == 1 else out / f"seed-{each.seed}") for each in trials]
    with joined(device or best_device()) as own_device:
        if share()[0] > 0:  # the first process speaks and records for all
            _train_all(runs, own_device, Console(quiet=True), as_json=False)
            return
        if not no_track:
            from bnnsearch.tracking.production import production_store, record

            store = production_store(provenance)  # found out now, before hours of training
        console = Console(stderr=as_json)
        print_lines(console, [f"training {config}; Ctrl-C stops it, the same command goes on"])
        try:
            trained = _train_all(runs, own_device, console, as_json=as_json)
        except OSError as error:
            raise EnvironmentProblem(
                f"{error.filename or out}: {error.strerror or error}; the same command goes on"
            ) from error
    print_lines(console, _trained_lines(trained, provenance))
    if not no_track:
        finished = [(each, folder, result) for (each, folder), result in zip(runs, trained, strict=True)]
        print_lines(console, record(finished, store, provenance=provenance, register_as=register, alias=alias))


def _train_all(runs: Sequence[tuple[AnyTrial, Path]], device: str, console: Console, *, as_json: bool) -> list[Trained]:
    from bnnsearch.deploy import unpackable
    from bnnsearch.terminal.ending import print_lines
    from bnnsearch.terminal.training import epochs_shown
    from bnnsearch.training import RESULT, train

    done = []
    for config, out in runs:
        if (out / RESULT).exists():
            print_lines(console, [f"{out} holds a finished run already; its result:"])
        else:
            print_lines(console, [f"seed {config.seed}: {config.epochs} epochs in {out}"])
            if (problem := unpackable(config)) is not None:
                print_lines(console, [f"warning: {problem}"])
        with epochs_shown(console, as_json=as_json) as on_epoch:
            trained = train(config, out, device=device, on_epoch=on_epoch)
        if as_json:
            write_event("trained", out=str(out), metrics=trained.metrics, costs=trained.costs, test=trained.test)
        done.append(trained)
    return done


def _trained_lines(trained: Sequence[Trained], provenance: Provenance | None) -> list[str]:
    from bnnsearch.core.trainer import quantisation_note
    from bnnsearch.results import Spread
    from bnnsearch.terminal.text import metric_text, spread_text

    def spread(runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
        return {name: spread_text(name, each.mean, each.deviation) for name, each in Spread.over(runs).items()}

    expected = ""
    if provenance is not None and "val_acc" in provenance.expected:
        deviation = provenance.deviation.get("val_acc")
        over = f" over {provenance.repeats} other seeds" if provenance.repeats else ""
        had = spread_text("val_acc", provenance.expected["val_acc"], deviation)
        expected = f"; the search had {had}{over} (trial {provenance.trial} of {provenance.study})"
    seeds = "" if len(trained) == 1 else f" with each of {len(trained)} seeds"
    validation, test = spread([each.metrics for each in trained])["val_acc"], spread([each.test for each in trained])
    return [
        f"{trained[0].epochs} epochs{seeds}: val_acc {validation}{expected}",
        "test set, read once: " + ", ".join(f"{name} {text}" for name, text in test.items()),
        "costs: " + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained[0].costs.items()),
        *filter(None, dict.fromkeys(quantisation_note(each.metrics) for each in trained)),
    ]
