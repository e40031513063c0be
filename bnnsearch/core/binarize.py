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

from bnnsearch.core import fused, layout

Gradient = Literal["identity", "ste", "polynomial"]
AlphaGradient = Literal["detached", "scaled", "xnor"]
Quantile = Literal["laplace", "empirical"]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere; same shape and dtype as `x`, no gradient."""
    if fused.fuses(x):
        return fused.sign(x)
    if torch.compiler.is_compiling():
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    shifted = x.detach() + 0.0  # turns -0 to +0; with copysign, several times faster on a CPU than where
    return torch.copysign(x.new_ones(()), shifted, out=shifted)


def binarise(x: Tensor, gradient: Gradient, *, standardised: bool = False) -> Tensor:
    """`sign(x)` whose backward pass multiplies by the derivative that `gradient` names.

    Args:
        x: any shape.
        gradient: which derivative.
        standardised: differentiate sign(x / std), std being that of each slice along dimension 0 of `x` (unbiased, its
            square plus 1e-5) and depending on x too; the value is the same. ReCU does so with activations.
    """
    if standardised:
        return cast(Tensor, _StandardisedSign.apply(x, gradient))
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
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        if fused.fuses(x):
            return fused.sign_slope(x, grads[0], "ste")
        return grads[0] * (x.abs() <= 1)


class _PolynomialSign(_ClippedSign):
    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        if fused.fuses(x):
            return fused.sign_slope(x, grads[0], "polynomial")
        return _polynomial(x.abs()).mul_(grads[0])


class _StandardisedSign(Function):
    """With u = x r, r = 1 / std(x), and h the upstream gradient times the derivative of sign at u:

    dL/dx = r h - r^3 (x - mean x) / (n - 1) sum(h x)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Gradient) -> Tensor:
        ctx.save_for_backward(x)
        ctx.gradient = gradient
        return sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x: Tensor = ctx.saved_tensors[0]
        if fused.fuses(x):
            return fused.standardised_sign_slope(x, grads[0], ctx.gradient), None
        each = (-1, *(1 for _ in x.shape[1:]))
        rows, free = layout.rows(x), x[0].numel() - 1
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = rows.mean(dim=1).to(wide)
        square = torch.linalg.vector_norm(rows, dim=1).to(wide).square()
        variance = (square - (free + 1) * mean.square()).clamp(min=0) / free  # many times faster than Tensor.var
        r = (variance + 1e-5).rsqrt()
        h = _derivative(x.abs().mul_(r.view(each).to(x)), ctx.gradient).mul_(grads[0])
        share = r**3 / free * torch.linalg.vecdot(layout.rows(h), rows).to(wide)
        offset = (share * mean).view(each).to(x)
        return h.mul_(r.view(each).to(x)).addcmul_(x, share.view(each).to(x), value=-1).add_(offset), None


def _derivative(magnitude: Tensor, gradient: Gradient) -> Tensor:
    """The derivative of sign at |x| = `magnitude`, which it may overwrite."""
    match gradient:
        case "identity":
            return torch.ones_like(magnitude)
        case "ste":
            return (magnitude <= 1).to(magnitude.dtype)
        case "polynomial":
            return _polynomial(magnitude)
        case _:
            assert_never(gradient)


def _polynomial(magnitude: Tensor) -> Tensor:
    return magnitude.mul_(-2).add_(2).clamp_(min=0)


def filter_mean_magnitude(weight: Tensor) -> Tensor:
    """XNOR-Net's scale alpha: mean |w| of every filter, detached; (out, 1, ...), broadcasts over `weight`.

    Minimises ||W - alpha sign(W)|| per filter (Rastegari et al., 2016, eq. 6).
    """
    return weight.detach().abs().mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def scale_by_mean_magnitude(viewed: Tensor, weight: Tensor, gradient: AlphaGradient) -> Tensor:
    """`viewed` times alpha, alpha being the mean |w| of every filter of `weight`.

    With g the gradient at the outcome, `viewed` and `weight` get

        detached   g                  0      as the code of Bi-Real net and ReActNet, in which alpha is a constant
        scaled     alpha g            0      the derivative, alpha being a constant
        xnor       alpha g 1[|w|<=1]  g / n  XNOR-Net (Rastegari et al., 2016, eq. 11), n weights in a filter

    so that with a sign between them whose gradient is passed straight through, `weight` gets the sum of both.

    Args:
        viewed: what the forward pass has in the place of the weights, their signs in the first place; (out, ...).
        weight: the real weights; same shape.
        gradient: which of the three.
    """
    latent = weight if gradient == "xnor" else weight.detach()  # where nothing is passed, nothing is computed
    return cast(Tensor, _ScaleByMeanMagnitude.apply(viewed, latent, gradient))


class _ScaleByMeanMagnitude(Function):
    @staticmethod
    def forward(ctx: Any, viewed: Tensor, weight: Tensor, gradient: AlphaGradient) -> Tensor:
        alpha = filter_mean_magnitude(weight)
        ctx.save_for_backward(weight, alpha)
        ctx.gradient = gradient
        return viewed * alpha

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        weight, alpha = ctx.saved_tensors
        gradient: AlphaGradient = ctx.gradient
        match gradient:
            case "detached":
                return grads[0], None, None
            case "scaled":
                return grads[0] * alpha, None, None
            case "xnor":
                return grads[0] * alpha * (weight.abs() <= 1), grads[0] / weight[0].numel(), None
            case _:
                assert_never(gradient)


def standardise(weight: Tensor) -> Tensor:
    """Every filter centred and divided by std / (2 sqrt 2), the standardisation of ReCU (Xu et al., 2021).

    Args:
        weight: (out, ...); the variance is the unbiased one of a filter, plus 1e-5.
    """
    return cast(Tensor, _Standardise.apply(weight))


class _Standardise(Function):
    """With v = s (w - mean w), s = 2 sqrt 2 / std(w), and g the upstream gradient, all per filter of n weights:

    dL/dw = s (g - mean g - v sum(g v) / (8 (n - 1)))
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        filters = layout.rows(weight)
        ctx.fused = weight.dtype is torch.float32 and fused.fuses(weight)
        if ctx.fused:
            standardised, scale = fused.standardise_filters(filters)
        else:
            centred = filters - filters.mean(dim=1, keepdim=True)
            variance = torch.linalg.vector_norm(centred, dim=1, keepdim=True).square() / (filters.shape[1] - 1)
            scale = 2 * math.sqrt(2) * (variance + 1e-5).rsqrt()
            standardised = centred.mul_(scale)
        ctx.save_for_backward(standardised, scale)
        ctx.order = layout.memory_order(weight)
        return layout.like(weight, standardised)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        standardised, scale = ctx.saved_tensors
        upstream = grads[0].contiguous(memory_format=ctx.order)
        gradient = layout.rows(upstream)
        if ctx.fused:
            return layout.like(upstream, fused.standardise_filters_slope(standardised, scale, gradient))
        along = torch.linalg.vecdot(gradient, standardised).unsqueeze(1) / (8 * (gradient.shape[1] - 1))
        out = torch.addcmul(gradient, standardised, along, value=-1).sub_(gradient.mean(dim=1, keepdim=True))
        return layout.like(upstream, out.mul_(scale))


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
            low, high = torch.quantile(weight.flatten(), torch.stack((1 - tau, tau)).to(weight))
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
