"""A gradient method: weights tanh(beta w) that harden, for beta rises linearly from 1 to `sharpness`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import GradualMethod
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.methods.base import Progress, Seen, after_step, clip_
from bnnsearch.core.optimizers import binary_optimizer


class TanhConfig(GradualMethod):
    """Weights tanh(beta w).

    Attributes:
        sharpness: beta at the end.
    """

    builder: ClassVar[str] = "Tanh"

    name: Literal["tanh"] = "tanh"
    sharpness: Annotated[float, Field(ge=1, le=1000)] = 20.0


class Tanh:
    """Soft signs."""

    seen: Seen = "mapped"
    rate_name = "lr"

    def __init__(self, config: TanhConfig, optimizer: OptimizerSettings) -> None:
        self._config = config
        self._optimizer = optimizer
        self._beta = 1.0

    def start(self, weights: Sequence[Parameter]) -> None:
        """The method begins with these weights."""
        clip_(weights)

    def view(self, weight: Tensor) -> Tensor:
        """What the forward pass sees."""
        return (self._beta * weight).tanh()

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        """What moves them."""
        return after_step(binary_optimizer(self._optimizer, weights), lambda: clip_(weights))

    def anneal(self, progress: Progress) -> None:
        """A function of the progress alone: an interrupted run goes on as if it had not been."""
        self._beta = 1 + (self._config.sharpness - 1) * progress.fraction

    def state(self) -> dict[str, float]:
        """Recorded and drawn."""
        return {"beta": self._beta}
