"""A search on a cluster as the commands see it: started, followed from anywhere, gone on with, stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bnnsearch.cluster.backend import Backend, JobState, Order
from bnnsearch.cluster.events import Replay, is_event
from bnnsearch.cluster.kinds import ClusterFile, driver_options
from bnnsearch.cluster.placement import Placement
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import Past, begin_session, read_past
from bnnsearch.record import Record, held
from bnnsearch.results import StopReason, StudyObserver, TrialResult
from bnnsearch.space import Space, space_of
from bnnsearch.study.space_file import write_space

if TYPE_CHECKING:
    from bnnsearch.study.study import StudyOutcome

BAD_INPUT = 2


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """Where a search on a cluster stands.

    Attributes:
        job: its job.
        results: its ended trials, by number.
    """

    job: JobState
    results: tuple[TrialResult, ...]


def run_on_cluster(
    space: Space,
    *,
    cluster: ClusterFile,
    folder: StudyFolder,
    observers: Sequence[StudyObserver] = (),
    record: Record | None = None,
) -> StudyOutcome:
    """Search `space` on a cluster and follow it to its end; results come back to `folder`.

    Interrupted, this ends and the search does not: the outcome then says `detached`.

    Args:
        space: what to search.
        cluster: where.
        folder: the study's on this machine.
        observers: told about trials as they go.
        record: the folder's, where it is held already.

    Raises:
        InputError: the cluster cannot run the search.
        EnvironmentProblem: the cluster does not start, does not answer, or refuses us.
    """
    options = driver_options(cluster, space.study)
    with held(folder, record) as own:
        begin_session(own, space)
        write_space(folder, space)
        placement = Placement.new(folder, cluster, study=cluster.place(space.study, folder))
        with cluster.reached(folder, start=True) as jobs:
            placement = placement.submitted(jobs.submit(Order(placement.study, space.text, options, space.guests)))
            return _follow(jobs, placement, space.study, observers, own)


def resume_on_cluster(
    folder: StudyFolder,
    *,
    trials: int | None = None,
    cluster: ClusterFile | None = None,
    observers: Sequence[StudyObserver] = (),
    record: Record | None = None,
) -> StudyOutcome:
    """Watch a search that runs, or go on with one that has stopped.

    Args:
        folder: the study's folder on this machine.
        trials: a new `budget.trials`, for one that has stopped.
        cluster: another cluster to go on with, which sees the same storage; None is the one it ran on.
        observers: told what they have not been told before.
        record: the folder's, where it is held already.

    Raises:
        InputError: the study does not run on a cluster, or it runs and was given new trials.
        EnvironmentProblem: the cluster does not start, does not answer, or refuses us.
    """
    with held(folder, record) as own:
        placement = Placement.of(folder) if cluster is None else Placement.of(folder).moved(cluster)
        cluster = placement.file()
        overrides = () if trials is None else (f"budget.trials={trials}",)
        before = read_past(folder, epochs=True)
        text, guests = before.space.text.encode(), before.guests
        space = space_of(text, folder.space, overrides=overrides, guests=guests)
        with cluster.reached(folder, start=True) as jobs:
            if _runs(jobs, placement):
                if trials is not None:
                    raise InputError(
                        f"{folder.path}: the budget grows when a search has ended or was stopped, but it runs"
                    )
            else:
                options = driver_options(cluster, space.study)
                if trials is not None:
                    options += ["--trials", str(trials)]
                order = Order(placement.study, space.text, options, space.guests)
                placement = placement.submitted(jobs.submit(order))
            _begin(own, before, space)
            return _follow(jobs, placement, space.study, observers, own)


def _begin(record: Record, before: Past, space: Space) -> None:
    """Note the session, and what an earlier version kept in other files."""
    earlier = record.empty
    begin_session(record, space)
    write_space(before.folder, space)
    if earlier:
        for number, epochs in before.history.items():
            for metrics in epochs:
                record.append("epoch", number=number, **asdict(metrics))
        for result in before.results:
            record.append("ended", **asdict(result))


def status_on_cluster(folder: StudyFolder) -> RemoteStatus:
    """Where the search stands; nothing is written.

    Raises:
        EnvironmentProblem: the cluster does not answer; `folder` has what came back before.
    """
    placement = Placement.of(folder)
    replay = Replay(folder)
    with placement.file().reached(folder) as jobs:
        state = _state(jobs, placement)
        if placement.job is not None and state is not JobState.GONE:
            for line in jobs.output(placement.job):
                replay.hear(line)
    return RemoteStatus(state, replay.by_number())


def logs_on_cluster(folder: StudyFolder) -> list[str]:
    """What the search's job has printed, but for its events."""
    placement = Placement.of(folder)
    if placement.job is None:
        return []
    with placement.file().reached(folder) as jobs:
        return [line for line in jobs.output(placement.job) if not is_event(line)]


def stop_on_cluster(folder: StudyFolder) -> JobState:
    """Have the search save and end; the cluster stays. Returns where it stood."""
    placement = Placement.of(folder)
    with placement.file().reached(folder) as jobs:
        state = _state(jobs, placement)
        if placement.job is not None and state in (JobState.QUEUED, JobState.RUNNING):
            jobs.stop(placement.job)
    return state


def _state(jobs: Backend, placement: Placement) -> JobState:
    return JobState.GONE if placement.job is None else jobs.state(placement.job)


def _runs(jobs: Backend, placement: Placement) -> bool:
    return _state(jobs, placement) in (JobState.QUEUED, JobState.RUNNING)


def _follow(
    jobs: Backend, placement: Placement, study: StudyConfig, observers: Sequence[StudyObserver], record: Record
) -> StudyOutcome:
    assert placement.job is not None
    replay = Replay(placement.folder, observers, record=record)
    try:
        jobs.follow(placement.job, replay.hear)
        stopped = replay.stopped
    except KeyboardInterrupt:
        stopped = StopReason.DETACHED
    if replay.problem is not None:
        code, message = replay.problem
        raise InputError(message) if code == BAD_INPUT else EnvironmentProblem(message)
    if stopped is None:
        said = "; ".join(replay.words[-3:])
        reason = jobs.why_ended(placement.job)
        raise EnvironmentProblem(f"the search's job ended without a result: {reason}. Last it said: {said}")
    from bnnsearch.study.study import StudyOutcome

    return StudyOutcome(study, replay.by_number(), stopped)
