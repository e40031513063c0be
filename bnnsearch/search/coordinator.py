"""The driver's side of a search: hands out trials, hears their reports, decides who goes on, records what they came to.

An executor only moves trials between this and the workers, so both executors decide alike.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult, TrialState, append_result, by_number, read_results
from bnnsearch.search.ledger import Ledger
from bnnsearch.search.pretraining import pretrain_epochs
from bnnsearch.search.schedulers import is_rung, survives
from bnnsearch.search.skipping import reason_to_skip
from bnnsearch.search.worker import Assignment, Costs, Failure, Job, Report


class StopReason(StrEnum):
    """Why a search ended."""

    FINISHED = "finished"
    WALL_TIME = "wall_time"
    GPU_HOURS = "gpu_hours"
    FAILURES = "max_failed_trials"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    DETACHED = "detached"
    """It has not: it goes on on a cluster, and only whoever watched it has left."""


@dataclass
class _Running:
    """A trial under way."""

    assignment: Assignment
    params: Mapping[str, Any]
    started: float = field(default_factory=time.monotonic)
    epoch: int = 0
    pretrain_epochs: int = 0
    costs: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Costs, and the last epoch's values; what is not finite is left out."""
        return {name: value for name, value in {**self.costs, **self.values}.items() if math.isfinite(value)}


