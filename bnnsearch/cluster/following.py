"""Searches on clusters that are followed from a terminal here, and the words about them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from bnnsearch.cluster.backend import JobState
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.kinds import ClusterFile, plan_lines, recorded_here
from bnnsearch.cluster.placement import Placement
from bnnsearch.cluster.remote import resume_on_cluster, run_on_cluster
from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder, new_study_folder
from bnnsearch.invocation import command
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.space import Space
from bnnsearch.terminal.following import Search, follow_search
from bnnsearch.terminal.output import say

WATCHED = "Ctrl-C leaves it running there, and `resume` watches it again"


def run_followed(space: Space, cluster: ClusterFile, *, runs: Path, as_json: bool) -> int:
    """Search a space on a cluster and watch it; the exit code."""
    say(*plan_lines(cluster, space.study), err=as_json)
    folder = new_study_folder(runs, space.study.name)
    with held(folder) as record:
        search = partial(run_on_cluster, space, cluster=cluster, folder=folder, record=record)
        return _follow(space.study, cluster, folder, lambda each: search(observers=each), as_json=as_json)


def resume_followed(folder: StudyFolder, *, trials: int | None, cluster_path: Path | None, as_json: bool) -> int:
    """Watch a search on a cluster again, or go on with it there, or on another one; the exit code."""
    cluster = Placement.of(folder).file() if cluster_path is None else load_cluster(cluster_path)
    elsewhere = None if cluster_path is None else cluster
    with held(folder) as record:
        study = read_past(folder).space.study
        if trials is not None:
            study = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": trials})})
        search = partial(resume_on_cluster, folder, trials=trials, cluster=elsewhere, record=record)
        return _follow(study, cluster, folder, lambda each: search(observers=each), as_json=as_json)


def _follow(study: StudyConfig, cluster: ClusterFile, folder: StudyFolder, search: Search, *, as_json: bool) -> int:
    recorded = recorded_here(cluster, study)
    code = follow_search(recorded, folder, search, as_json=as_json, interrupting=WATCHED)
    say(*cluster.cost_lines(folder), err=as_json)
    return code


def next_lines(folder: StudyFolder, job: JobState) -> list[str]:
    """How to go on with a search whose job is in this state, and what costs money."""
    verb = "watch it" if job in (JobState.QUEUED, JobState.RUNNING) else "bring back what is new, and go on with it"
    return [f"to {verb}: {command('resume', folder.path)}", *Placement.of(folder).file().cost_lines(folder)]
