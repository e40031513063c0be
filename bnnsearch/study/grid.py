"""Every configuration of a space, conditional parameters included, by trying all answers to what the space asks."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from bnnsearch.space import SearchSpace

LIMIT = 1_000_000


def grid_points(space: SearchSpace, *, points: int, seed: int) -> list[dict[str, Any]]:
    """Parameters of each distinct allowed configuration once, dotted name to value, in an order that `seed` decides.

    Args:
        space: what is searched.
        points: values of a number without step.
        seed: of the order.

    Raises:
        ValueError: there are more than a million.
    """
    found: dict[str, dict[str, Any]] = {}
    for params, config in _every_answer(space, points):
        if space.allows(config):
            found.setdefault(json.dumps(config, sort_keys=True), params)
        if len(found) > LIMIT:
            raise ValueError(f"a grid has at most {LIMIT} configurations, but this space has more")
    order = list(found.values())
    random.Random(seed).shuffle(order)
    return order


def _every_answer(space: SearchSpace, points: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Counts through the answers as an odometer: the last question's answers change fastest."""
    answers: list[int] = []
    while True:
        asked = _Odometer(answers, points)
        config = space.sample(asked)
        yield asked.params, config
        answers = asked.answers
        while answers and answers[-1] + 1 == asked.choices[len(answers) - 1]:
            answers.pop()
        if not answers:
            return
        answers[-1] += 1


class _Odometer:
    """Suggests given answers, then first ones; notes what was answered and how many answers there were."""

    def __init__(self, answers: Sequence[int], points: int) -> None:
        self._given = answers
        self._points = points
        self.answers: list[int] = []
        self.choices: list[int] = []
        self.params: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is not None:
            steps = math.floor((high - low) / step + 1e-9)
            return float(self._answer(name, [low + place * step for place in range(steps + 1)]))
        return float(self._answer(name, _spread(low, high, self._points, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if log:
            return int(self._answer(name, sorted({round(each) for each in _spread(low, high, self._points, log=True)})))
        return int(self._answer(name, range(low, high + 1, step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(name, choices)

    def _answer(self, name: str, values: Sequence[Any]) -> Any:
        place = len(self.answers)
        answer = self._given[place] if place < len(self._given) else 0
        self.answers.append(answer)
        self.choices.append(len(values))
        self.params[name] = values[answer]
        return values[answer]


def _spread(low: float, high: float, points: int, *, log: bool) -> list[float]:
    """`points` values from `low` to `high`, evenly spaced, or their logarithms are."""
    if low == high:
        return [low]
    shares = [place / (points - 1) for place in range(points)]
    inner = [low * (high / low) ** share if log else low + (high - low) * share for share in shares[1:-1]]
    return [low, *inner, high]
