"""`bnnsearch export`: one trial of a search as a file that `train` takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import InputError
from bnnsearch.folder import find_study_folder, study_folders
from bnnsearch.invocation import command
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.config.study import SelectConfig
    from bnnsearch.config.trial import AnyTrial
    from bnnsearch.export import Provenance, Selection
    from bnnsearch.results import TrialResult


@click.command()
@options.study
@options.runs
@click.option("--knee", is_flag=True, help="Take the knee of the front.")
@click.option("--best", metavar="METRIC", help="Take the best in a metric.")
@click.option("--trial", "number", type=click.IntRange(min=0), help="Take this trial.")
@click.option("--run-id", metavar="ID", help="Take the trial of this run in MLflow.")
@click.option("--where", multiple=True, metavar="LIMIT", help='Only trials within it, such as "memory_bytes<=20000".')
@click.option(
    "--confirm", type=click.IntRange(min=0), default=0, metavar="N", help="Train it again with N other seeds."
)
@options.device
@options.threads
@options.register
@options.alias("candidate")
@click.option("--no-register", is_flag=True, help="Leave MLflow's registry alone.")
@options.output("best.yaml", "The file to write.")
@options.as_json
def export(
    *,
    study: Path | None,
    runs: Path,
    knee: bool,
    best: str | None,
    number: int | None,
    run_id: str | None,
    where: tuple[str, ...],
    confirm: int,
    device: str | None,
    threads: int | None,
    register: str | None,
    alias: str,
    no_register: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Write one configuration of the front as a file that `train` takes; by default what the space's `select` says.

    Example: bnnsearch export --where "memory_bytes<=20000" --best val_acc --confirm 3
    """
    if sum((knee, best is not None, number is not None, run_id is not None)) > 1:
        raise click.UsageError("at most one of --knee, --best, --trial and --run-id")
    from bnnsearch.export import Provenance, export_best, select_trial
    from bnnsearch.past import read_past
    from bnnsearch.terminal.text import metric_text
    from bnnsearch.tracking.ids import study_store, trial_run_id

    if run_id is not None:
        study, number = _trial_of_run(run_id, study, runs)
    folder = find_study_folder(study, runs)
    past = read_past(folder)
    say(*filter(None, [past.damage]), err=True)
    config, store = past.space.study, study_store(past.space.study, folder)
    selection = _selection(config.select, where, knee=knee, best=best, number=number)
    chosen = select_trial(past.results, config.objectives, selection)
    goals = [objective.metric for objective in config.objectives]
    told = f"trial {chosen.number} of {folder.path}, {selection.describe(config.objectives)}: "
    say(told + ", ".join(f"{name} {metric_text(name, chosen.metrics[name])}" for name in goals), err=as_json)
    own_run = trial_run_id(folder, store, chosen.number)
    provenance = Provenance(
        study=config.name, search_id=folder.search_id, trial=chosen.number, run_id=own_run, tracking=config.tracking
    )
    if confirm:
        options.set_threads(threads)
        provenance = _confirmed(provenance, chosen, repeats=confirm, device=device, as_json=as_json)
        say(_confirmed_line(provenance, goals), err=as_json)
    export_best(past.results, config.objectives, selection=selection, provenance=provenance, path=out, use=config.use)
    say(f"wrote {out}; train it with: {command('train', out)}", err=as_json)
    registered = None
    if own_run is not None and not no_register:
        from bnnsearch.tracking.registry import register_export

        name = register or config.name
        version = register_export(out, store, run_id=own_run, name=name, alias=alias)
        registered = f"models:/{name}@{alias}"
        say(f"registered as {registered}, version {version}", err=as_json)
    if as_json:
        write_event("exported", study=str(folder.path), trial=chosen.number, file=str(out), metrics=chosen.metrics,
                    expected=provenance.expected, deviation=provenance.deviation, registered=registered)  # fmt: skip


def _selection(
    default: SelectConfig, where: tuple[str, ...], *, knee: bool, best: str | None, number: int | None
) -> Selection:
    """What the options choose, at most one of them given; else what the space does."""
    from bnnsearch.export import Selection

    if knee:
        return Selection("knee", where=where)
    if best is not None:
        return Selection("best", metric=best, where=where)
    if number is not None:
        return Selection("trial", number=number, where=where)
    return Selection(default.by, metric=default.metric, where=where)


def _trial_of_run(run_id: str, study: Path | None, runs: Path) -> tuple[Path, int]:
    """The study and the trial of a run in MLflow: of the named study, or of any below `runs`."""
    from bnnsearch.tracking.ids import trial_of_run

    for folder in [find_study_folder(study, runs)] if study is not None else study_folders(runs):
        number = trial_of_run(folder, run_id)
        if number is not None:
            return folder.path, number
    raise InputError(f"no trial in {study or runs} has the MLflow run {run_id}")


def _confirmed(
    provenance: Provenance, chosen: TrialResult, *, repeats: int, device: str | None, as_json: bool
) -> Provenance:
    from rich.console import Console

    from bnnsearch.config.trial import trial_of
    from bnnsearch.export import repeated
    from bnnsearch.terminal.training import epochs_shown
    from bnnsearch.training import best_device, validated

    def train(config: AnyTrial) -> Mapping[str, float]:
        say(f"trial {chosen.number} again with seed {config.seed}", err=as_json)
        with epochs_shown(Console(stderr=as_json), as_json=as_json) as on_epoch:
            return validated(config, device=device or best_device(), on_epoch=on_epoch)

    return repeated(provenance, trial_of(chosen.config), repeats=repeats, train=train)


def _confirmed_line(provenance: Provenance, goals: Sequence[str]) -> str:
    """The objectives over the other seeds; a latency is not measured again."""
    from bnnsearch.terminal.text import spread_text

    expected, deviation = provenance.expected, provenance.deviation
    shown = [f"{name} {spread_text(name, expected[name], deviation.get(name))}" for name in goals if name in expected]
    return f"over {provenance.repeats} other seeds: {', '.join(shown)}"
