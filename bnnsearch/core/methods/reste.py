"""ReSTE: the gradient of sign from a power function that nears it (Wu et al., 2023).

    w = sign(w~),   d sign(x) / dx ~ d/dx sign(x) |x|^(1/o)

                        m^((1 - o) / o)          |x| <= m, where the power would have no bound: its chord
        estimate   =    1/o |x|^((1 - o) / o)    m < |x| <= bound
                        0                        beyond

with o from 1, the clipped straight-through estimator, to o_end: o = 1 + (o_end - 1) (1 - cos(pi/2 fraction)). The
authors' code has m = .1 and bound = 1.5, for weights and for activations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import ResteConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import sign
from bnnsearch.core.methods.base import Progress, Seen
from bnnsearch.core.optimizers import binary_optimizer


class Reste:
    """Latent weights below a sign whose estimate sharpens.

    Attributes:
        o: the power's inverse, a scalar tensor.
    """

    seen: Seen = "signs"
    rate_name = "lr"

    def __init__(self, config: ResteConfig, optimizer: OptimizerSettings) -> None:
        self._config = config
        self._optimizer = optimizer
        self.o = torch.ones(())
        self.estimate = self.view if config.activations else None

    def start(self, weights: Sequence[Parameter]) -> None:
        pass

    def view(self, weight: Tensor) -> Tensor:
        return cast(Tensor, _PowerSign.apply(weight, self.o, self._config.chord, self._config.bound))

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        return binary_optimizer(self._optimizer, weights)

    def anneal(self, progress: Progress) -> None:
        self.o.fill_(1 + (self._config.o_end - 1) * (1 - math.cos(math.pi / 2 * progress.fraction)))

    def state(self) -> dict[str, float]:
        return {"reste_o": float(self.o)}


class _PowerSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, o: Tensor, chord: float, bound: float) -> Tensor:
        ctx.save_for_backward(x, o)
        ctx.limits = chord, bound
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, o = ctx.saved_tensors
        chord, bound = ctx.limits
        magnitude, o = x.abs(), o.to(x)
        power = magnitude.clamp(min=chord) ** (1 / o - 1)
        slope = torch.where(magnitude > chord, power / o, power)
        return grads[0] * slope * (magnitude <= bound), None, None, None
