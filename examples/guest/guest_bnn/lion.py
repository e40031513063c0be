"""An optimizer: Lion, steps along the sign of a mean of gradient and momentum (Chen et al., 2023, algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch.optim import Optimizer

from bnnsearch.config.base import PositiveFloat
from bnnsearch.config.optimizer import Beta, OptimizerSettings


class LionConfig(OptimizerSettings):
    """w <- w - lr sgn(b1 m + (1 - b1) g);  m <- b2 m + (1 - b2) g.

    Attributes:
        betas: b1 and b2.
    """

    builder: ClassVar[str] = "build_lion"

    name: Literal["lion"] = "lion"
    lr: PositiveFloat = 1e-3
    betas: Annotated[tuple[Beta, Beta], Field()] = (0.9, 0.99)


class Lion(Optimizer):
    """As a torch optimizer; sgn(0) is 0, so that nothing moves without a gradient."""

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; closures are not taken."""
        assert closure is None, "Lion evaluates no closure"
        for group in self.param_groups:
            first, second = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(momentum.lerp(weight.grad, 1 - first).sgn(), alpha=group["lr"])
                momentum.lerp_(weight.grad, 1 - second)


def build_lion(config: LionConfig, groups: Sequence[dict[str, Any]], lr: float) -> Lion:
    """Lion over parameter groups in torch's form."""
    return Lion(groups, lr, config.betas)
