"""What a cluster runs of a search: `python -m bnnsearch.cluster.driver STUDY`, on the head, as a job.

It starts the study at STUDY or goes on with it, and prints its events. It needs nobody to be attached; after its death
another one is started in the same way.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path

from bnnsearch.cluster.events import EpochRecorder, EventWriter, write_event, write_past
from bnnsearch.cluster.mirror import Mirror
from bnnsearch.cluster.nodes import await_nodes, check_shared, connected
from bnnsearch.cluster.package import SPACE_FILE, SPACE_PACKAGE
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder, cache_folder
from bnnsearch.results import StudyObserver
from bnnsearch.search.coordinator import StopReason
from bnnsearch.search.ray import RayExecutor
from bnnsearch.search.session import sole_driver
from bnnsearch.search.study import StudyOutcome, resume_study, run_study
from bnnsearch.space import Space, load_space

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
        if "://" in orders.study:
            folder = StudyFolder(cache_folder() / "studies" / re.split(r"://|\?", orders.study)[1])
            mirror = session.enter_context(Mirror(orders.study, folder))
            observers.append(mirror)
            executor = RayExecutor(slots=orders.slots, store=mirror.checkpoints)
        else:
            folder = StudyFolder(Path(orders.study))
            check_shared(folder.path)
            executor = RayExecutor(slots=orders.slots)
        new = not folder.space.exists()
        if not new:
            _await_predecessor(folder)
            write_past(folder)
        space = _space_that_came(orders.space) if new else load_space(folder.space)
        observers.append(session.enter_context(_recorder(space, folder, track=orders.track)))
        if new:
            return run_study(space, study_dir=folder.path, executor=executor, observers=observers)
        return resume_study(folder.path, executor=executor, trials=orders.trials, observers=observers)


def _await_predecessor(folder: StudyFolder) -> None:
    """Wait until the lock of a driver that has died is free: file servers notice a death late."""
    deadline, pause = time.monotonic() + LEASE, threading.Event()
    while time.monotonic() < deadline:
        try:
            with sole_driver(folder):
                return
        except InputError:
            pause.wait(2.0)


def _space_that_came(path: Path | None) -> Space:
    if path is not None:
        return load_space(path)
    with resources.as_file(resources.files(SPACE_PACKAGE) / SPACE_FILE) as packaged:
        return load_space(packaged)


@contextmanager
def _recorder(space: Space, folder: StudyFolder, *, track: bool) -> Iterator[StudyObserver]:
    folder.path.mkdir(parents=True, exist_ok=True)
    if not track:
        yield EpochRecorder(folder)
        return
    from bnnsearch.tracking.tracker import Tracker

    with Tracker(space.study, folder) as tracker:
        yield tracker


if __name__ == "__main__":
    sys.exit(main())
