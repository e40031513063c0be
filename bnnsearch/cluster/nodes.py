"""The nodes of the cluster that a driver runs on: connected to, waited for, and asked whether they see the study."""

from __future__ import annotations

import logging
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bnnsearch.errors import EnvironmentProblem, InputError

PATIENCE = 600.0
"""Seconds to wait for the nodes that are to come; the search begins with those that have come by then."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to Ray.

    Raises:
        EnvironmentProblem: there is none.
    """
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, AuthenticationError) as error:
        raise EnvironmentProblem(f"no connection to Ray at {address}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def await_nodes(count: int) -> None:
    """Wait for nodes that are on their way; Ray tells nobody that one has come, so it is asked every second."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while len(_alive()) < count and time.monotonic() < deadline:
        pause.wait(1.0)
    sys.stderr.write(f"{len(_alive())} of {count} nodes are here\n")


def check_shared(folder: Path) -> None:
    """Write a file into the folder and have every node look for it.

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


def _alive() -> dict[str, str]:
    """Address of every node by its id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}


def _exists(path: Path) -> bool:
    return path.exists()
