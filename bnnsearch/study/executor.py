"""The interface of what runs trials, and those there are by name."""

from __future__ import annotations

from typing import Literal, Protocol

from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import InputError
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.worker import Job

Executors = Literal["ray", "local"]


class Executor(Protocol):
    """Runs a coordinator's trials until it hands out no more.

    An executor starts what `next_trial` gives, passes every report on, ends a trial whose report is answered by False,
    takes a crashed trial up again as often as `study.retries` says and then reports a `Failure`. When the coordinator
    is stopping it leaves running trials as they are and returns.
    """

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None: ...


def executor_of(name: Executors) -> Executor:
    """`ray` runs trials in parallel, `local` one after another in this process.

    Raises:
        InputError: another name.
    """
    if name == "local":
        from bnnsearch.study.local import LocalExecutor

        return LocalExecutor()
    if name != "ray":
        raise InputError(f"executor must be one of ray, local, but got {name!r}")
    from bnnsearch.study.ray import RayExecutor

    return RayExecutor()
