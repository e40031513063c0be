"""What the commands do where a search runs on a cluster, from their arguments to their exit code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from bnnsearch.cluster.backend import JobState
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.kinds import plan_lines, recorded_here
from bnnsearch.cluster.launch import head_address, launch
from bnnsearch.cluster.launcher import LOG, LauncherFile
from bnnsearch.cluster.placement import Placement
from bnnsearch.cluster.remote import (
    logs_on_cluster,
    resume_on_cluster,
    run_on_cluster,
    status_on_cluster,
    stop_on_cluster,
)
from bnnsearch.commands.following import OK, follow_search, tell_status
from bnnsearch.errors import InputError
from bnnsearch.folder import StudyFolder, find_study_folder, new_study_folder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.space import load_space
from bnnsearch.terminal.ending import print_lines

WATCHED = "Ctrl-C leaves it running there, and `resume` watches it again"


def run(space_path: Path, overrides: Sequence[str], *, cluster_path: Path, runs: Path, as_json: bool) -> int:
    """Search a space on a cluster and watch it."""
    space, cluster = load_space(space_path, overrides=overrides, begins=True), load_cluster(cluster_path)
    console = Console(stderr=as_json)
    print_lines(Console(stderr=True), [f"warning: {warning}" for warning in space.warnings])
    print_lines(console, plan_lines(cluster, space.study))
    folder = new_study_folder(runs, space.study.name)
    study = recorded_here(cluster, space.study)
    with held(folder) as record:
        search = partial(run_on_cluster, space, cluster=cluster, folder=folder, record=record)
        code = follow_search(study, folder, lambda each: search(observers=each), as_json=as_json, interrupting=WATCHED)
    print_lines(console, cluster.cost_lines(folder))
    return code


def resume(folder: StudyFolder, *, trials: int | None, cluster_path: Path | None, as_json: bool) -> int:
    """Watch a search on a cluster again, or go on with it there, or on another one."""
    cluster = Placement.of(folder).file() if cluster_path is None else load_cluster(cluster_path)
    elsewhere = None if cluster_path is None else cluster
    with held(folder) as record:
        study = read_past(folder).space.study
        if trials is not None:
            study = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": trials})})
        study = recorded_here(cluster, study)
        search = partial(resume_on_cluster, folder, trials=trials, cluster=elsewhere, record=record)
        code = follow_search(study, folder, lambda each: search(observers=each), as_json=as_json, interrupting=WATCHED)
    print_lines(Console(stderr=as_json), cluster.cost_lines(folder))
    return code


def status(folder: StudyFolder, *, as_json: bool) -> int:
    """Say where a search on a cluster stands, and what costs money."""
    study, found = read_past(folder).space.study, status_on_cluster(folder)
    tell_status(folder, study, found.results, as_json=as_json, job=found.job)
    if not as_json:
        costs = Placement.of(folder).file().cost_lines(folder)
        print_lines(Console(), [_next_line(folder, found.job), *costs])
    return OK


def _next_line(folder: StudyFolder, job: JobState) -> str:
    verb = "watch it" if job in (JobState.QUEUED, JobState.RUNNING) else "bring back what is new, and go on with it"
    return f"to {verb}: bnnsearch resume {shlex.quote(str(folder.path))}"


def logs(study: Path | None, *, runs: Path) -> int:
    """Print what a search on a cluster has said besides its results."""
    print_lines(Console(), logs_on_cluster(find_study_folder(study, runs)))
    return OK


def stop(study: Path | None, *, runs: Path) -> int:
    """Have a search on a cluster save and end; the cluster stays."""
    folder = find_study_folder(study, runs)
    state = stop_on_cluster(folder)
    going = state in (JobState.QUEUED, JobState.RUNNING)
    told = "it saves and ends" if going else f"it does not run there ({state})"
    resuming = f"to go on with it: bnnsearch resume {shlex.quote(str(folder.path))}"
    print_lines(Console(), [f"{folder.path}: {told}", resuming, *Placement.of(folder).file().cost_lines(folder)])
    return OK


def down(study: Path | None, *, runs: Path) -> int:
    """End the cluster that a study runs on, and so the search."""
    folder = find_study_folder(study, runs)
    print_lines(Console(), [Placement.of(folder).file().end(folder.path / LOG)])
    return OK


def cluster_up(path: Path) -> int:
    """Start a cluster and leave it running."""
    cluster = _launched_by_us(path)
    launch(cluster, _log(cluster))
    price = cluster.settings.usd_per_hour
    cost = f", and costs {price.head:.2f} USD per hour without workers" if price else ""
    print_lines(Console(), [f"cluster {cluster.name} runs{cost}; end it with: bnnsearch cluster down {path}"])
    return OK


def cluster_status(path: Path) -> int:
    """Say whether a cluster runs."""
    cluster = _launched_by_us(path)
    head = head_address(cluster)
    told = "does not run" if head is None else f"runs, its head at {head}; end it with: bnnsearch cluster down {path}"
    print_lines(Console(), [f"cluster {cluster.name} {told}"])
    return OK


def cluster_down(path: Path) -> int:
    """End a cluster."""
    cluster = _launched_by_us(path)
    print_lines(Console(), [cluster.end(_log(cluster))])
    return OK


def _launched_by_us(path: Path) -> LauncherFile:
    cluster = load_cluster(path)
    if not isinstance(cluster, LauncherFile):
        raise InputError(f"{path}: only a cluster that `ray up` starts is started and ended by hand, but it is none")
    return cluster


def _log(cluster: LauncherFile) -> Path:
    return Path(f"{cluster.name}.log")
