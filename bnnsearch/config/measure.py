"""Metrics of predictions: numbers that a run reports of its network besides accuracy, because its plan names them.

    plan: {metrics: [macro_f1]}

A member NAME is reported as `val_NAME` with every epoch, and as `test_NAME` at the end, from predictions and labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bnnsearch.config.families import MEASURES, Member, name_of
from bnnsearch.config.metrics import Metric, Mode, define

if TYPE_CHECKING:
    from torch import Tensor


class MeasureSettings(Member):
    """Settings of a metric of predictions.

    Attributes:
        mode: which way is better.
        label: it in words.
    """

    mode: ClassVar[Mode] = "max"
    label: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if name := name_of(cls):
            define(Metric(f"val_{name}", cls.mode, "", cls.label or f"validation {name}", "after"))

    def measure(self, predicted: Tensor, labels: Tensor, classes: int) -> float:
        """The metric of predicted classes, int64 (N,), given the labels, int64 (N,) in [0, classes), on the CPU."""
        return float(self._built(predicted, labels, classes))


class MacroF1Config(MeasureSettings):
    """Mean over the classes of F1, the harmonic mean of precision and recall (sklearn's macro average)."""

    builder: ClassVar[str] = "bnnsearch.core.metrics:macro_f1"
    label: ClassVar[str] = "macro F1"

    name: Literal["macro_f1"] = "macro_f1"


MeasureConfig = Annotated[MeasureSettings, MEASURES]
"""A metric of predictions; its bare name stands for its defaults."""
