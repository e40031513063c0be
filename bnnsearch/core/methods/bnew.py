"""BNEW: relaxed weights under the concave regulariser R(w) = -||w||^2 (Paren & Poudel, 2022, eq. 12).

    w <- clip((1 + 2 lambda eta)(w - eta dl/dw), -1, 1)       approximate
    w <- clip(1 / (1 - 2 lambda eta) (w - eta dl/dw), -1, 1)  exact, pole at lambda eta = 1/2

with lambda = t lambda_rate and the direction of the optimizer in place of dl/dw. The regulariser grows every weight by
a factor: near 0 it hardly acts, so that signs can still change; near +-1 it is strongest, so that they stay. What
decides when a weight is binary is the product of these factors over the phase; its logarithm is the growth, in nats:

    sum over the steps of ln(1 + 2 lambda eta) = growth,   each term in proportion to the time

With t the fraction of the phase, eta constant at .01 and lambda_rate .01, as the authors' code has it, 1,000 epochs of
351 steps amount to 34 nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import BnewConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.methods.base import Progress, after_step, before_step
from bnnsearch.core.methods.relaxed import Relaxed
from bnnsearch.core.optimizers import binary_optimizer

DEFAULT_LAMBDA_RATE = 1e-2

LARGEST_GROWTH = 1e6
"""At and beyond the pole of the exact step every weight but 0 goes to +-1; finite, so that 0 stays 0."""


def growth(strength: float, *, exact: bool) -> float:
    """The factor of the regulariser at `strength` = lambda eta: 1 + 2 strength, or 1 / (1 - 2 strength)."""
    if not exact:
        return 1 + 2 * strength
    return 1 / (1 - 2 * strength) if 2 * strength < 1 - 1 / LARGEST_GROWTH else LARGEST_GROWTH


class Bnew(Relaxed):
    """The quantisation phase of BNEW."""

    def __init__(self, config: BnewConfig, optimizer: OptimizerSettings) -> None:
        super().__init__(optimizer)
        self._config = config
        self._lambda_rate = DEFAULT_LAMBDA_RATE if config.lambda_rate is None else config.lambda_rate
        self._lambda = 0.0

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        optimizer = binary_optimizer(self._optimizer, weights)

        @torch.no_grad()
        def regularise() -> None:
            factor = self._factor(optimizer.param_groups[0]["lr"])
            for weight in weights:
                weight.mul_(factor).clamp_(-1, 1)

        return (before_step if self._config.order == "prox_first" else after_step)(optimizer, regularise)

    def anneal(self, progress: Progress) -> None:
        if self._config.growth is not None:
            nats = self._config.growth * progress.step_share
            self._lambda = math.expm1(nats) / (2 * self._optimizer.lr)  # so that 1 + 2 lambda eta is e^nats
        else:
            time = progress.epoch if self._config.time == "epoch" else progress.fraction
            self._lambda = time * self._lambda_rate

    def state(self) -> dict[str, float]:
        return {"lambda": self._lambda}

    def _factor(self, lr: float) -> float:
        """What this step multiplies the weights by, at the scheduled learning rate `lr`."""
        eta = {"base": self._optimizer.lr, "current": lr, "one": 1.0}[self._config.eta]
        return growth(self._lambda * eta, exact=self._config.step == "exact")
