"""Real weights in [-1, 1], and weights frozen at +-1: the first and the last phase of gradual methods.

BNEW paper, section 4.3: pretraining projects the weights onto [-1, 1] after every step, so that nothing is lost when
the next phase begins; fine-tuning projects them onto {-1, +1} and moves only the real-valued parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import sign
from bnnsearch.core.methods.base import Progress, Seen, after_step, clip_
from bnnsearch.core.optimizers import binary_optimizer


class Relaxed:
    """Real weights, clipped to [-1, 1] after each step."""

    seen: Seen = "relaxed"
    rate_name = "lr"

    def __init__(self, optimizer: OptimizerSettings) -> None:
        self._optimizer = optimizer

    def start(self, weights: Sequence[Parameter]) -> None:
        clip_(weights)

    def view(self, weight: Tensor) -> Tensor:
        return weight

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        return after_step(binary_optimizer(self._optimizer, weights), lambda: clip_(weights))

    def anneal(self, progress: Progress) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}


class Frozen:
    """Weights projected onto {-1, +1}; no optimizer holds them, for Adam's momentum would go on moving them."""

    seen: Seen = "frozen"
    rate_name = "lr"

    @torch.no_grad()
    def start(self, weights: Sequence[Parameter]) -> None:
        for weight in weights:
            weight.copy_(sign(weight))

    def view(self, weight: Tensor) -> Tensor:
        return weight.detach()

    def optimizer(self, weights: Sequence[Parameter]) -> None:  # noqa: ARG002
        return None

    def anneal(self, progress: Progress) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}
