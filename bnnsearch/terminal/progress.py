"""The state of a running search, kept from its events: counts, front, hypervolume, best, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean, quantiles
from threading import RLock
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.terminal.text import duration_text, metric_text, range_text, trials_text


@dataclass(frozen=True, slots=True)
class Running:
    """A trial under way: what was sampled, its epochs so far and the values of the last one."""

    params: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    epochs: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The share of its plan that is still to be trained."""
        return 1 - self.epoch / self.epochs if self.epochs else 1.0


class StudyProgress(StudyObserver):
    """A `StudyObserver` that only keeps count; views read it from another thread under `lock`."""

    def __init__(self, study: StudyConfig, finished: list[TrialResult] | None = None) -> None:
        self.study = study
        self.lock = RLock()
        self.results: list[TrialResult] = list(finished or [])
        self.running: dict[int, Running] = {}
        self.waiting: dict[int, Running] = {}
        self._front: ParetoFront | None = None
        self.stage = ""
        self._began = time.monotonic()
        self._first: float | None = None
        self._fresh: list[float] = []

    def stage_started(self, stage: str) -> None:
        with self.lock:
            self.stage = stage

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:  # noqa: ARG002
        with self.lock:
            self._first = time.monotonic() if self._first is None else self._first
            self.running[number] = self.waiting.pop(number, Running(params))

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        with self.lock:
            self.stage = ""
            self.running[number] = replace(
                self.running.get(number, Running()), epoch=metrics.epoch, epochs=metrics.epochs, values=metrics.values
            )

    def trial_waits(self, number: int) -> None:
        with self.lock:
            self.waiting[number] = self.running.pop(number, Running())

    def trial_finished(self, result: TrialResult) -> None:
        with self.lock:
            self.running.pop(result.number, None)
            self.waiting.pop(result.number, None)
            self.results.append(result)
            self._fresh.append(result.seconds)
            if result.state is TrialState.COMPLETE:
                self._front = None

    @property
    def front(self) -> ParetoFront:
        """Of the trials that have ended; made when somebody looks."""
        with self.lock:
            if self._front is None:
                self._front = ParetoFront.of(self.results, self.study.objectives)
            return self._front

    @property
    def counts(self) -> Counter[TrialState]:
        """Ended trials by state."""
        return Counter(result.state for result in self.results)

    @property
    def elapsed(self) -> float:
        """Seconds since this process began to search."""
        return time.monotonic() - self._began

    @property
    def _to_come(self) -> int:
        """How many trials of the budget have not begun."""
        begun = sum(result.confirms is None for result in self.results) + len(self.running) + len(self.waiting)
        return max(0, self.study.budget.trials - begun)

    def epochs(self) -> tuple[int, int | None]:
        """Epochs trained, and how many it will be in all; None before anything tells.

        A trial that is to come is expected to train as long as those that ended, which the stopped ones shorten.
        """
        with self.lock:
            open_ones = [*self.running.values(), *self.waiting.values()]
            done = sum(result.epochs for result in self.results) + sum(each.epoch for each in open_ones)
            planned = [each.epochs for each in open_ones if each.epochs]
            typical = [result.epochs for result in self.results] or planned
            if not typical:
                return done, None
            rest = sum(each.left * (each.epochs or fmean(typical)) for each in self.running.values())
            return done, round(done + rest + self._to_come * fmean(typical))

    def remaining(self) -> tuple[float, float] | None:
        """Seconds left as a range, from the spread of the trials that ended; None before two have.

        The low end takes every trial still to come as short as the quickest quarter, the high end as long as the
        slowest quarter; the wall-time budget bounds both.
        """
        with self.lock:
            if len(self._fresh) < 2 or self._first is None:
                return None
            left = self._to_come + sum(each.left for each in self.running.values())
            quick, _, slow = quantiles(self._fresh, n=4, method="inclusive")
            searching = max(time.monotonic() - self._first, 1e-9)
            at_once = max(1.0, len(self.running), sum(self._fresh) / searching)
            bound = (self.study.budget.wall_time or float("inf")) - self.elapsed
            low, high = (min(seconds * left / at_once, bound) for seconds in (quick, slow))
            return max(0.0, low), max(0.0, high)


def summary_lines(progress: StudyProgress) -> list[str]:
    """Where the search stands, in a few lines."""
    study, counts = progress.study, progress.counts
    states = ", ".join(f"{counts[state]} {state.value}" for state in TrialState if counts[state]) or "none ended"
    waiting = f", {len(progress.waiting)} waiting at rungs" if progress.waiting else ""
    front = progress.front
    best = [
        f"best {objective.metric} {metric_text(objective.metric, pick(column))}"
        for objective, column in zip(study.objectives, front.values.T, strict=True)
        if len(column)
        for pick in [max if objective.mode == "max" else min]
    ]
    return [
        f"{trials_text(progress.results, study.budget.trials)} ({states}), {len(progress.running)} running{waiting}",
        "; ".join([f"front {len(front.results)}, hypervolume {front.hypervolume:.3f}", *best]),
        f"elapsed {duration_text(progress.elapsed)}; left {range_text(progress.remaining())}",
    ]
