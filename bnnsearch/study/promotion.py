"""Successive halving by promotion: trials wait at their rungs, and the best of a rung go on when a worker is free.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020, algorithm 2. A trial that comes early
is compared with all that come later, where the stopping form has to decide at once, with few to compare it to. Beyond
the source, a trial that can no longer be promoted is released, and once nobody else can reach a rung its share is
rounded up, so that a short search ends with a finished trial too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import Rung, SchedulerSettings
from bnnsearch.study.standings import Standings

Waiting = Mapping[int, int]
"""Number of a trial to the epoch of the rung it waits at."""

ToCome = Callable[[int, int], int]
"""How many trials of a bracket may still reach the rung at an epoch, at most: `(epoch, bracket)`."""


class Promotion:
    """The choice among the trials that wait.

    Args:
        config: settings of a scheduler that promotes.
        modes: one per objective.
        rungs: epoch to the values of all trials that have reached its rung.
        released: epoch to the numbers of the trials that were released from its rung. They count there, but take
            nobody's place: with several objectives a late arrival may rank others anew.

    Both mappings only grow; every decision takes in what is new in them.
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
        self._contests: dict[int, dict[int, Standings]] = {}
        self._gone: dict[int, set[int]] = {}

    def next(self, waiting: Waiting, to_come: ToCome) -> int | None:
        """The trial to go on with: of the highest rung that has one to promote, the best."""
        for epoch in sorted(self._rungs, reverse=True):
            for bracket, contest in self._at(epoch).items():
                rounded = math.ceil if to_come(epoch, bracket) == 0 else math.floor
                number = contest.among_best(rounded(contest.size / self._factor), waiting, epoch)
                if number is not None:
                    return number
        return None

    def lost(self, waiting: Waiting, to_come: ToCome) -> list[int]:
        """The waiting trials that would not be promoted even if all that may come were worse than they."""
        return [
            number
            for epoch in sorted(self._rungs)
            for bracket, contest in self._at(epoch).items()
            for number in contest.behind(math.ceil((contest.size + to_come(epoch, bracket)) / self._factor))
            if waiting.get(number) == epoch
        ]

    def _at(self, epoch: int) -> dict[int, Standings]:
        """The contests at a rung, by bracket, with what has come and gone since they were last looked at."""
        rung, contests = self._rungs[epoch], self._contests.setdefault(epoch, {})
        new = len(rung) - sum(contest.size for contest in contests.values())
        for number, values in islice(rung.items(), len(rung) - new, None) if new else ():
            contests.setdefault(self._config.bracket(number), Standings(self._modes)).come(number, values)
        released, gone = self._released.get(epoch, ()), self._gone.setdefault(epoch, set())
        if len(released) != len(gone):
            for number in set(released) - gone:
                gone.add(number)
                if number in rung:
                    contests[self._config.bracket(number)].go(number)
        return contests
