"""Successive halving by promotion: trials wait at their rungs, and the best of a rung go on when a worker is free.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2. A trial that comes early
is compared with all that come later, where the stopping form has to decide at once, with few to compare it to. Beyond
the source, a trial that can no longer be promoted is released, and once nobody else can reach a rung its share is
rounded up, so that a short search ends with a finished trial too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import Rung, SchedulerSettings
from bnnsearch.study.schedulers import ranking, rivals

Waiting = Mapping[int, int]
"""Number of a trial to the epoch of the rung it waits at."""

ToCome = Callable[[int, int], int]
"""How many trials of a bracket may still reach the rung at an epoch, at most: `(epoch, bracket)`."""


class _Contest(NamedTuple):
    """How many of a bracket have reached a rung, and those that were not released, best first."""

    bracket: int
    size: int
    order: list[int]


class Promotion:
    """The choice among the trials that wait.

    Args:
        config: settings of a scheduler that promotes.
        modes: one per objective.
        rungs: epoch to the values of all trials that have reached its rung.
        released: epoch to the numbers of the trials that were released from its rung. They count there, but take
            nobody's place: with several objectives a late arrival may rank others anew.

    Both mappings are read anew for every decision.
    """

    def __init__(
        self,
        config: SchedulerSettings,
        modes: Sequence[Mode],
        rungs: Mapping[int, Rung],
        released: Mapping[int, Collection[int]],
    ) -> None:
        assert config.promotes is not None
        self._config = config
        self._factor = config.promotes
        self._modes = modes
        self._rungs = rungs
        self._released = released
        self._contests: dict[int, tuple[tuple[int, int], list[_Contest]]] = {}

    def next(self, waiting: Waiting, to_come: ToCome) -> int | None:
        """The trial to go on with: of the highest rung that has one to promote, the best."""
        for epoch in sorted(set(waiting.values()), reverse=True):
            for contest in self._at(epoch):
                rounded = math.ceil if to_come(epoch, contest.bracket) == 0 else math.floor
                for number in contest.order[: rounded(contest.size / self._factor)]:
                    if waiting.get(number) == epoch:
                        return number
        return None

    def lost(self, waiting: Waiting, to_come: ToCome) -> list[int]:
        """The waiting trials that would not be promoted even if all that may come were worse than they."""
        return [
            number
            for epoch in sorted(set(waiting.values()))
            for contest in self._at(epoch)
            for number in contest.order[math.ceil((contest.size + to_come(epoch, contest.bracket)) / self._factor) :]
            if waiting.get(number) == epoch
        ]

    def _at(self, epoch: int) -> list[_Contest]:
        """The contests at a rung, one per bracket."""
        rung = self._rungs[epoch]
        state = len(rung), len(self._released.get(epoch, ()))
        if self._contests.get(epoch, (None,))[0] != state:
            groups = rivals(self._config, rung).items()
            self._contests[epoch] = state, [self._contest(epoch, bracket, group) for bracket, group in groups]
        return self._contests[epoch][1]

    def _contest(self, epoch: int, bracket: int, group: Rung) -> _Contest:
        gone = self._released.get(epoch, ())
        left = {number: values for number, values in group.items() if number not in gone}
        return _Contest(bracket, len(group), ranking(left, self._modes))
