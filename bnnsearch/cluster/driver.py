"""What a cluster runs of a search: `python -m bnnsearch.cluster.driver STUDY`, on the head, as a job.

It starts the study at STUDY or goes on with it, and prints its events. It needs nobody to be attached; after its death
another one is started in the same way.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import resources
from pathlib import Path

from bnnsearch.cluster.events import EventWriter, write_event, write_past
from bnnsearch.cluster.mirror import Mirror
from bnnsearch.cluster.nodes import await_nodes, check_shared, connected
from bnnsearch.cluster.package import SPACE_FILE, SPACE_PACKAGE
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder, cache_folder
from bnnsearch.record import Record, held
from bnnsearch.results import StopReason, StudyObserver
from bnnsearch.space import Space, load_space
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import HeldStudy, StudyOutcome, earlier_study, new_study
from bnnsearch.tracking.tracker import Tracker

FAILED, BAD_INPUT, ENVIRONMENT = 1, 2, 3
EXIT = {
    StopReason.FINISHED: 0,
    StopReason.WALL_TIME: 0,
    StopReason.FAILURES: FAILED,
    StopReason.INTERRUPTED: 130,
    StopReason.TERMINATED: 143,
}
LEASE = 180.0
"""Seconds to wait for a dead driver's lock; one that lives keeps it, and this one gives up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the orders; the exit code is that of `bnnsearch run`."""
    orders = _parser().parse_args(arguments)
    try:
        outcome = _search(orders)
    except (InputError, EnvironmentProblem) as problem:
        code = BAD_INPUT if isinstance(problem, InputError) else ENVIRONMENT
        write_event("problem", code=code, message=str(problem))
        return code
    write_event("study_finished", stopped=outcome.stopped)
    return EXIT[outcome.stopped]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnnsearch.cluster.driver", description=__doc__)
    parser.add_argument("study", help="the study's folder: one that every node sees, or one in an object store")
    parser.add_argument("--space", type=Path, help="the space, where the study is new; else the one that came along")
    parser.add_argument("--trials", type=int, help="a new budget.trials for a study that goes on")
    parser.add_argument("--slots", type=int, help="trials at once; needed where nodes come only when there is work")
    parser.add_argument("--nodes", type=int, default=1, help="nodes to wait for")
    parser.add_argument("--address", default="auto", help="of Ray; by default the cluster this runs on")
    parser.add_argument("--track", action="store_true", help="record in MLflow, at MLFLOW_TRACKING_URI")
    return parser


def _search(orders: argparse.Namespace) -> StudyOutcome:
    with ExitStack() as session:
        session.enter_context(connected(orders.address))
        await_nodes(orders.nodes)
        observers: list[StudyObserver] = [EventWriter()]
        remote = "://" in orders.study
        if remote:
            folder = StudyFolder(cache_folder() / "studies" / re.split(r"://|\?", orders.study)[1])
        else:
            folder = StudyFolder(Path(orders.study))
            check_shared(folder.path)
        record = session.enter_context(held(folder, wait=LEASE))
        executor = RayExecutor(slots=orders.slots)
        if remote:
            mirror = session.enter_context(Mirror(orders.study, folder))
            observers.append(mirror)
            executor.store = mirror.checkpoints
        study = session.enter_context(_study(orders, folder, record))
        observers.append(session.enter_context(_recorder(study, track=orders.track)))
        return study.search(executor, observers)


def _study(orders: argparse.Namespace, folder: StudyFolder, record: Record) -> AbstractContextManager[HeldStudy]:
    if record.empty and not folder.space.exists():
        return new_study(_space_that_came(orders.space), folder.path, record=record)
    write_past(folder)
    return earlier_study(folder.path, trials=orders.trials, record=record)


def _space_that_came(path: Path | None) -> Space:
    if path is not None:
        return load_space(path)
    with resources.as_file(resources.files(SPACE_PACKAGE) / SPACE_FILE) as packaged:
        return load_space(packaged)


@contextmanager
def _recorder(study: HeldStudy, *, track: bool) -> Iterator[StudyObserver]:
    if not track:
        yield StudyObserver()
        return
    with Tracker(study.space.study, study.folder, study.record) as tracker:
        yield tracker


if __name__ == "__main__":
    sys.exit(main())
