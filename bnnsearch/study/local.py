"""Trials one after the other in this process: for tests, for debugging, and where Ray is not wanted."""

from __future__ import annotations

import logging
from functools import partial

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.worker import Assignment, Failure, Job, Report, one_line, run_trial, teacher_epoch

logger = logging.getLogger(__name__)


class _StoppedError(BaseException):
    """The search stops while a network is trained that a trial learns or starts from; no fault of the trial."""


class LocalExecutor:
    """An `Executor` in this process."""

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:
        while (assignment := coordinator.next_trial()) is not None:
            attempts = _Attempts(job, assignment, retries=study.retries)
            hearing = teacher_epoch.set(partial(_teacher_epoch, coordinator, assignment.number))
            try:
                while coordinator.receive(assignment.number, attempts.next_report()):
                    pass
            except _StoppedError:
                return
            finally:
                teacher_epoch.reset(hearing)


def _teacher_epoch(coordinator: Coordinator, number: int, metrics: EpochMetrics) -> None:
    """Say how far it is, ten times in all; break off where the search is stopping."""
    if metrics.epoch * 10 // metrics.epochs > (metrics.epoch - 1) * 10 // metrics.epochs:
        coordinator.say(f"trial {number}: {metrics.phase}, epoch {metrics.epoch}/{metrics.epochs}")
    if coordinator.stopping:
        raise _StoppedError


class _Attempts:
    """One trial's reports over all its attempts."""

    def __init__(self, job: Job, assignment: Assignment, *, retries: int) -> None:
        self._job = job
        self._assignment = assignment
        self._retries_left = retries
        self._reports = run_trial(job, assignment, own_process=False)

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
