"""Mirror descent (BMD): weights tanh(beta w~), beta growing until tanh is sign (Ajanthan et al., 2021).

    dual     w = tanh(beta w~),   w~ <- clip(w~ - eta dl/dw, -1, 1)     no factor tanh' in the gradient
    primal   w <- tanh(atanh(w) - beta eta dl/dw)

with beta = min(rate^epoch, 1e35), or final_beta^fraction of the phase, and the direction of the optimizer in place of
dl/dw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, assert_never, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import BmdConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.methods.base import Progress, Seen, after_step, before_step, clip_
from bnnsearch.core.methods.relaxed import Relaxed
from bnnsearch.core.optimizers import binary_optimizer

DEFAULT_RATE = 1.01

LARGEST_BETA = 1e35
"""Still a finite float32."""


def temperature(rate: float, epoch: float) -> float:
    """Inverse temperature beta = min(rate^epoch, 1e35)."""
    return rate**epoch if epoch * math.log(rate) < math.log(LARGEST_BETA) else LARGEST_BETA


def annealed(config: BmdConfig, progress: Progress) -> float:
    """Beta at a moment of the phase."""
    if config.final_beta is not None:
        return temperature(config.final_beta, progress.fraction)
    return temperature(DEFAULT_RATE if config.rate is None else config.rate, progress.epoch)


def mirror_step(weight: Tensor, step: Tensor, beta: float) -> Tensor:
    """tanh(atanh(w) - beta step), for w in [-1, 1]; at +-1 as near to it as float32 can tell."""
    edge = 1 - torch.finfo(weight.dtype).eps
    return torch.tanh(torch.atanh(weight.clamp(-edge, edge)) - beta * step)


class Dual:
    """Latent weights seen through tanh(beta w~)."""

    seen: Seen = "mapped"
    rate_name = "lr"

    def __init__(self, config: BmdConfig, optimizer: OptimizerSettings) -> None:
        self._config = config
        self._optimizer = optimizer
        self.beta = torch.ones(())

    def start(self, weights: Sequence[Parameter]) -> None:
        clip_(weights)

    def view(self, weight: Tensor) -> Tensor:
        return cast(Tensor, _TanhStraightThrough.apply(weight, self.beta))

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        return after_step(binary_optimizer(self._optimizer, weights), lambda: clip_(weights))

    def anneal(self, progress: Progress) -> None:
        self.beta.fill_(annealed(self._config, progress))

    def state(self) -> dict[str, float]:
        return {"beta": float(self.beta)}


class Primal(Relaxed):
    """Weights in [-1, 1], moved in the dual space of tanh."""

    def __init__(self, config: BmdConfig, optimizer: OptimizerSettings) -> None:
        super().__init__(optimizer)
        self._config = config
        self.beta = 1.0

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        before: list[Tensor] = []

        def remember() -> None:
            before[:] = [weight.detach().clone() for weight in weights]

        @torch.no_grad()
        def reflect() -> None:
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(mirror_step(old, old - weight, self.beta))

        return after_step(before_step(binary_optimizer(self._optimizer, weights), remember), reflect)

    def anneal(self, progress: Progress) -> None:
        self.beta = annealed(self._config, progress)

    def state(self) -> dict[str, float]:
        return {"beta": self.beta}


def build_bmd(config: BmdConfig, optimizer: OptimizerSettings) -> Dual | Primal:
    """Mirror descent in the form that `config` names."""
    match config.form:
        case "dual":
            return Dual(config, optimizer)
        case "primal":
            return Primal(config, optimizer)
        case _:
            assert_never(config.form)


class _TanhStraightThrough(Function):
    @staticmethod
    def forward(_: Any, weight: Tensor, beta: Tensor) -> Tensor:
        return torch.tanh(beta * weight)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
