"""What is done with the result of a search: export, packing, prediction, latency."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bnnsearch.commands.following import OK, tell_damage
from bnnsearch.errors import InputError, printable
from bnnsearch.folder import find_study_folder, study_folders
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.text import metric_text, spread_text
from bnnsearch.terminal.training import epochs_shown
from bnnsearch.terminal.views import write_event

if TYPE_CHECKING:
    from bnnsearch.config.trial import AnyTrial
    from bnnsearch.export import Provenance, Selection

SHOWN_SCORES = 3


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What follows a selection.

    Attributes:
        repeats: how often the trial is trained again with other seeds.
        registered: whether it goes into MLflow's registry.
        register_as: the registered model's name; None is the study's.
        alias: that the new version takes over.
    """

    repeats: int = 0
    registered: bool = True
    register_as: str | None = None
    alias: str = "candidate"


def export(  # noqa: D417  # the rest is what the command line says
    study: Path | None, *, runs: Path, selection: Selection | None, where: Sequence[str], then: Confirmation, out: Path
) -> int:
    """Write one configuration of the front.

    Args:
        selection: None is what the study's settings say.
    """
    folder = find_study_folder(study, runs)
    past = read_past(folder)
    tell_damage(past)
    config, results = past.space.study, past.results
    from bnnsearch.export import Provenance, Selection, export_best, select_trial
    from bnnsearch.tracking.ids import study_store, trial_run_id

    console, store = Console(), study_store(config, folder)
    selection = replace(selection or Selection(config.select.by, metric=config.select.metric), where=where)
    chosen = select_trial(results, config.objectives, selection)
    objectives = [objective.metric for objective in config.objectives]
    told = f"trial {chosen.number} of {folder.path}, {selection.describe(config.objectives)}: "
    print_lines(console, [told + ", ".join(f"{name} {metric_text(name, chosen.metrics[name])}" for name in objectives)])
    run_id = trial_run_id(folder, store, chosen.number)
    provenance = Provenance(
        study=config.name, search_id=folder.search_id, trial=chosen.number, run_id=run_id, tracking=config.tracking
    )
    if then.repeats:
        provenance = _confirmed(provenance, chosen, then.repeats, console)
        print_lines(console, _confirmed_lines(provenance, objectives))
    export_best(results, config.objectives, selection=selection, provenance=provenance, path=out, use=config.use)
    lines = [f"wrote {out}; train it with: bnnsearch train {shlex.quote(str(out))}"]
    if then.registered and run_id is not None:
        from bnnsearch.tracking.registry import register_export

        name = then.register_as or config.name
        version = register_export(out, store, run_id=run_id, name=name, alias=then.alias)
        lines.append(f"registered as models:/{name}@{then.alias}, version {version}")
    print_lines(console, lines)
    return OK


def _confirmed(provenance: Provenance, chosen: TrialResult, repeats: int, console: Console) -> Provenance:
    from bnnsearch.config.trial import trial_of
    from bnnsearch.export import repeated
    from bnnsearch.training import best_device, validated

    def train(config: AnyTrial) -> Mapping[str, float]:
        print_lines(console, [f"trial {chosen.number} again with seed {config.seed}"])
        with epochs_shown(console, as_json=False) as on_epoch:
            return validated(config, device=best_device(), on_epoch=on_epoch)

    return repeated(provenance, trial_of(chosen.config), repeats=repeats, train=train)


def _confirmed_lines(provenance: Provenance, objectives: Sequence[str]) -> list[str]:
    """The objectives over the other seeds; a latency is not measured again."""
    shown = [
        f"{name} {spread_text(name, provenance.expected[name], provenance.deviation.get(name))}"
        for name in objectives
        if name in provenance.expected
    ]
    return [f"over {provenance.repeats} other seeds: {', '.join(shown)}"]


def study_of_run(run_id: str, study: Path | None, runs: Path) -> tuple[Path, int]:
    """The study and the trial of a run in MLflow: of the named study, or of any below `runs`.

    Raises:
        InputError: no study has it.
    """
    from bnnsearch.tracking.ids import trial_of_run

    folders = [find_study_folder(study, runs)] if study is not None else study_folders(runs)
    for folder in folders:
        number = trial_of_run(folder, run_id)
        if number is not None:
            return folder.path, number
    raise InputError(f"no trial in {study or runs} has the MLflow run {run_id}")


def pack(run: Path, *, out: Path, edges: Literal["float32", "int8"]) -> int:
    """Pack a trained network."""
    from bnnsearch.deploy import pack_run

    packed = pack_run(run, out, edges=edges)
    told = f"; same labels as the trained network on {packed.checked} validation images" if packed.checked else ""
    print_lines(Console(), [f"wrote {out}: {packed.bytes} bytes{told}"])
    return OK


def predict(model: Path, images: Sequence[Path], *, as_json: bool) -> int:
    """Print the class of each image file and the highest scores."""
    from bnnsearch.packed.model import PackedModel
    from bnnsearch.packed.predict import predict_files

    loaded, console = PackedModel.load(model), Console()
    names = [printable(name) for name in loaded.classes]
    for found in predict_files(loaded, images):
        if as_json:
            scores = [round(float(score), 6) for score in found.scores]
            sample = {} if found.sample is None else {"sample": found.sample}
            write_event("predicted", file=str(found.file), **sample, label=found.label, name=found.name, scores=scores)
            continue
        best = (-found.scores).argsort(kind="stable")[:SHOWN_SCORES]
        shown = ", ".join(f"{names[label]} {found.scores[label]:.4f}" for label in best)
        place = "" if found.sample is None else f"[{found.sample}]"
        print_lines(console, [f"{printable(found.file)}{place}: {shown}"])
    return OK


def bench(model: Path, *, batch: int, threads: int) -> int:
    """Measure a packed network's latency."""
    from bnnsearch.packed.latency import measure_latency
    from bnnsearch.packed.model import PackedModel

    latency = measure_latency(PackedModel.load(model), batch=batch, threads=threads)
    told = f"{latency.median_ms:.4f} ms per call of {batch} images on {threads} threads"
    print_lines(Console(), [f"{told}, spread {latency.spread:.0%} between rounds"])
    return OK
