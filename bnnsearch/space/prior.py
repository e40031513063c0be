"""`prior:` on a leaf: where an expert believes the best value to lie, and how sure they are.

    lr: {type: loguniform, min: 1.0e-4, max: 1.0, prior: 0.01}
    width: {type: choice, values: [0.5, 1.0, 2.0], prior: {at: 1.0, confidence: high}}

A number is drawn from a normal distribution around `at`, cut off at the bounds, on the scale that it is searched on; a
choice is `at` with the probability that the confidence gives it, else one of the others (as in Mallik et al.,
"PriorBand", 2023). How often a search draws by it, `bnnsearch.study.believing` says.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bnnsearch.space.tree import Scalar

Confidence = Literal["low", "medium", "high"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)

_DEVIATION = {"low": 0.25, "medium": 0.12, "high": 0.05}  # of the width of the scale
_PROBABILITY = {"low": 0.5, "medium": 0.7, "high": 0.9}


@dataclass(frozen=True, slots=True)
class Prior:
    """A belief about one parameter.

    Attributes:
        at: where its best value is believed to lie, as it is drawn.
        confidence: how sure that is.
    """

    at: Scalar
    confidence: Confidence = "medium"

    def number(self, generator: random.Random, low: float, high: float, *, log: bool) -> float:
        """A number in [low, high], which bounds that are drawn themselves may have moved away from `at`."""
        assert isinstance(self.at, int | float)
        if low == high:
            return low
        bottom, top, middle = (math.log(each) if log else each for each in (low, high, self.at))
        middle = min(max(middle, bottom), top)
        while True:
            drawn = generator.gauss(middle, _DEVIATION[self.confidence] * (top - bottom))
            if bottom <= drawn <= top:
                return min(max(math.exp(drawn) if log else drawn, low), high)

    def choice(self, generator: random.Random, values: Sequence[Scalar]) -> Scalar:
        """One of `values`, of which `at` may not be one any more."""
        others = [value for value in values if value != self.at]
        if len(others) < len(values) and (not others or generator.random() < _PROBABILITY[self.confidence]):
            return self.at
        return generator.choice(others)
