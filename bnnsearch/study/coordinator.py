"""The driver's side of a search: hands out trials, hears their reports, decides who goes on, records what they came to.

An executor only moves trials between this and the workers, so both executors decide alike.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, assert_never

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.pareto import GrowingFront, GrowingVolume, ParetoFront
from bnnsearch.results import StopReason, StudyObserver, TrialResult, TrialState
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.pretraining import pretrain_epochs
from bnnsearch.study.promotion import Promotion
from bnnsearch.study.schedulers import survives
from bnnsearch.study.skipping import certain, reason_to_skip
from bnnsearch.study.worker import Assignment, Costs, Failure, Job, Preparation, Report
from bnnsearch.verdict import violations

logger = logging.getLogger(__name__)


@dataclass
class _Trial:
    """A trial under way, or waiting at a rung.

    Attributes:
        seconds: that it ran before `started`.
        started: when it began to run, or last came to a rung or went on from it; None while it waits.
    """

    assignment: Assignment
    params: Mapping[str, Any]
    pretrain_epochs: int = 0
    epoch: int = 0
    seconds: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    started: float | None = field(default_factory=lambda: time.monotonic())  # noqa: PLW0108  # a test may change the clock

    @classmethod
    def of(cls, assignment: Assignment, params: Mapping[str, Any], **standing: Any) -> _Trial:
        return cls(assignment, params, pretrain_epochs(assignment.config), **standing)

    @property
    def own_epoch(self) -> int:
        """Counted from the end of pretraining, which trials may share and which says nothing of the binary network."""
        return self.epoch - self.pretrain_epochs

    def standing(self) -> dict[str, Any]:
        """What a trial that waits is to be known by."""
        return {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "costs": dict(self.costs),
            "values": {name: value for name, value in self.values.items() if math.isfinite(value)},
        }

    def elapsed(self) -> float:
        """Seconds that it has run."""
        return self.seconds + (0.0 if self.started is None else time.monotonic() - self.started)

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
        self, study: StudyConfig, ledger: Ledger, *, job: Job, observers: Sequence[StudyObserver] = ()
    ) -> None:
        self._study = study
        self._ledger = ledger
        self._job = job
        self._observers = observers
        self._modes = [objective.mode for objective in study.objectives]
        self._running: dict[int, _Trial] = {}
        self._waiting: dict[int, _Trial] = {}
        self._began = time.monotonic()
        self.results = dict(ledger.results)
        self._waiting_at: dict[int, int] = {}  # the epoch of its rung
        self._waiting_of: Counter[tuple[int, int]] = Counter()  # epoch and bracket
        self._waiting_seconds = 0.0
        self._released: dict[int, set[int]] = {}  # epoch of a rung to trials
        promotes = study.scheduler.promotes is not None
        self._promotion = Promotion(study.scheduler, self._modes, ledger.rungs, self._released) if promotes else None
        self._failed, self._seconds = 0, 0.0
        self._front = GrowingFront(self._modes)
        self._volume = GrowingVolume(self._modes)
        self._judged, self._stagnates = 0, False
        for number, result in self.results.items():
            self._count(result)
            if result.state is TrialState.PRUNED:
                own_epoch = result.epochs - pretrain_epochs(result.config)
                self._released.setdefault(own_epoch, set()).add(number)
        self.stopped: StopReason | None = None
        self._unfinished = deque(ledger.unfinished())
        for assignment, standing in ledger.waiting():
            self._let_wait(_Trial.of(assignment, ledger.params(assignment.number), **standing))
        for assignment, standing in ledger.left_outside():
            trial = _Trial.of(assignment, ledger.params(assignment.number), started=None, **standing)
            self._end(trial, TrialState.PRUNED, "it lies outside the space, which was changed")
        self._release()

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
        left = self._running or self._waiting or self._unfinished or self._ledger.repetitions_waiting
        return self.stopping or not (left or not self._budget_spent() or self._unconfirmed())

    def runs(self, number: int) -> bool:
        """Whether the trial was handed out, and neither ended since nor waits; none does while the search stops."""
        return number in self._running and not self.stopping

    def stop(self, reason: StopReason) -> None:
        """End the search; the first reason given stands."""
        self.stopped = self.stopped or reason

    def say(self, line: str) -> None:
        """Tell whoever watches and can be told; from any thread."""
        with suppress(EnvironmentProblem):
            for observer in self._observers:
                observer.said(line)

    def begin_stage(self, stage: str) -> None:
        """Tell whoever watches what keeps the search busy while no trial reports."""
        for observer in self._observers:
            observer.stage_started(stage)

    def next_trial(self) -> Assignment | None:
        """A trial to start now: one that an earlier driver left, else the best that waits, else a new one."""
        if self.stopping:
            return None
        trial = self._promoted() or self._fresh()
        if trial is None:
            return None
        number = trial.assignment.number
        self._running[number] = trial
        for observer in self._observers:
            observer.trial_started(number, trial.assignment.config, trial.params)
        return trial.assignment

    def _promoted(self) -> _Trial | None:
        if self._unfinished or (number := self._next_to_go_on()) is None:
            return None
        return self._go_on(number)

    def _fresh(self) -> _Trial | None:
        if self._unfinished:
            assignment = self._unfinished.popleft()
            self._ledger.restart(assignment.number)
        elif not self._budget_spent() or self._ledger.repetitions_waiting or self._confirm():
            assignment = self._ledger.ask()
        else:
            return None
        return _Trial.of(assignment, self._ledger.params(assignment.number))

    def _confirm(self) -> bool:
        """Queue the runs that the front lacks; whether there are any."""
        if lacking := self._unconfirmed():
            self._ledger.confirm(lacking)
            self.say(f"the front is confirmed: {len(lacking)} trials of its configurations with other seeds")
        return bool(lacking)

    def _unconfirmed(self) -> list[tuple[int, int]]:
        """Trial and seed of each run that the front, as it is once all has ended, lacks; none before that."""
        confirm = self._study.confirm
        if confirm is None or self._running or self._waiting or self._unfinished:
            return []
        had = Counter(each.confirms for each in self.results.values())
        front = ParetoFront.of(list(self.results.values()), self._study.objectives)
        return [
            (number, int(self.results[number].config["seed"]) + repeat)
            for number in sorted(front.numbers)
            for repeat in range(had[number] + 1, confirm.seeds)
        ]

    def receive(self, number: int, report: Report) -> bool:
        """Take note of a report; says whether the trial goes on. Reports of a trial that has ended are ignored."""
        trial = self._running.get(number)
        if trial is None:
            return False
        match report:
            case Preparation(metrics):
                self._prepared(number, metrics)
            case Costs():
                trial.costs = report.values
                known = certain(trial.assignment.config, trial.costs)
                self._ledger.costs(number, report.values)
                reason = reason_to_skip(self._study, known, self._front)
                if reason is not None and trial.assignment.confirms is None:
                    self._end(trial, TrialState.PRUNED, reason)
            case EpochMetrics():
                if report.epoch > trial.epoch:  # a trial taken up from its checkpoint repeats some epochs
                    self._epoch_finished(trial, report)
            case Failure():
                for line in report.trace.splitlines():
                    logger.warning("trial %d: %s", number, line)
                assignment = trial.assignment  # what confirms must be the same configuration
                repeated = report.out_of_memory and assignment.retry_of is None and assignment.confirms is None
                self._end(trial, TrialState.FAILED, report.reason, with_half_batch=repeated)
            case _:
                assert_never(report)
        if number not in self._running:
            self._release()
        return self.runs(number)

    def _prepared(self, number: int, metrics: EpochMetrics) -> None:
        """Say how far a network is that a trial learns or starts from, ten times in all."""
        told = f"trial {number}: {metrics.phase}, epoch {metrics.epoch}/{metrics.epochs}"
        logger.info("%s", told)
        if metrics.epoch * 10 // metrics.epochs > (metrics.epoch - 1) * 10 // metrics.epochs:
            self.say(told)

    def _epoch_finished(self, trial: _Trial, metrics: EpochMetrics) -> None:
        number = trial.assignment.number
        trial.epoch, trial.values = metrics.epoch, metrics.values
        values = self._projected(trial)
        self._ledger.report(number, metrics, values[0])
        for observer in self._observers:
            observer.epoch_finished(number, metrics)
        if metrics.epoch >= metrics.epochs:
            self._end(trial, TrialState.COMPLETE)
            return
        if trial.assignment.confirms is not None:  # it has been chosen, and contends with nobody
            return
        own_epochs = metrics.epochs - trial.pretrain_epochs
        if self._study.scheduler.is_rung(number, epoch=trial.own_epoch, epochs=own_epochs):
            self._reached_rung(trial, values)

    def _reached_rung(self, trial: _Trial, values: Sequence[float]) -> None:
        """A trial that is at a rung ends there, waits, or goes on."""
        number, epoch = trial.assignment.number, trial.own_epoch
        trial.seconds, trial.started = trial.elapsed(), time.monotonic()
        standing = None if self._promotion is None else trial.standing()
        if not self._ledger.enter_rung(number, epoch, values, standing=standing):
            return
        if self._promotion is None:
            if survives(self._study.scheduler, self._ledger.rungs[epoch], number, self._modes):
                self._ledger.promote(number, epoch)
            else:
                self._end(trial, TrialState.PRUNED, _stopped_at(trial))
            return
        self._let_wait(trial)
        if self._next_to_go_on() == number:
            self._running[number] = self._go_on(number)
        else:
            self._ledger.pause(number)
            for observer in self._observers:
                observer.trial_waits(number)

    def _let_wait(self, trial: _Trial) -> None:
        number = trial.assignment.number
        trial.started = None
        self._running.pop(number, None)
        self._waiting[number] = trial
        self._waiting_at[number] = trial.own_epoch
        self._waiting_of[trial.own_epoch, self._study.scheduler.bracket(number)] += 1
        self._waiting_seconds += trial.seconds

    def _no_longer_waits(self, number: int) -> _Trial:
        trial = self._waiting.pop(number)
        self._waiting_of[self._waiting_at.pop(number), self._study.scheduler.bracket(number)] -= 1
        self._waiting_seconds -= trial.seconds
        return trial

    def _go_on(self, number: int) -> _Trial:
        trial = self._no_longer_waits(number)
        trial.started = time.monotonic()
        self._ledger.promote(number, trial.own_epoch)
        return trial

    def _next_to_go_on(self) -> int | None:
        return self._promotion.next(self._waiting_at, self._to_come) if self._promotion else None

    def _release(self) -> None:
        """End the waiting trials that will not be promoted any more; each may decide the fate of others."""
        while self._promotion and (lost := self._promotion.lost(self._waiting_at, self._to_come)):
            for number in lost:
                trial = self._no_longer_waits(number)
                self._end(trial, TrialState.PRUNED, _stopped_at(trial))

    def _to_come(self, own_epoch: int, bracket: int) -> int:
        """How many trials of a bracket may still reach the rung at `own_epoch`, at most.

        Those that have begun are told apart by bracket: were they not, brackets whose trials all wait would wait for
        one another for ever.
        """
        budget = min(self._study.budget.trials, self._ledger.capacity)
        new = 0 if self._budget_spent() else max(0, int(budget) - len(self._ledger))
        new += self._ledger.repetitions_waiting
        reached, of = self._ledger.rungs[own_epoch], self._study.scheduler.bracket
        new += sum(
            count
            for (epoch, waiting), count in self._waiting_of.items()
            if epoch < own_epoch and waiting == bracket  # who waits at a rung has reached those below it
        )
        at_work = (*(each.number for each in self._unfinished), *self._running)
        return new + sum(each not in reached and of(each) == bracket for each in at_work)

    def _projected(self, trial: _Trial) -> list[float]:
        """The objectives if the trial ended with its present accuracy; costs are those of the full plan."""
        known = {**trial.values, **trial.costs}
        return [known[objective.metric] for objective in self._study.objectives]

    def _end(
        self, trial: _Trial, state: TrialState, reason: str | None = None, *, with_half_batch: bool = False
    ) -> None:
        number = trial.assignment.number
        metrics = trial.metrics
        result = TrialResult(
            number=number,
            state=state,
            config=trial.assignment.config,
            params=trial.params,
            metrics=metrics,
            violations=violations(self._study.constraints, metrics),
            epochs=trial.epoch,
            seconds=trial.elapsed(),
            reason=reason,
            retry_of=trial.assignment.retry_of,
            confirms=trial.assignment.confirms,
        )
        result = self._ledger.verdict.of(result)
        self._running.pop(number, None)
        self._ledger.tell(result, with_half_batch=with_half_batch)
        self.results[number] = result
        with suppress(OSError):  # it takes room, and harms nothing
            self._job.checkpoint(number).unlink()
        for observer in self._observers:
            observer.trial_finished(result)
        self._count(result)
        if state is TrialState.PRUNED:
            self._released.setdefault(trial.own_epoch, set()).add(number)
        if self._study.budget.max_failed_trials is not None and self._failed >= self._study.budget.max_failed_trials:
            self.stop(StopReason.FAILURES)

    def _count(self, result: TrialResult) -> None:
        """Take an ended trial into what decisions look at, so that none of them reads all results."""
        self._failed += result.state is TrialState.FAILED
        self._seconds += result.seconds
        if result.selectable:
            values = [result.metrics[objective.metric] for objective in self._study.objectives]
            self._front.add(result.number, values)
            if self._study.budget.stagnation is not None:
                self._volume.add(result.number, values)

    def _gpu_hours(self) -> float:
        """What all trials of the study have held so far."""
        open_ones = self._waiting_seconds + sum(trial.elapsed() for trial in self._running.values())
        return (self._seconds + open_ones) * self._study.resources.per_trial.gpu / 3600

    def _budget_spent(self) -> bool:
        return len(self._ledger) >= min(self._study.budget.trials, self._ledger.capacity) or self._stagnant()

    def _stagnant(self) -> bool:
        """Whether the last trials that finished have added no more to the hypervolume than a budget wants."""
        wanted = self._study.budget.stagnation
        if wanted is None:
            return False
        if len(self.results) != self._judged:  # what else may change it?
            self._judged = len(self.results)
            before = len(self._volume) - wanted.trials
            now = self._volume.after(len(self._volume)) if before > 0 else 0.0
            self._stagnates = before > 0 and now - self._volume.after(before) <= wanted.gain * now
            if self._stagnates:
                logger.info("the last %d finished trials have added at most %g", wanted.trials, wanted.gain)
        return self._stagnates


def _stopped_at(trial: _Trial) -> str:
    return f"stopped at the rung of epoch {trial.epoch}"
