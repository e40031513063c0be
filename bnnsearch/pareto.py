"""The Pareto front: dominance, ranks, spread, hypervolume, knee; pure array functions, then the front of a study.

Arrays of objective values are (n, m): n trials, m objectives. Inside, every objective is turned into a loss, smaller is
better: a dominates b where a <= b in every loss and a < b in one. Equal rows do not dominate each other, so exact ties
stay on the front together.
"""

from __future__ import annotations

import operator
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from operator import attrgetter
from statistics import fmean
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnnsearch.config.metrics import METRICS, Mode
from bnnsearch.config.study import Objective
from bnnsearch.errors import InputError
from bnnsearch.results import Spread, TrialResult, TrialState

Array = NDArray[np.float64]

MARGIN = 0.1
"""How far the reference point lies beyond the worst value seen, as a share of the range seen."""

NOISE = 2
"""Standard errors up to which two means differ by noise alone."""

REFERENCE_TRIALS = 10
"""How many finished trials fix the box that a study's hypervolume is measured in: about a search's random start."""


def losses(values: ArrayLike, modes: Sequence[Mode]) -> Array:
    """Values (n, m) with maximised columns negated, so that smaller is better everywhere.

    Raises:
        ValueError: the shape does not fit the modes, or a value is not finite.
    """
    table = np.array(values, dtype=np.float64)
    if table.size == 0:
        table = table.reshape(0, len(modes))
    if table.ndim != 2 or table.shape[1] != len(modes):
        raise ValueError(f"values must have shape (n, {len(modes)}), one column per mode, but got {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError(f"objective values must be finite, but row {np.argwhere(~np.isfinite(table))[0, 0]} is not")
    table[:, [mode == "max" for mode in modes]] *= -1
    return table


def dominates(first: ArrayLike, second: ArrayLike, modes: Sequence[Mode]) -> bool:
    """Whether `first` is at least as good as `second` in every objective and better in one."""
    a, b = losses(np.stack([np.asarray(first), np.asarray(second)]), modes)
    return bool((a <= b).all() and (a < b).any())


def _nondominated(table: Array) -> NDArray[np.bool_]:
    """Mask of the rows of the losses `table` that no row dominates."""
    # in lexicographic order no row dominates an earlier one, so each survivor need only look at those behind it
    order = np.lexsort(table.T[::-1])
    kept: list[int] = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(first)
        ahead = (table[rest] < table[first]).any(axis=1)
        order = rest[ahead | (table[rest] == table[first]).all(axis=1)]
    mask = np.zeros(len(table), dtype=np.bool_)
    mask[kept] = True
    return mask


def nondominated_ranks(values: ArrayLike, modes: Sequence[Mode]) -> NDArray[np.int64]:
    """Rank (n,) of every row: 0 on the front, 1 on the front of what is left without it, and so on.

    Source: non-dominated sorting, Deb et al., "NSGA-II", 2002. One or two objectives take n log n steps.
    """
    table = losses(values, modes)
    if table.shape[1] <= 2:
        return _ranks_of_pairs(table[:, 0], table[:, -1])
    ranks = np.full(len(table), -1, dtype=np.int64)
    rank = 0
    while (left := np.flatnonzero(ranks < 0)).size:
        ranks[left[_nondominated(table[left])]] = rank
        rank += 1
    return ranks


def _ranks_of_pairs(first: Array, second: Array) -> NDArray[np.int64]:
    """Ranks of rows with one or two losses: a row is behind every front that has come as low in the second loss.

    Of the rows before it in lexicographic order only those can dominate it, and the lowest of each front tells.
    """
    order = np.lexsort((second, first))
    pairs = list(zip(first[order].tolist(), second[order].tolist(), strict=True))
    lowest: list[float] = []  # of each front, ascending
    ranks: list[int] = []
    for place, pair in enumerate(pairs):
        if place and pair == pairs[place - 1]:
            ranks.append(ranks[-1])
            continue
        ranks.append(bisect_right(lowest, pair[1]))
        lowest[ranks[-1] : ranks[-1] + 1] = [pair[1]]
    found = np.empty(len(order), dtype=np.int64)
    found[order] = ranks
    return found


def crowding_distance(values: ArrayLike, ranks: ArrayLike | None = None) -> Array:
    """Distance (n,) of each row to its neighbours, summed over objectives scaled to [0, 1]; inf at both ends.

    Larger is lonelier. Neighbours are those of one rank, of all rows where no `ranks` (n,) are given. An objective in
    which all of a rank are equal adds nothing.
    Source: Deb et al., "NSGA-II", 2002, section III-B.
    """
    table = np.asarray(values, dtype=np.float64)
    groups = np.zeros(len(table), dtype=np.int64) if ranks is None else np.asarray(ranks)
    distance = np.zeros(len(table))
    if not len(table):
        return distance
    for column in table.T:
        order = np.lexsort((column, groups))
        ordered = column[order]
        starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
        ends = np.append(starts[1:], len(table)) - 1
        spans = np.repeat(ordered[ends] - ordered[starts], ends - starts + 1)
        inner = spans > 0
        at_end = inner.copy()
        inner[starts] = inner[ends] = False
        places = np.flatnonzero(inner)
        distance[order[places]] += (ordered[places + 1] - ordered[places - 1]) / spans[places]
        at_end &= ~inner
        distance[order[at_end]] = np.inf
    return distance


def reference_point(values: ArrayLike, modes: Sequence[Mode]) -> Array:
    """Where hypervolume is measured from: the worst value of each objective, moved outward by a tenth of its range.

    An objective whose values are all equal is moved by a tenth of its size, or by .1 where that is 0, so that every row
    encloses a volume.

    Args:
        values: (n, m), n >= 1: all results that count, dominated ones included.
        modes: one per objective.

    Returns:
        (m,), in the units of `values`.
    """
    table = losses(values, modes)
    if not len(table):
        raise ValueError("a reference point needs at least one result")
    signs = np.array([-1.0 if mode == "max" else 1.0 for mode in modes])
    return np.asarray(signs * _box_of_losses(table)[0])


def _box_of_losses(table: Array) -> tuple[Array, float]:
    """Reference point of losses (n, m), n >= 1, as a loss, and the volume between it and their ideal point."""
    worst, ideal = table.max(axis=0), table.min(axis=0)
    span = worst - ideal
    span = np.where(span > 0, span, np.where(worst == 0, 1.0, np.abs(worst)))
    origin = worst + MARGIN * span
    return origin, float(np.prod(origin - ideal))


def hypervolume_series(values: ArrayLike, modes: Sequence[Mode], reference: ArrayLike) -> Array:
    """Hypervolume (n,) after the first 1, 2, ... n rows: the volume they dominate, up to `reference`. Never falls.

    Exact; each row adds what it alone dominates: its box, less what the earlier rows dominate of that box
    (While et al., "A fast way of calculating exact hypervolumes", 2012). Rows not better than the reference in every
    objective add nothing.
    """
    table = losses(values, modes)
    origin = losses(np.atleast_2d(reference), modes)[0]
    steps = accumulate(table, partial(_grown, origin=origin), initial=(table[:0], 0.0))
    return np.array([volume for _, volume in steps][1:])


def _grown(before: tuple[Array, float], row: Array, *, origin: Array) -> tuple[Array, float]:
    """Losses of a front, and its volume up to `origin`, with one more row; the same pair where it adds nothing."""
    front, volume = before
    if not (row < origin).all() or (front <= row).all(axis=1).any():
        return before
    volume += _exclusive_volume(row, front, origin)
    return np.vstack([front[(front < row).any(axis=1)], row]), volume


class GrowingVolume:
    """The hypervolume after each of a study's candidates in the order of their numbers, kept up as they finish.

    What `ParetoFront.hypervolume_series` has of all of them, to the last bit, without reading them all again: one that
    finishes late takes its place among the later ones, which are looked at again only if it adds to those before it.

    Args:
        modes: one per objective.
    """

    def __init__(self, modes: Sequence[Mode]) -> None:
        self._modes = modes
        self._numbers: list[int] = []
        self._rows: list[Array] = []
        self._steps: list[tuple[Array, float]] = []
        self._origin = np.zeros(0)
        self._box = 1.0

    def add(self, number: int, values: ArrayLike) -> None:
        """A candidate has finished with `values` (m,)."""
        place = bisect_left(self._numbers, number)
        self._numbers.insert(place, number)
        self._rows.insert(place, losses(np.atleast_2d(values), self._modes)[0])
        if place < REFERENCE_TRIALS:
            first = np.array(self._rows[:REFERENCE_TRIALS])
            self._origin, self._box = _box_of_losses(first)
            self._replay(0)
            return
        before = self._steps[place - 1]
        after = _grown(before, self._rows[place], origin=self._origin)
        if after is before:
            self._steps.insert(place, before)
        else:
            self._replay(place)

    def _replay(self, place: int) -> None:
        start = self._steps[place - 1] if place else (np.zeros((0, len(self._modes))), 0.0)
        grown = partial(_grown, origin=self._origin)
        self._steps[place:] = list(accumulate(self._rows[place:], grown, initial=start))[1:]

    def __len__(self) -> int:
        return len(self._numbers)

    def after(self, candidates: int) -> float:
        """The hypervolume after so many candidates, at least one; 1 is the box of the first ten."""
        return self._steps[candidates - 1][1] / self._box


class GrowingFront:
    """The front of a study's candidates, kept up as they finish: what dominates anything, dominates it from there.

    Args:
        modes: one per objective.
    """

    def __init__(self, modes: Sequence[Mode]) -> None:
        self._modes = modes
        self._table = np.zeros((0, len(modes)))
        self._numbers = np.zeros(0, dtype=np.int64)
        self.best: list[float] = []
        """The best value of each objective; empty before the first candidate."""

    def add(self, number: int, values: Sequence[float]) -> None:
        """A candidate has finished with `values` (m,)."""
        row = losses(np.atleast_2d(values), self._modes)[0]
        known = zip(self.best or values, values, self._modes, strict=True)
        self.best = [max(best, value) if mode == "max" else min(best, value) for best, value, mode in known]
        if _dominating(self._table, row).any():
            return
        kept = ~_dominating(-self._table, -row)  # what the new one does not dominate
        self._table = np.vstack([self._table[kept], row])
        self._numbers = np.append(self._numbers[kept], number)

    def dominator(self, values: Sequence[float]) -> int | None:
        """The first candidate on the front that dominates `values` (m,)."""
        numbers = self._numbers[_dominating(self._table, losses(np.atleast_2d(values), self._modes)[0])]
        return int(numbers.min()) if len(numbers) else None


def _dominating(table: Array, row: Array) -> NDArray[np.bool_]:
    """Mask of the rows of the losses `table` that dominate `row`."""
    return np.asarray((table <= row).all(axis=1) & (table < row).any(axis=1))


def hypervolume(values: ArrayLike, modes: Sequence[Mode], reference: ArrayLike) -> float:
    """The volume that the rows dominate, up to `reference`; exact, in the product of the objectives' units."""
    table = losses(values, modes)
    origin = losses(np.atleast_2d(reference), modes)[0]
    return _volume(table[(table < origin).all(axis=1)], origin)


def _exclusive_volume(row: Array, others: Array, origin: Array) -> float:
    """What `row` dominates up to `origin` and none of `others` does."""
    return float(np.prod(origin - row)) - _volume(np.maximum(others, row), origin)


def _volume(table: Array, origin: Array) -> float:
    front = np.unique(table[_nondominated(table)], axis=0)  # sorted by the first loss
    if not len(front):
        return 0.0
    if table.shape[1] == 1:
        return float(origin[0] - front[0, 0])
    if table.shape[1] == 2:  # a staircase: the second loss falls as the first rises
        ceilings = np.concatenate([origin[1:], front[:-1, 1]])
        return float(((origin[0] - front[:, 0]) * (ceilings - front[:, 1])).sum())
    return sum(_exclusive_volume(row, front[index + 1 :], origin) for index, row in enumerate(front))


def knee(values: ArrayLike, modes: Sequence[Mode]) -> int:
    """Row of the best compromise: nearest to the ideal point after scaling each objective to [0, 1] over the rows.

    The ideal has the best value of every objective. Ties go to the better first objective, then the second, and so on,
    then to the earlier row.
    """
    table = losses(values, modes)
    if not len(table):
        raise ValueError("an empty front has no knee")
    best, worst = table.min(axis=0), table.max(axis=0)
    scaled = (table - best) / np.where(worst > best, worst - best, 1.0)
    distance = np.round(np.linalg.norm(scaled, axis=1), 12)  # rounding noise must not decide ties
    return int(np.lexsort([*table.T[::-1], distance])[0])


_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_STRICTLY_OUTSIDE = 1e-12  # a value on the bound of < or > is outside, by no distance


@dataclass(frozen=True, slots=True)
class Limit:
    """A wish about one metric, such as `memory_bytes<=20000`."""

    metric: str
    sign: Literal["<=", ">=", "<", ">"]
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `metric<=number`, with <=, >=, < or >.

        Raises:
            InputError: the text is something else.
        """
        parts = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
        try:
            if parts is None:
                raise ValueError
            bound = float(parts[3])
        except ValueError:
            raise InputError(
                f"a limit is a metric, one of <=, >=, <, >, and a number, such as memory_bytes<=20000, but got {text!r}"
            ) from None
        return cls(parts[1], parts[2], bound)  # type: ignore[arg-type]  # the pattern allows nothing else

    def excess(self, value: float) -> float:
        """How far `value` lies outside, as a share of the bound; 0 exactly where the limit holds."""
        if _COMPARE[self.sign](value, self.bound):
            return 0.0
        return abs(value - self.bound) / (abs(self.bound) or 1.0) + _STRICTLY_OUTSIDE

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.bound:g}"


def mode_of(metric: str, objectives: Sequence[Objective]) -> Mode:
    """Which way a metric is better: by the objectives or the table of metrics; else accuracies up, losses down."""
    for objective in objectives:
        if objective.metric == metric:
            return objective.mode
    if metric in METRICS:
        return METRICS[metric].mode
    return "max" if metric.endswith("_acc") else "min"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A trial that was trained again with other seeds.

    Attributes:
        seeds: how many runs with other seeds came to their end.
        deviation: standard deviation of each metric over them; none of a single one.
    """

    seeds: int
    deviation: Mapping[str, float]


@dataclass(frozen=True)
class ParetoFront:
    """The trials that no other finished, feasible trial dominates.

    A trial that others confirm stands with the means over those, its own seed left out: the best of many trials owes
    part of its value to luck. Those others are no points of their own.

    Attributes:
        objectives: what is traded off; their order breaks ties.
        candidates: every trial that may be selected, by number.
        results: those of them on the front, the best of the first objective first.
        confirmed: what is to be said of the candidates that are means, by number.
    """

    objectives: tuple[Objective, ...]
    candidates: tuple[TrialResult, ...]
    results: tuple[TrialResult, ...]
    confirmed: Mapping[int, Confirmed]

    @classmethod
    def of(cls, results: Sequence[TrialResult], objectives: Sequence[Objective]) -> Self:
        """The front of the finished, feasible trials among `results`.

        Raises:
            ValueError: a finished trial lacks an objective, or its value is not finite.
        """
        repeats: dict[int, list[TrialResult]] = {}
        for result in results:
            if result.confirms is not None and result.state is TrialState.COMPLETE:
                repeats.setdefault(result.confirms, []).append(result)
        confirmed: dict[int, Confirmed] = {}
        found = []
        for result in sorted(results, key=lambda each: each.number):
            if result.number in repeats and result.confirms is None and result.state is TrialState.COMPLETE:
                runs = repeats[result.number]
                spread = Spread.over([run.metrics for run in runs])
                deviation = {name: each.deviation for name, each in spread.items() if each.deviation is not None}
                confirmed[result.number] = Confirmed(len(runs), deviation)
                found.append(_mean(result, runs, spread))
            else:
                found.append(result)
        candidates = tuple(result for result in found if result.selectable)
        return cls(tuple(objectives), candidates, _best_first(candidates, objectives), confirmed)

    def grown(self, result: TrialResult) -> Self:
        """The front with one more ended trial, which confirms none; what is off the front is not looked at again."""
        if not result.selectable:
            return self
        number = attrgetter("number")
        candidates = list(self.candidates)
        insort(candidates, result, key=number)
        results = _best_first(sorted([*self.results, result], key=number), self.objectives)
        return type(self)(self.objectives, tuple(candidates), results, self.confirmed)

    def deviation(self, number: int, metric: str) -> float | None:
        """A candidate's standard deviation over the other seeds; None where they are fewer than 2, or all the same."""
        confirmed = self.confirmed.get(number)
        return confirmed.deviation.get(metric) or None if confirmed else None

    @cached_property
    def noise(self) -> tuple[str, ...]:
        """A sentence for each trial on the front that stands there beside another by noise alone.

        The other is better in one objective and worse in none, where differences of two means up to `NOISE` of their
        standard errors count for none. Only trials with two other seeds or more can tell.
        """
        known = [row for row, each in enumerate(self.results) if self._seeds(each.number) > 1]
        if len(known) < 2:
            return ()
        table = losses(self.values, self.modes)
        variance = np.array([self._variances(self.results[row].number) for row in range(len(table))])
        said = []
        for row in known:
            for other in known:
                error = NOISE * np.sqrt(variance[row] + variance[other])
                behind = table[row] - table[other]
                if (behind >= -error).all() and (behind > error).any():
                    said.append(
                        f"trial {self.results[row].number} is on the front by noise alone: within {NOISE} "
                        f"standard errors nothing speaks for it against trial {self.results[other].number}"
                    )
                    break
        return tuple(said)

    def _seeds(self, number: int) -> int:
        confirmed = self.confirmed.get(number)
        return confirmed.seeds if confirmed else 0

    def _variances(self, number: int) -> list[float]:
        """Squared standard error of each objective's mean, as far as it is known."""
        deviations = [self.deviation(number, each.metric) or 0.0 for each in self.objectives]
        return [each**2 / max(self._seeds(number), 1) for each in deviations]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The mode of each objective."""
        return _modes(self.objectives)

    @cached_property
    def values(self) -> Array:
        """Objective values (n, m) of `results`."""
        return _values(self.results, self.objectives)

    @cached_property
    def numbers(self) -> frozenset[int]:
        """Numbers of the trials on the front."""
        return frozenset(result.number for result in self.results)

    @cached_property
    def _box(self) -> tuple[Array, float]:
        """Reference point and volume of the box that hypervolume is measured in; see `hypervolume`."""
        values = _values(self.candidates[:REFERENCE_TRIALS], self.objectives)
        reference = reference_point(values, self.modes)
        sides = losses(np.atleast_2d(reference), self.modes)[0] - losses(values, self.modes).min(axis=0)
        return reference, float(np.prod(sides))

    @cached_property
    def hypervolume(self) -> float:
        """How much the front dominates; 1 is the box between ideal and reference point of the first ten candidates.

        From the tenth candidate on the box stands, so the number never falls while a search goes on, until it confirms
        its front: means are worse than what was selected for being good. It compares fronts of one study only.
        """
        if not self.results:
            return 0.0
        reference, box = self._box
        return hypervolume(self.values, self.modes, reference) / box

    def hypervolume_series(self) -> Array:
        """The hypervolume (n,) after each of the candidates, in the same box."""
        if not self.candidates:
            return np.zeros(0)
        reference, box = self._box
        return np.asarray(hypervolume_series(_values(self.candidates, self.objectives), self.modes, reference) / box)

    @property
    def knee(self) -> TrialResult:
        """The best compromise on the front."""
        return self.results[knee(self.values, self.modes)]

    def select(
        self, by: Literal["knee", "best"] = "knee", *, metric: str | None = None, where: Sequence[Limit] = ()
    ) -> TrialResult:
        """One trial: of those within all limits, the knee of their front or the best in one metric.

        Trials off the front take part: under a limit on a metric that is no objective, one of them can be the best.

        Args:
            by: `knee`, or `best` in `metric`.
            metric: any recorded metric; the first objective's where None. Only for `best`.
            where: limits that must all hold.

        Raises:
            InputError: nothing has finished, no trial is within the limits (the nearest is named), or nothing recorded
                a metric of that name.
        """
        if not self.candidates:
            raise InputError("there is nothing to select: no trial has finished within the constraints")
        metric = metric or self.objectives[0].metric
        for name in [metric, *(limit.metric for limit in where)]:
            self._require_metric(name)
        within = [result for result in self.candidates if not _excess(result, where)]
        if not within:
            raise InputError(self._nearest(where))
        inner = ParetoFront.of(within, self.objectives)
        if by == "knee":
            return inner.knee
        measured = [result for result in within if metric in result.metrics]
        sign = -1.0 if mode_of(metric, self.objectives) == "max" else 1.0
        ties = losses(_values(measured, self.objectives), self.modes)
        best = min(range(len(measured)), key=lambda row: (sign * measured[row].metrics[metric], *ties[row]))
        return measured[best]

    def _require_metric(self, metric: str) -> None:
        known = sorted({name for result in self.candidates for name in result.metrics})
        if metric not in known:
            raise InputError(f"no finished trial has the metric {metric!r}; recorded are {', '.join(known)}")

    def _nearest(self, where: Sequence[Limit]) -> str:
        nearest = min(self.candidates, key=lambda result: (_excess(result, where), result.number))
        names = dict.fromkeys([*(limit.metric for limit in where), *(each.metric for each in self.objectives)])
        values = ", ".join(f"{name}={nearest.metrics[name]:g}" for name in names if name in nearest.metrics)
        wishes = " and ".join(str(limit) for limit in where)
        return f"no finished trial has {wishes}; the nearest is trial {nearest.number} with {values}"


def _mean(result: TrialResult, runs: Sequence[TrialResult], spread: Mapping[str, Spread]) -> TrialResult:
    """The trial with the means over `runs`; the mean violation is that of the mean, for it is linear."""
    violations = {
        name: fmean(run.violations[name] for run in runs if name in run.violations) for name in result.violations
    }
    metrics = {**result.metrics, **{name: each.mean for name, each in spread.items()}}
    return replace(result, metrics=metrics, violations=violations)


def _best_first(candidates: Sequence[TrialResult], objectives: Sequence[Objective]) -> tuple[TrialResult, ...]:
    """The front of candidates that stand by number, the best of the first objective first."""
    table = losses(_values(candidates, objectives), _modes(objectives))
    order = np.lexsort([np.arange(len(table)), *table.T[::-1]])
    front = _nondominated(table)
    return tuple(candidates[row] for row in order if front[row])


def _excess(result: TrialResult, where: Sequence[Limit]) -> float:
    return sum(
        limit.excess(result.metrics[limit.metric]) if limit.metric in result.metrics else np.inf for limit in where
    )


def _modes(objectives: Sequence[Objective]) -> tuple[Mode, ...]:
    return tuple(objective.mode for objective in objectives)


def _values(results: Sequence[TrialResult], objectives: Sequence[Objective]) -> Array:
    for result in results:
        for objective in objectives:
            if objective.metric not in result.metrics:
                raise ValueError(f"trial {result.number} is complete but has no {objective.metric}")
    rows = [[result.metrics[objective.metric] for objective in objectives] for result in results]
    return np.array(rows, dtype=np.float64).reshape(len(results), len(objectives))
