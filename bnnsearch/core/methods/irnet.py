"""IR-Net: balanced, standardised weights with a power-of-two scale, and a derivative that decays (Qin et al., 2020).

    v = (w~ - mean w~) / std w~                          per filter of n weights, std unbiased
    w = 2^s sign(v),   s = round(log2(mean |v|))         per filter; s counts as a constant

The error decay estimator (EDE) is the derivative of sign, of weights and of activations,

    k t (1 - tanh^2(t x)),   t = t_min (t_max / t_min)^fraction,   k = max(1 / t, 1)

which begins as the identity, k t = 1, and closes in on sign as t grows. The paper has t from .1 to 10, the authors'
code for ResNet-20 from .001.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import DecaySettings, IrnetConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import sign
from bnnsearch.core.methods.base import Progress, Seen
from bnnsearch.core.optimizers import binary_optimizer

SMALLEST_STD = 1e-12
"""What a filter of equal weights is divided by."""


def standardised(weight: Tensor) -> Tensor:
    """Every filter of `weight` (out, ...) with mean 0 and an unbiased variance of 1; differentiable."""
    dims = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(dim=dims, keepdim=True)
    free = max(weight[0].numel() - 1, 1)
    variance = centred.square().sum(dim=dims, keepdim=True) / free
    return centred / variance.clamp(min=SMALLEST_STD**2).sqrt()


def power_of_two(weight: Tensor) -> Tensor:
    """The power of two nearest to the mean magnitude of every filter, by its logarithm; (out, 1, ...), detached."""
    magnitude = weight.detach().abs().mean(dim=tuple(range(1, weight.ndim)), keepdim=True)
    return torch.exp2(torch.log2(magnitude.clamp(min=torch.finfo(weight.dtype).tiny)).round())


class ErrorDecay:
    """Latent weights below a sign with the derivative k t (1 - tanh^2(t x)): what methods with it share.

    Attributes:
        t: how steep the estimate is, a scalar tensor.
    """

    seen: Seen = "signs"
    rate_name = "lr"

    def __init__(self, config: DecaySettings, optimizer: OptimizerSettings) -> None:
        self._range = config.t_min, config.t_max
        self._optimizer = optimizer
        self.t = torch.tensor(config.t_min)

    def start(self, weights: Sequence[Parameter]) -> None:
        pass

    def sign(self, x: Tensor) -> Tensor:
        """Sign of any shape, with the derivative at the present t."""
        return cast(Tensor, _DecayingSign.apply(x, self.t))

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        return binary_optimizer(self._optimizer, weights)

    def anneal(self, progress: Progress) -> None:
        low, high = self._range
        self.t.fill_(low * (high / low) ** progress.fraction)

    def state(self) -> dict[str, float]:
        return {"ede_t": float(self.t)}


class Irnet(ErrorDecay):
    """Latent weights, standardised and scaled to a power of two in the forward pass."""

    def __init__(self, config: IrnetConfig, optimizer: OptimizerSettings) -> None:
        super().__init__(config, optimizer)
        self.estimate = self.sign if config.activations else None

    def view(self, weight: Tensor) -> Tensor:
        balanced = standardised(weight)
        return self.sign(balanced) * power_of_two(balanced)


class _DecayingSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor) -> Tensor:
        ctx.save_for_backward(x, t)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, t = ctx.saved_tensors
        height = t.clamp(min=1).to(x)  # k t
        return grads[0] * height * (1 - torch.tanh(t.to(x) * x).square()), None
