"""Binarisation as pure functions: sign with a chosen derivative, and what is done to weights before and after it.

`sign(0) = +1`, everywhere in the package. The derivative of sign is zero almost everywhere, so the backward pass uses
an approximation of it (Paren & Poudel, 2022, eq. 1 and 2):

    identity     1                     for weights: the gradient at the binary weight goes to the latent one
    ste          1[|x| <= 1]           the clipped straight-through estimator (Hubara et al., 2016)
    polynomial   max(0, 2 - 2|x|)      Bi-Real net (Liu et al., 2018)
"""

from __future__ import annotations

import math
from typing import Any, Literal, assert_never, cast

import torch
from torch import Tensor
from torch.autograd import Function

Gradient = Literal["identity", "ste", "polynomial"]
Quantile = Literal["laplace", "empirical"]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere; same shape and dtype as `x`, no gradient."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


def binarise(x: Tensor, gradient: Gradient) -> Tensor:
    """`sign(x)` whose backward pass multiplies by the derivative that `gradient` names."""
    match gradient:
        case "identity":
            return cast(Tensor, _IdentitySign.apply(x))
        case "ste":
            return cast(Tensor, _ClippedSign.apply(x))
        case "polynomial":
            return cast(Tensor, _PolynomialSign.apply(x))
        case _:
            assert_never(gradient)


class _IdentitySign(Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return sign(x)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _ClippedSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.abs() <= 1)  # one byte per element instead of the four of x
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        inside: Tensor = ctx.saved_tensors[0]
        return grads[0] * inside


class _PolynomialSign(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return grads[0] * x.abs().mul_(-2).add_(2).clamp_(min=0)


def filter_mean_magnitude(weight: Tensor) -> Tensor:
    """XNOR-Net's scale alpha: mean |w| of every filter, detached; (out, 1, ...), broadcasts over `weight`.

    Minimises ||W - alpha sign(W)|| per filter (Rastegari et al., 2016, eq. 6).
    """
    return weight.detach().abs().mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def standardise(weight: Tensor) -> Tensor:
    """Every filter centred and divided by std / (2 sqrt 2), the standardisation of ReCU (Xu et al., 2021).

    Args:
        weight: (out, ...); the variance is the unbiased one of a filter, plus 1e-5.
    """
    filters = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(dim=filters, keepdim=True)
    variance = centred.var(dim=filters, keepdim=True) + 1e-5
    return centred * (2 * math.sqrt(2) * variance.rsqrt())


def quantile_bounds(weight: Tensor, tau: Tensor, quantile: Quantile) -> tuple[Tensor, Tensor]:
    """The (1 - tau) and tau quantiles of all elements of `weight`, detached scalars.

    Args:
        weight: a layer's weights.
        tau: scalar in (0.5, 1).
        quantile: `laplace` is the closed form of a centred Laplace distribution, Q = -b ln(2 - 2 tau) with
            b = mean |w| (the reference code); `empirical` sorts the weights (the equation as published).
    """
    weight = weight.detach()
    match quantile:
        case "laplace":
            bound = -weight.abs().mean() * torch.log(2 - 2 * tau)
            return -bound, bound
        case "empirical":
            low, high = torch.quantile(weight.flatten(), torch.stack((1 - tau, tau)).to(weight.dtype))
            return low, high
        case _:
            assert_never(quantile)


def rectified_clamp(weight: Tensor, tau: Tensor, quantile: Quantile = "laplace") -> Tensor:
    """ReCU: standardised weights, clipped to their tau quantiles; the gradient stops where the clip acts.

    The signs do not depend on tau; the gradients do. Source: Xu et al., 2021, eq. 10; the bounds count as constants.

    Args:
        weight: latent weights (out, ...).
        tau: scalar in (0.5, 1); 0.85 rising to 0.99 over the training.
        quantile: how the quantiles are found, see `quantile_bounds`.
    """
    standardised = standardise(weight)
    return standardised.clamp(*quantile_bounds(standardised, tau, quantile))
