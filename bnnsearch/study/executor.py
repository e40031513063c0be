"""The interface of what runs trials."""

from __future__ import annotations

from typing import Protocol

from bnnsearch.config.study import StudyConfig
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.worker import Job


class Executor(Protocol):
    """Runs a coordinator's trials until it hands out no more.

    An executor starts what `next_trial` gives, passes every report on, ends a trial whose report is answered by False,
    takes a crashed trial up again as often as `study.retries` says and then reports a `Failure`. When the coordinator
    is stopping it leaves running trials as they are and returns.
    """

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None: ...
