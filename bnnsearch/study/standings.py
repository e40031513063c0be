"""The trials at a rung, best first, kept up as trials come and go: the order is that of `schedulers.ranking`.

With two objectives these are the fronts behind one another, each a staircase. A trial that comes takes its place on the
first front that does not dominate it, and what it dominates there moves to the next one, a block of neighbours at a
time; one that goes lets a block move up. Only the front on which a share ends has its spread looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

import numpy as np

from bnnsearch.config.metrics import Mode
from bnnsearch.pareto import crowding_distance, losses
from bnnsearch.study.schedulers import ranking

Row = tuple[int, Sequence[float]]
"""A trial's place in the order of arrival, and its values."""


FEW = 100
"""Waiting trials."""


class _Front:
    """A front of two losses: trials by the first loss, ascending, so that the second one falls."""

    __slots__ = ("first", "numbers", "second")

    def __init__(self) -> None:
        self.first: list[float] = []
        self.second: list[float] = []  # negated, so that it ascends
        self.numbers: list[int] = []

    def part(self, start: int, end: int) -> _Front:
        block = _Front()
        for name in self.__slots__:
            setattr(block, name, getattr(self, name)[start:end])
        return block

    def cut(self, start: int, end: int) -> _Front:
        block = self.part(start, end)
        for name in self.__slots__:
            del getattr(self, name)[start:end]
        return block

    def put(self, place: int, block: _Front) -> None:
        for name in self.__slots__:
            getattr(self, name)[place:place] = getattr(block, name)

    def dominates(self, first: float, second: float) -> bool:
        place = bisect_right(self.first, first) - 1  # of those no worse in the first loss, the best in the second
        if place < 0 or self.second[place] < second:
            return False
        return (self.first[place], self.second[place]) != (first, second)


class Standings:
    """The trials of a bracket at a rung.

    Args:
        modes: one per objective.
    """

    def __init__(self, modes: Sequence[Mode]) -> None:
        self._modes = modes
        self._rows: dict[int, Row] = {}
        self._left: set[int] = set()  # those that may still wait; who has gone on never waits here again
        self._fronts: list[_Front] = []
        self._order: list[tuple[float, int, int]] = []  # of one objective: loss, arrival, number
        self._ranked: list[int] | None = None  # of three or more
        self.size = 0
        """How many have come."""

    def come(self, number: int, values: Sequence[float]) -> None:
        """A trial has come."""
        self._rows[number] = self.size, values
        self._left.add(number)
        self.size += 1
        self._ranked = None
        if len(self._modes) == 1:
            place = self._place(number)
            self._order.insert(bisect_left(self._order, place), place)
        elif len(self._modes) == 2:
            self._insert(number, *self._pair(values))

    def go(self, number: int) -> None:
        """A trial takes nobody's place any more; it still counts."""
        if number not in self._rows:
            return
        if len(self._modes) == 1:
            del self._order[bisect_left(self._order, self._place(number))]
        elif len(self._modes) == 2:
            self._remove(number, *self._pair(self._rows[number][1]))
        del self._rows[number]
        self._left.discard(number)
        self._ranked = None

    def among_best(self, share: int, waiting: Mapping[int, int], epoch: int) -> int | None:
        """The best of those that wait at the rung of `epoch`, where it is one of so many that are best."""
        fronts: set[int] | None = None  # of those that wait, where they are found sooner than by looking through all
        if len(self._modes) == 2 and len(self._left) < FEW:
            left = [each for each in self._left if waiting.get(each) == epoch]
            fronts = {self._level(*self._pair(self._rows[each][1])) for each in left}
        for level, numbers in enumerate(self._levels()):
            if share <= 0:
                break
            if fronts is None or level in fronts:
                if not self._left.isdisjoint(numbers):
                    self._left -= {each for each in self._left.intersection(numbers) if waiting.get(each) != epoch}
                if not self._left.isdisjoint(numbers):
                    for number in self._ordered(numbers)[:share]:
                        if waiting.get(number) == epoch:
                            return number
            share -= len(numbers)
        return None

    def behind(self, share: int) -> list[int]:
        """All but so many that are best, best first."""
        left: list[int] = []
        if share >= len(self._rows):
            return left
        for numbers in self._levels():
            if share < len(numbers):
                left += self._ordered(numbers)[max(share, 0) :]
            share -= len(numbers)
        return left

    def _levels(self) -> Iterator[Sequence[int]]:
        """Groups of trials, the best first; within them `_ordered` says who is better."""
        if len(self._modes) == 2:
            for front in self._fronts:
                yield front.numbers
            return
        if len(self._modes) == 1:
            yield [number for _, _, number in self._order]
            return
        if self._ranked is None:
            self._ranked = ranking({each: values for each, (_, values) in self._rows.items()}, self._modes)
        yield self._ranked

    def _ordered(self, numbers: Sequence[int]) -> Sequence[int]:
        if len(self._modes) != 2:
            return numbers
        if len(numbers) == 1:
            return numbers
        rows = sorted(numbers, key=lambda each: self._rows[each][0])
        values = np.array([self._rows[each][1] for each in rows], dtype=np.float64)
        order = np.lexsort((losses(values, self._modes)[:, 0], -crowding_distance(values)))
        return [rows[row] for row in order]

    def _place(self, number: int) -> tuple[float, int, int]:
        arrival, values = self._rows[number]
        return float(losses([values], self._modes)[0, 0]), arrival, number

    def _pair(self, values: Sequence[float]) -> tuple[float, float]:
        """The first loss, and the second one negated."""
        first, second = losses([values], self._modes)[0].tolist()
        return first, -second

    def _level(self, first: float, second: float) -> int:
        """The first front that does not dominate these: what a front dominates, all better ones do."""
        low, high = 0, len(self._fronts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._fronts[middle].dominates(first, second) else (low, middle)
        return low

    def _insert(self, number: int, first: float, second: float) -> None:
        level = self._level(first, second)
        block = _Front()
        block.first, block.second, block.numbers = [first], [second], [number]
        if level < len(self._fronts):
            front = self._fronts[level]
            place = bisect_left(front.first, first)
            if place < len(front.first) and (front.first[place], front.second[place]) == (first, second):
                front.put(place, block)  # equals dominate neither each other nor another's victims anew
                return
        for front in self._fronts[level:]:
            start = bisect_left(front.first, block.first[0])
            pushed = front.cut(start, max(start, bisect_right(front.second, block.second[-1])))
            front.put(start, block)
            if not pushed.numbers:
                return
            block = pushed
        self._fronts.append(block)

    def _remove(self, number: int, first: float, second: float) -> None:
        fronts = self._fronts[self._level(first, second) :]
        start = fronts[0].numbers.index(number, bisect_left(fronts[0].first, first))
        end = start + 1
        for front, below in zip_longest(fronts, fronts[1:]):
            front.cut(start, end)
            if below is None:
                break
            above = bisect_right(below.second, front.second[start - 1]) if start else 0
            beyond = bisect_left(below.first, front.first[start]) if start < len(front.first) else len(below.first)
            if above >= beyond:
                break
            front.put(start, below.part(above, beyond))
            start, end = above, beyond
        if not self._fronts[-1].numbers:
            self._fronts.pop()
