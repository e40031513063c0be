"""BOP (Helwegen et al., 2019) and second-order BOP (Suarez-Ramirez et al., 2021): no latent weights, only flips.

    m <- (1 - gamma) m + gamma g            flip w where w m > threshold
    v <- (1 - sigma) v + sigma g^2          flip w where w m / (sqrt(v) + 1e-10) > threshold     second order

The BNEW paper's eq. 7 has -eta g together with flipping on equal signs; that would ascend. gamma takes the place of a
learning rate in the plan's schedule, the paper's "linear schedule for eta_0".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import Bop2Config, BopConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import sign
from bnnsearch.core.methods.base import Progress, Seen

EPSILON = 1e-10


class BopOptimizer(Optimizer):
    """Flips binary weights by their mean gradient; `lr` is gamma. Second order where `sigma` is given."""

    def __init__(
        self, params: Any, lr: float, *, threshold: float, sigma: float | None = None, bias_correction: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.threshold = threshold
        self.sigma = sigma
        self.bias_correction = bias_correction

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; closures are not taken."""
        assert closure is None, "BOP evaluates no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    flipped = weight * self._evidence(weight, weight.grad, group["lr"]) > self.threshold
                    weight.copy_(torch.where(flipped, -weight, weight))

    def _evidence(self, weight: Tensor, gradient: Tensor, gamma: float) -> Tensor:
        state = self.state[weight]
        if not state:
            state.update(first=torch.zeros_like(weight), unseen_first=1.0)
            if self.sigma is not None:
                state.update(second=torch.zeros_like(weight), unseen_second=1.0)
        first: Tensor = state["first"].lerp_(gradient, gamma)
        if self.sigma is None:
            return first
        second: Tensor = state["second"].lerp_(gradient.square(), self.sigma)
        if self.bias_correction:  # the products are (1 - rate)^t at a constant rate, and right at a changing one too
            state["unseen_first"] *= 1 - gamma
            state["unseen_second"] *= 1 - self.sigma
            first = first / max(1 - state["unseen_first"], EPSILON)
            second = second / max(1 - state["unseen_second"], EPSILON)
        return first / (second.sqrt() + EPSILON)


class Bop:
    """Binary weights moved by flips alone, of either order."""

    seen: Seen = "signs"
    rate_name = "gamma"

    def __init__(self, config: BopConfig | Bop2Config, _: OptimizerSettings) -> None:
        self._config = config

    @torch.no_grad()
    def start(self, weights: Sequence[Parameter]) -> None:
        for weight in weights:
            weight.copy_(sign(weight))

    def view(self, weight: Tensor) -> Tensor:
        return weight

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        config = self._config
        if isinstance(config, BopConfig):
            return BopOptimizer(weights, config.gamma, threshold=config.threshold)
        return BopOptimizer(
            weights,
            config.gamma,
            threshold=config.threshold,
            sigma=config.sigma,
            bias_correction=config.bias_correction,
        )

    def anneal(self, progress: Progress) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}