class Coordinator:
    """One search from its ledger's present state to its budget's end.

    Attributes:
        results: ended trials by number.
        stopped: why no more trials start, once that is so.
    """

    def __init__(
        self, study: StudyConfig, ledger: Ledger, *, job: Job, results: Path, observers: Sequence[StudyObserver] = ()
    ) -> None:
        self._study = study
        self._ledger = ledger
        self._job = job
        self._results_path = results
        self._observers = observers
        self._modes = [objective.mode for objective in study.objectives]
        self._running: dict[int, _Running] = {}
        self._began = time.monotonic()
        self.results = by_number(read_results(results))
        self._failed = sum(each.state is TrialState.FAILED for each in self.results.values())
        self._seconds = sum(each.seconds for each in self.results.values())
        self.stopped: StopReason | None = None
        self._unfinished = deque(self._close_recorded(ledger.unfinished()))

    def _close_recorded(self, unfinished: list[Assignment]) -> list[Assignment]:
        """Close in the ledger the trials whose result was written just before the driver died; return the others."""
        for assignment in unfinished:
            if assignment.number in self.results:
                self._ledger.tell(self.results[assignment.number])
        return [assignment for assignment in unfinished if assignment.number not in self.results]

    @property
    def stopping(self) -> bool:
        """Whether running trials are to be left where they are, for a later `resume`."""
        budget = self._study.budget
        if budget.wall_time is not None and time.monotonic() - self._began >= budget.wall_time:
            self.stop(StopReason.WALL_TIME)
        if budget.gpu_hours is not None and self._gpu_hours() >= budget.gpu_hours:
            self.stop(StopReason.GPU_HOURS)
        return self.stopped is not None

    @property
    def exhausted(self) -> bool:
        """Whether `next_trial` will never again give one."""
        left = self._running or self._unfinished or self._ledger.retries_waiting or not self._budget_spent()
        return self.stopping or not left

    def stop(self, reason: StopReason) -> None:
        """End the search; the first reason given stands."""
        self.stopped = self.stopped or reason

    def next_trial(self) -> Assignment | None:
        """A trial to start now: first those that an earlier driver left unfinished, then new ones within the budget."""
        if self.stopping:
            return None
        if self._unfinished:
            assignment = self._unfinished.popleft()
        elif not self._budget_spent() or self._ledger.retries_waiting:
            assignment = self._ledger.ask()
        else:
            return None
        params = self._ledger.params(assignment.number)
        pretraining = pretrain_epochs(assignment.config)
        self._running[assignment.number] = _Running(assignment, params, pretrain_epochs=pretraining)
        for observer in self._observers:
            observer.trial_started(assignment.number, assignment.config, params)
        return assignment

    def receive(self, number: int, report: Report) -> bool:
        """Take note of a report; says whether the trial goes on. Reports of a trial that has ended are ignored."""
        trial = self._running.get(number)
        if trial is None:
            return False
        match report:
            case Costs():
                trial.costs = report.values
                if (reason := reason_to_skip(self._study, trial.costs, self.results.values())) is not None:
                    self._end(trial, TrialState.PRUNED, reason)
                return number in self._running
            case EpochMetrics():
                if report.epoch > trial.epoch:  # a trial taken up from its checkpoint repeats some epochs
                    self._epoch_finished(trial, report)
                return number in self._running and not self.stopping
            case Failure():
                self._end(trial, TrialState.FAILED, report.reason)
                if report.out_of_memory and trial.assignment.retry_of is None:
                    self._ledger.enqueue_half_batch(trial.assignment)
                return False
            case _:
                assert_never(report)

    def _epoch_finished(self, trial: _Running, metrics: EpochMetrics) -> None:
        number = trial.assignment.number
        trial.epoch, trial.values = metrics.epoch, metrics.values
        for observer in self._observers:
            observer.epoch_finished(number, metrics)
        values = self._projected(trial)
        self._ledger.report(number, metrics.epoch, values[0])
        if metrics.epoch >= metrics.epochs:
            self._end(trial, TrialState.COMPLETE)
            return
        # counted from the end of pretraining, which trials may share and which says nothing of the binary network
        own_epoch, own_epochs = metrics.epoch - trial.pretrain_epochs, metrics.epochs - trial.pretrain_epochs
        if is_rung(self._study.scheduler, number, epoch=own_epoch, epochs=own_epochs):
            rung = self._ledger.enter_rung(number, own_epoch, values)
            if rung is not None and not survives(self._study.scheduler, rung, number, self._modes):
                self._end(trial, TrialState.PRUNED, f"stopped at the rung of epoch {metrics.epoch}")

    def _projected(self, trial: _Running) -> list[float]:
        """The objectives if the trial ended with its present accuracy; costs are those of the full plan."""
        known = {**trial.values, **trial.costs}
        return [known[objective.metric] for objective in self._study.objectives]

    def _end(self, trial: _Running, state: TrialState, reason: str | None = None) -> None:
        number = trial.assignment.number
        metrics = trial.metrics
        result = TrialResult(
            number=number,
            state=state,
            config=trial.assignment.config,
            params=trial.params,
            metrics=metrics,
            violations=self._violations(metrics),
            epochs=trial.epoch,
            seconds=time.monotonic() - trial.started,
            reason=reason,
            retry_of=trial.assignment.retry_of,
        )
        del self._running[number]
        append_result(self._results_path, result)  # first: a result without its entry in the ledger is closed on resume
        self._ledger.tell(result)
        self.results[number] = result
        self._job.checkpoint(number).unlink(missing_ok=True)
        for observer in self._observers:
            observer.trial_finished(result)
        self._failed += state is TrialState.FAILED
        self._seconds += result.seconds
        if self._study.budget.max_failed_trials is not None and self._failed >= self._study.budget.max_failed_trials:
            self.stop(StopReason.FAILURES)

    def _violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        violations: dict[str, float] = {}
        for constraint in self._study.constraints:
            if constraint.metric in metrics:
                violation = constraint.violation(metrics[constraint.metric])
                violations[constraint.metric] = max(violation, violations.get(constraint.metric, violation))
        return violations

    def _gpu_hours(self) -> float:
        """What all trials of the study have held so far."""
        now = time.monotonic()
        running = sum(now - trial.started for trial in self._running.values())
        return (self._seconds + running) * self._study.resources.per_trial.gpu / 3600

    def _budget_spent(self) -> bool:
        return len(self._ledger) >= min(self._study.budget.trials, self._ledger.capacity)
