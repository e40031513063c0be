"""The state of a running search, kept from its events: counts, front, hypervolume, best, time left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles
from threading import RLock
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import StudyObserver, TrialResult, TrialState


@dataclass(frozen=True, slots=True)
class Running:
    """A trial under way: its epochs so far and its last validation accuracy."""

    epoch: int = 0
    epochs: int | None = None
    val_acc: float | None = None


class StudyProgress(StudyObserver):
    """A `StudyObserver` that only keeps count; views read it from another thread under `lock`."""

    def __init__(self, study: StudyConfig, finished: list[TrialResult] | None = None) -> None:
        self.study = study
        self.lock = RLock()
        self.results: list[TrialResult] = list(finished or [])
        self.running: dict[int, Running] = {}
        self.waiting: set[int] = set()
        self.front = ParetoFront.of(self.results, study.objectives)
        self._began = time.monotonic()
        self._fresh: list[float] = []

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:  # noqa: ARG002
        with self.lock:
            self.waiting.discard(number)
            self.running[number] = Running()

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        with self.lock:
            self.running[number] = Running(metrics.epoch, metrics.epochs, metrics.values.get("val_acc"))

    def trial_waits(self, number: int) -> None:
        with self.lock:
            self.running.pop(number, None)
            self.waiting.add(number)

    def trial_finished(self, result: TrialResult) -> None:
        with self.lock:
            self.running.pop(result.number, None)
            self.waiting.discard(result.number)
            self.results.append(result)
            self._fresh.append(result.seconds)
            if result.state is TrialState.COMPLETE:
                self.front = ParetoFront.of(self.results, self.study.objectives)

    @property
    def counts(self) -> Counter[TrialState]:
        """Ended trials by state."""
        return Counter(result.state for result in self.results)

    @property
    def elapsed(self) -> float:
        """Seconds since this process began to search."""
        return time.monotonic() - self._began

    def remaining(self) -> tuple[float, float] | None:
        """Seconds left as a range, from the spread of the trials that ended; None before two have.

        The low end takes every trial still to come as short as the quickest quarter, the high end as long as the
        slowest quarter; the wall-time budget bounds both.
        """
        with self.lock:
            left = self.study.budget.trials - sum(result.confirms is None for result in self.results)
            if len(self._fresh) < 2 or left < 0:
                return None
            quick, _, slow = quantiles(self._fresh, n=4, method="inclusive")
            at_once = max(1.0, sum(self._fresh) / self.elapsed)
            bound = (self.study.budget.wall_time or float("inf")) - self.elapsed
            low, high = (min(seconds * left / at_once, bound) for seconds in (quick, slow))
            return max(0.0, low), max(0.0, high)
