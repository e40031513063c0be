"""Trials one after the other in this process: for tests, for debugging, and where Ray is not wanted."""

from __future__ import annotations

import logging
from contextlib import closing

from bnnsearch.config.study import StudyConfig
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.worker import Assignment, Failure, Job, Report, one_line, run_trial

logger = logging.getLogger(__name__)


class LocalExecutor:
    """An `Executor` in this process."""

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:
        while (assignment := coordinator.next_trial()) is not None:
            with closing(_Attempts(job, assignment, retries=study.retries)) as attempts:
                while coordinator.receive(assignment.number, attempts.next_report()):
                    pass


class _Attempts:
    """One trial's reports over all its attempts."""

    def __init__(self, job: Job, assignment: Assignment, *, retries: int) -> None:
        self._job = job
        self._assignment = assignment
        self._retries_left = retries
        self._reports = run_trial(job, assignment, own_process=False)

    def close(self) -> None:
        """End the trial here; what it holds, such as a network in training that others wait for, is free."""
        self._reports.close()

    def next_report(self) -> Report:
        while True:
            try:
                return next(self._reports)
            except Exception as error:  # any crash of a trial counts as one attempt
                logger.warning("trial %d crashed", self._assignment.number, exc_info=True)
                if not self._retries_left:
                    return Failure(one_line(error))
                self._retries_left -= 1
                self._reports = run_trial(self._job, self._assignment, own_process=False)
