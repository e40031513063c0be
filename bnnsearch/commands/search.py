"""Starting, resuming and looking at searches, from the arguments of a command to its exit code."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bnnsearch.cluster.placement import is_remote
from bnnsearch.commands.following import OK, follow_search, tell_damage, tell_status
from bnnsearch.errors import EnvironmentProblem, StudyInUse
from bnnsearch.folder import StudyFolder, find_study_folder, new_study_folder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.space import load_space
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.text import metric_text

if TYPE_CHECKING:
    from bnnsearch.study.executor import Executor
    from bnnsearch.tracking.tracker import Tracker


def run(space_path: Path, overrides: Sequence[str], *, executor: str, runs: Path, as_json: bool) -> int:
    """Search a space in a new folder below `runs`."""
    space = load_space(space_path, overrides=overrides, begins=True)
    print_lines(Console(stderr=True), [f"warning: {warning}" for warning in space.warnings])
    from bnnsearch.config.trial import trial_of
    from bnnsearch.study.study import new_study
    from bnnsearch.trial import check_trial

    check_trial(trial_of(space.trial.defaults()))
    folder = new_study_folder(runs, space.study.name)
    with new_study(space, folder.path) as study:
        search = partial(study.search, _executor(executor))
        return follow_search(space.study, folder, search, as_json=as_json, record=study.record)


@dataclass(frozen=True, slots=True)
class Changes:
    """In what a search may go on otherwise than it began.

    Attributes:
        trials: a new `budget.trials`.
        guests: whether code that the space uses may have changed.
    """

    trials: int | None = None
    guests: bool = False


def resume(
    study: Path | None, *, runs: Path, changes: Changes, executor: str, cluster: Path | None, as_json: bool
) -> int:
    """Go on with a stopped search."""
    folder = find_study_folder(study, runs)
    if cluster is not None or is_remote(folder):
        from bnnsearch.commands import cluster as on_cluster

        return on_cluster.resume(folder, trials=changes.trials, cluster_path=cluster, as_json=as_json)
    from bnnsearch.study.study import earlier_study

    with earlier_study(folder.path, trials=changes.trials, changed_guests=changes.guests) as held_study:
        print_lines(Console(stderr=True), list(held_study.notes))
        search = partial(held_study.search, _executor(executor))
        study_now, record = held_study.space.study, held_study.record
        return follow_search(study_now, folder, search, as_json=as_json, record=record)


def _executor(name: str) -> Executor:
    if name == "local":
        from bnnsearch.study.local import LocalExecutor

        return LocalExecutor()
    from bnnsearch.study.ray import RayExecutor

    return RayExecutor()


def dry_run(space_path: Path, overrides: Sequence[str]) -> int:
    """Say what a search would do: the space, one configuration, what its training costs at most."""
    space = load_space(space_path, overrides=overrides, begins=True)
    from bnnsearch.config.trial import trial_of
    from bnnsearch.core.data import DataError
    from bnnsearch.trial import build_trainer, network_costs

    config = trial_of({**space.trial.defaults(), "seed": space.study.seed})
    console, missing = Console(), []
    try:
        costs = build_trainer(config, trains=False).costs()
    except DataError as error:
        costs, missing = network_costs(config), [f"costs of training are not known without the data: {error}"]
    print_lines(console, space.describe())
    print_lines(
        console, ["the trial of all defaults:", *json.dumps(config.model_dump(mode="json"), indent=2).splitlines()]
    )
    print_lines(console, [f"  {name} {metric_text(name, value)}" for name, value in costs.items()])
    print_lines(console, missing)
    epochs = space.study.budget.trials * config.epochs
    print_lines(
        console, [f"at most {space.study.budget.trials} trials, {epochs} epochs of such trials; nothing was trained"]
    )
    return OK


def status(study: Path | None, *, runs: Path, as_json: bool) -> int:
    """Say where a search stands."""
    folder = find_study_folder(study, runs)
    if is_remote(folder):
        from bnnsearch.commands import cluster

        return cluster.status(folder, as_json=as_json)
    past = read_past(folder)
    tell_damage(past)
    tell_status(folder, past.space.study, past.results, as_json=as_json)
    return OK


def report(study: Path | None, *, runs: Path) -> int:
    """Write a search's report anew, from what is in its folder; send MLflow what it has not got."""
    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.report import write_report
    from bnnsearch.tracking.tracker import deliver_rest, is_settled

    past, console = read_past(folder), Console()
    tell_damage(past)
    config = past.space.study
    write_report(folder, config)
    print_lines(console, [str(folder.report / "report.html")])
    store = study_store(config, folder)
    if not is_settled(folder, store):
        with suppress(StudyInUse), held(folder):  # a search that runs delivers by itself
            _tell_delivered(console, folder, deliver_rest(config, folder))
    return OK


def _tell_delivered(console: Console, folder: StudyFolder, sent: Tracker) -> None:
    """Say what a late delivery came to.

    Raises:
        EnvironmentProblem: MLflow has not got everything.
    """
    print_lines(console, [sent.notice] if sent.notice else [])
    store = sent.store.shown
    if sent.undelivered:
        again = f"`bnnsearch report {shlex.quote(str(folder.path))}` sends them"
        raise EnvironmentProblem(f"{store}: {sent.undelivered} updates were not delivered; {again}")
    if sent.refused:
        raise EnvironmentProblem(f"{store}: refused {sent.refused} updates; {folder.path} holds what they tell")
    if not sent.settled:
        raise EnvironmentProblem(f"{store}: the runs could not be brought up to date; try `bnnsearch report` again")


def compare(studies: Sequence[Path], *, out: Path) -> int:
    """Write the fronts of several searches into one picture."""
    folders = [find_study_folder(study, study.parent) for study in studies]
    from bnnsearch.tracking.comparison import write_comparison

    for each in write_comparison([(folder, read_past(folder).space.study) for folder in folders], out):
        front = f"{len(each.front.results)} of {len(each.front.candidates)} finished trials on the front"
        print_lines(Console(), [f"{each.name}: hypervolume {each.hypervolume:.4f}, {front}"])
    print_lines(Console(), [str(out)])
    return OK


def ui(study: Path | None, *, runs: Path, host: str, port: int) -> int:
    """Serve MLflow's UI on the store that holds a search, until it is stopped."""
    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.ui import serve

    serve(study_store(read_past(folder).space.study, folder), host=host, port=port)
    return OK
