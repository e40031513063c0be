"""BNEW: relaxed weights under the concave regulariser R(w) = -||w||^2 (Paren & Poudel, 2022, eq. 12).

    w <- clip((1 + 2 lambda eta)(w - eta dl/dw), -1, 1)       approximate
    w <- clip(1 / (1 - 2 lambda eta) (w - eta dl/dw), -1, 1)  exact, pole at lambda eta = 1/2

with lambda = t lambda_rate and the direction of the optimizer in place of dl/dw. The regulariser grows every weight by
a factor: near 0 it hardly acts, so that signs can still change; near +-1 it is strongest, so that they stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import BnewConfig
from bnnsearch.config.optimizer import OptimizerConfig
from bnnsearch.core.methods.base import Progress, Seen, after_step, before_step, clip_
from bnnsearch.core.optimizers import binary_optimizer

LARGEST_GROWTH = 1e6
"""At and beyond the pole of the exact step every weight but 0 goes to +-1; finite, so that 0 stays 0."""


def growth(strength: float, *, exact: bool) -> float:
    """The factor of the regulariser at `strength` = lambda eta: 1 + 2 strength, or 1 / (1 - 2 strength)."""
    if not exact:
        return 1 + 2 * strength
    return 1 / (1 - 2 * strength) if 2 * strength < 1 - 1 / LARGEST_GROWTH else LARGEST_GROWTH


class Bnew:
    """The quantisation phase of BNEW."""

    seen: Seen = "relaxed"

    def __init__(self, config: BnewConfig, optimizer: OptimizerConfig) -> None:
        self._config = config
        self._optimizer = optimizer
        self._regulariser = 0.0

    def start(self, weights: Sequence[Parameter]) -> None:
        clip_(weights)

    def view(self, weight: Tensor) -> Tensor:
        return weight

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        optimizer = binary_optimizer(self._optimizer, weights)

        @torch.no_grad()
        def regularise() -> None:
            rate = optimizer.param_groups[0]["lr"] if self._config.scaled_by_lr else 1.0
            factor = growth(self._regulariser * rate, exact=self._config.step == "exact")
            for weight in weights:
                weight.mul_(factor).clamp_(-1, 1)

        return (before_step if self._config.order == "prox_first" else after_step)(optimizer, regularise)

    def anneal(self, progress: Progress) -> None:
        time = progress.epoch if self._config.time == "epoch" else progress.fraction
        self._regulariser = time * self._config.lambda_rate
