"""A metric of predictions: the accuracy of the class that fares worst."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from bnnsearch.config.measure import MeasureSettings


class WorstConfig(MeasureSettings):
    """The least, over the classes that are there, of the share of a class that is predicted right."""

    label: ClassVar[str] = "accuracy of the worst class"

    name: Literal["worst"] = "worst"

    def measure(self, predicted: Tensor, labels: Tensor, classes: int) -> float:
        """It."""
        counts = labels.bincount(minlength=classes)
        right = labels[predicted == labels].bincount(minlength=classes)
        return float((right / counts)[counts > 0].min())
