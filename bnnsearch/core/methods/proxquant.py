"""ProxQuant: relaxed weights, pulled towards the nearer of +-1 after each step (Bai et al., 2019).

    w <- clip(prox(w - eta dl/dw), -1, 1),   strength s = eta reg_rate epoch, or a share of pull
    l1   prox(w) = sign(w) (1 + sgn(|w| - 1) max(||w| - 1| - s, 0)) = sign(w) (|w| + clip(1 - |w|, -s, s))
    l2   prox(w) = (w + s sign(w)) / (1 + s)

with the direction of the optimizer in place of dl/dw. The shares of `pull` are in proportion to the time and sum to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import ProxquantConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import sign
from bnnsearch.core.methods.base import Progress, after_step
from bnnsearch.core.methods.relaxed import Relaxed
from bnnsearch.core.optimizers import binary_optimizer

DEFAULT_REG_RATE = 1e-4


def prox_l1(weight: Tensor, strength: float) -> Tensor:
    """Moves towards the nearer of +-1 by `strength`, never past it: the soft threshold of the distance.

    Written as a change of the magnitude, so that nothing is lost to rounding near 0 and every sign stays.
    """
    magnitude = weight.abs()
    return sign(weight) * (magnitude + (1 - magnitude).clamp(-strength, strength))


def prox_l2(weight: Tensor, strength: float) -> Tensor:
    """Weighted mean of the weight and the nearer of +-1."""
    return (weight + strength * sign(weight)) / (1 + strength)


class Proxquant(Relaxed):
    """Relaxed weights under a growing W-shaped penalty."""

    def __init__(self, config: ProxquantConfig, optimizer: OptimizerSettings) -> None:
        super().__init__(optimizer)
        self._config = config
        self._reg_rate = DEFAULT_REG_RATE if config.reg_rate is None else config.reg_rate
        self._reg = 0.0

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        optimizer = binary_optimizer(self._optimizer, weights)
        prox = prox_l1 if self._config.penalty == "l1" else prox_l2
        share = 0.5 if (self._config.penalty, self._config.l1_step) == ("l1", "half") else 1.0

        @torch.no_grad()
        def pull() -> None:
            eta = optimizer.param_groups[0]["lr"] if self._config.pull is None else 1.0
            strength = share * self._reg * eta
            for weight in weights:
                weight.copy_(prox(weight, strength).clamp_(-1, 1))

        return after_step(optimizer, pull)

    def anneal(self, progress: Progress) -> None:
        pull = self._config.pull
        self._reg = self._reg_rate * progress.epoch if pull is None else pull * progress.step_share

    def state(self) -> dict[str, float]:
        return {"reg": self._reg}
