"""What a cluster runs of a search: `python -m bnnsearch.cluster.driver STUDY`, on the head, as a job.

It starts the study at STUDY or goes on with it, and prints its events. It needs nobody to be attached; after its death
another one is started in the same way.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bnnsearch.cluster.events import EpochRecorder, EventWriter, write_event, write_past
from bnnsearch.cluster.package import SPACE_FILE, SPACE_PACKAGE
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
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

PATIENCE = 600.0
"""Seconds to wait for the nodes that are to come; the search begins with those that have come by then."""


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
    parser.add_argument("study", type=Path, help="the study's folder, which every node sees")
    parser.add_argument("--space", type=Path, help="the space, where the study is new; else the one that came along")
    parser.add_argument("--trials", type=int, help="a new budget.trials for a study that goes on")
    parser.add_argument("--slots", type=int, help="trials at once; needed where nodes come only when there is work")
    parser.add_argument("--nodes", type=int, default=1, help="nodes to wait for")
    parser.add_argument("--address", default="auto", help="of Ray; by default the cluster this runs on")
    parser.add_argument("--track", action="store_true", help="record in MLflow, at MLFLOW_TRACKING_URI")
    return parser


def _search(orders: argparse.Namespace) -> StudyOutcome:
    folder = StudyFolder(orders.study)
    with ExitStack() as session:
        session.enter_context(_connected(orders.address))
        _await_nodes(orders.nodes)
        _check_shared(folder.path)
        executor = RayExecutor(slots=orders.slots)
        if folder.space.exists():
            _await_predecessor(folder)
            write_past(folder)
            observers = [EventWriter(), session.enter_context(_recorder(orders, load_space(folder.space), folder))]
            return resume_study(folder.path, executor=executor, trials=orders.trials, observers=observers)
        space = _space_that_came(orders.space)
        observers = [EventWriter(), session.enter_context(_recorder(orders, space, folder))]
        return run_study(space, study_dir=folder.path, executor=executor, observers=observers)


def _space_that_came(path: Path | None) -> Space:
    if path is not None:
        return load_space(path)
    with resources.as_file(resources.files(SPACE_PACKAGE) / SPACE_FILE) as packaged:
        return load_space(packaged)


@contextmanager
def _recorder(orders: argparse.Namespace, space: Space, folder: StudyFolder) -> Iterator[StudyObserver]:
    folder.path.mkdir(parents=True, exist_ok=True)
    if not orders.track:
        yield EpochRecorder(folder)
        return
    from bnnsearch.tracking.tracker import Tracker

    with Tracker(space.study, folder) as tracker:
        yield tracker


@contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise EnvironmentProblem(f"no connection to Ray at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _alive() -> dict[str, str]:
    """Address of every node by its id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}


def _await_nodes(count: int) -> None:
    """Wait for nodes that are on their way; Ray tells nobody that one has come, so it is asked every second."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while len(_alive()) < count and time.monotonic() < deadline:
        pause.wait(1.0)
    sys.stderr.write(f"{len(_alive())} of {count} nodes are here\n")


def _await_predecessor(folder: StudyFolder) -> None:
    """Wait until the lock of a driver that has died is free: file servers notice a death late."""
    deadline, pause = time.monotonic() + LEASE, threading.Event()
    while time.monotonic() < deadline:
        try:
            with sole_driver(folder):
                return
        except InputError:
            pause.wait(2.0)


def _check_shared(folder: Path) -> None:
    """Write a file below the study's folder and have every node look for it.

    Raises:
        InputError: a node does not see it.
        EnvironmentProblem: it cannot be written.
    """
    marker = folder / f".seen-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: the head cannot write there ({error.strerror})") from error
    try:
        sees = ray.remote(num_cpus=0)(_exists)
        answers = {
            address: sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote(marker)
            for node, address in _alive().items()
        }
        blind = [address for address, answer in answers.items() if not ray.get(answer, timeout=PATIENCE)]
    finally:
        marker.unlink(missing_ok=True)
    if blind:
        raise InputError(
            f"storage is a folder that every node sees, or checkpoints are lost with their node, but {folder} is not "
            f"seen by {', '.join(sorted(blind))}"
        )


def _exists(path: Path) -> bool:
    return path.exists()


if __name__ == "__main__":
    sys.exit(main())
