"""What a searched setting is drawn from: a number, an ordered pair of numbers, a choice. All bounds are inclusive."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

from bnnsearch.space.prior import Prior
from bnnsearch.space.tree import Scalar, Tree, quoted


class Suggest(Protocol):
    """What draws values; `optuna.Trial` is one."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar: ...


_GOLDEN = (3 - math.sqrt(5)) / 2
"""A share of an interval that no simple fraction hits."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number in [low, high]: `uniform`, `loguniform` and, where `whole`, `randint`, `lograndint`.

    With a step the values are low + k * step; a logarithmic draw is rounded to the nearest of them.
    """

    kind: str
    low: Tree
    high: Tree
    default: Tree
    step: float | None
    log: bool
    whole: bool
    tree: Tree
    prior: Prior | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value."""
        number = int if self.whole else float
        return number(self.low.plain), number(self.high.plain)

    def draw(self, suggest: Suggest, name: str) -> Tree:
        """A value, drawn under `name`."""
        low, high = self.bounds
        if self.whole:
            step = 1 if self.log else int(self.step or 1)
            drawn: float = suggest.suggest_int(name, int(low), int(high), step=step, log=self.log)
        else:
            drawn = suggest.suggest_float(name, low, high, step=None if self.log else self.step, log=self.log)
        return replace(self.tree, value=self.on_grid(drawn))

    def on_grid(self, value: float) -> float:
        """The allowed value nearest to `value`."""
        low, high = self.bounds
        if self.step is None:
            return min(max(value, low), high)
        # Exact arithmetic on the decimals as written: 0.1 + 2 * 0.1 is 0.3, and the last step is `high` itself.
        start, step = _exact(low), _exact(self.step)
        steps = round((_exact(value) - start) / step)
        nearest = start + min(max(steps, 0), self._steps()) * step
        return int(nearest) if self.whole else float(nearest)

    def _steps(self) -> int:
        low, high = self.bounds
        assert self.step is not None
        return int((_exact(high) - _exact(low)) / _exact(self.step))

    def extremes(self) -> tuple[Tree, ...]:
        """Both bounds, the default, and where the values are dense one inside, so that whole numbers are not enough."""
        if self.whole or self.step is not None:
            return self.low, self.high, self.default
        low, high = self.bounds
        return self.low, self.high, self.default, replace(self.tree, value=low + (high - low) * _GOLDEN)

    def parameters(self, name: str, value: Any) -> dict[str, Scalar]:
        """The draw that gives `value`.

        Raises:
            ValueError: no draw gives it.
        """
        low, high = self.bounds
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not low <= value <= high or not math.isclose(self.on_grid(value), value, rel_tol=1e-9):
            raise ValueError(f"{name} must be in {self.describe()}, but got {quoted(value)}")
        return {name: self.on_grid(value)}

    def count(self) -> float:
        """How many values there are; infinite where they are dense."""
        low, high = self.bounds
        if self.step is None:
            return high - low + 1 if self.whole else math.inf
        return self._steps() + 1

    def describe(self) -> str:
        """`loguniform [0.001, 0.03]`, with its step where it has one."""
        low, high = self.bounds
        step = f" step {self.step}" if self.step is not None else ""
        return f"{self.kind} [{low}, {high}]{step}{_believed(self.prior)}"


@dataclass(frozen=True, slots=True)
class Range:
    """An ordered pair lo <= hi of numbers in the same bounds, two draws sorted."""

    bound: Number
    default: Tree
    tree: Tree

    def draw(self, suggest: Suggest, name: str) -> Tree:
        """A pair, drawn under `name.lo` and `name.hi`."""
        pair = (self.bound.draw(suggest, f"{name}.lo"), self.bound.draw(suggest, f"{name}.hi"))
        return replace(self.tree, value=tuple(sorted(pair, key=lambda bound: bound.plain)))

    def extremes(self) -> tuple[Tree, ...]:
        """The widest pair, both narrowest ones at the bounds, and the default."""
        low, high = self.bound.low, self.bound.high
        pairs = ((low, high), (low, low), (high, high))
        return (*(replace(self.tree, value=pair) for pair in pairs), self.default)

    def parameters(self, name: str, value: Any) -> dict[str, Scalar]:
        """The draws that give the pair `value`; raises ValueError where none do."""
        if not isinstance(value, Sequence) or len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"{name} must be an ordered pair, but got {quoted(value)}")
        low, high = value
        return self.bound.parameters(f"{name}.lo", low) | self.bound.parameters(f"{name}.hi", high)

    def count(self) -> float:
        """How many ordered pairs there are."""
        values = self.bound.count()
        return math.inf if math.isinf(values) else int(values) * (int(values) + 1) // 2

    def describe(self) -> str:
        """`range [3, 8] step 1`."""
        return self.bound.describe()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values; any that are not all scalars are drawn by their JSON text."""

    values: tuple[Tree, ...]
    default: Tree
    tree: Tree
    prior: Prior | None = None

    @property
    def categories(self) -> tuple[Scalar, ...]:
        """What is drawn, one for each value."""
        plain = [value.plain for value in self.values]
        if any(isinstance(value, (list, dict)) for value in plain):
            return tuple(json.dumps(value, separators=(",", ":")) for value in plain)
        return tuple(plain)

    def draw(self, suggest: Suggest, name: str) -> Tree:
        """A value, drawn under `name`."""
        categories = self.categories
        return self.values[categories.index(suggest.suggest_categorical(name, categories))]

    def extremes(self) -> tuple[Tree, ...]:
        """Every value."""
        return self.values

    def count(self) -> float:
        """How many values there are."""
        return len(self.values)

    def describe(self) -> str:
        """`choice of 0.5, 1.0, 2.0`."""
        return f"choice of {', '.join(map(str, self.categories))}{_believed(self.prior)}"


Distribution = Number | Range | Choice


def _believed(prior: Prior | None) -> str:
    return "" if prior is None else f", believed near {prior.at}"


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


def steps_divide(low: float, high: float, step: float) -> bool:
    """Whether low + k * step reaches high exactly, in the decimals as written."""
    return ((_exact(high) - _exact(low)) / _exact(step)).denominator == 1
