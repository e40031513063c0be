"""Training's elementwise work on a CPU in one pass over memory: operations of torch that run in the native library.

Between two convolutions a binary network is bound by memory: composed of torch's operations, a gradient of sign or a
norm with its residual reads and writes its tensors many times over. Whoever calls asks `fuses` first, and composes
operations where it is false: on other devices and types, in compiled training steps, without the library.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from bnnsearch import native
from bnnsearch.core import kernels, layout

Slope = Literal["identity", "ste", "polynomial"]
_SLOPES: dict[str, int] = {"identity": 0, "ste": 1, "polynomial": 2}
_LANES = 64
_ALONE = 1 << 15
"""Fewer elements than these are not worth a second thread."""


def fuses(*tensors: Tensor) -> bool:
    """Whether the functions below take `tensors`, which have to be of one type."""
    first = tensors[0]
    return (
        not torch.compiler.is_compiling()
        and first.dtype in {torch.float32, torch.bfloat16}
        and all(_is_plain(x) and x.dtype is first.dtype for x in tensors)
        and native.available()
    )


def _is_plain(x: Tensor) -> bool:
    """Whether `x` has memory of this process that can be worked on, which tensors of a tracer have not."""
    return type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and x.numel() > 0


def _operation(schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function the operation `schema` of torch on CPUs."""
    name, parenthesis, rest = schema.partition("(")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        torch.library.define(f"bnnsearch::{name}", parenthesis + rest)
        torch.library.impl(f"bnnsearch::{name}", "CPU", function)
        return cast(Callable[..., Any], getattr(torch.ops.bnnsearch, name).default)

    return register


@_operation("sign(Tensor x) -> Tensor")
def _sign(x: Tensor) -> Tensor:
    x = _dense(x)
    out = torch.empty_like(x)
    share_out(kernels.sign_rows, *_rows(x), _half(x), x, out)
    return out


@_operation("sign_slope(Tensor x, Tensor upstream, int slope) -> Tensor")
def _sign_slope(x: Tensor, upstream: Tensor, slope: int) -> Tensor:
    return _slope(kernels.slope_rows, x, upstream, slope)


@_operation("standardised_sign_slope(Tensor x, Tensor upstream, int slope) -> Tensor")
def _standardised_sign_slope(x: Tensor, upstream: Tensor, slope: int) -> Tensor:
    return _slope(kernels.standardised_slope_rows, x, upstream, slope)


@_operation("standardise_filters(Tensor weight) -> (Tensor, Tensor)")
def _standardise_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    weight = weight.contiguous()
    out, scale = torch.empty_like(weight), weight.new_empty(len(weight))
    share_out(kernels.standardise_rows, *weight.shape, weight, out, scale)
    return out, scale


@_operation("standardise_filters_slope(Tensor standardised, Tensor scale, Tensor upstream) -> Tensor")
def _standardise_filters_slope(standardised: Tensor, scale: Tensor, upstream: Tensor) -> Tensor:
    out = torch.empty_like(standardised)
    share_out(kernels.standardise_slope_rows, *out.shape, standardised, scale, upstream.contiguous(), out)
    return out


@_operation(
    "norm_add_hardtanh(Tensor x, Tensor residual, Tensor weight, Tensor bias, float eps, float shift) -> "
    "(Tensor, Tensor)"
)
def _norm_add_hardtanh(  # noqa: PLR0917  as the schema has them
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, shift: float
) -> tuple[Tensor, Tensor]:
    """The outcome; mean, 1 / std and unbiased variance of the batch, (3, C)."""
    pixels, channels = _pixels(x), len(weight)
    count, half = x.numel() // channels, _half(x)
    sums = torch.empty(2, len(x), pixels.shape[2])
    share_out(kernels.channel_sums, *pixels.shape, half, pixels, *sums)
    statistics = torch.empty(3, channels)
    kernels.batch_statistics(sums[0].numel() // channels, channels, count, eps, sums.data_ptr(), statistics.data_ptr())
    mean, deviation, _ = statistics
    scale = weight * deviation
    factors = _folded(torch.stack((scale, bias - mean * scale - shift)), pixels)
    out = torch.empty_like(pixels)
    share_out(kernels.affine_add_clamp, *pixels.shape, half, pixels, _pixels(residual), factors, out)
    return _images(out, x.shape), statistics


@_operation(
    "norm_add_hardtanh_slope(Tensor x, Tensor out, Tensor upstream, Tensor weight, Tensor statistics) -> "
    "(Tensor, Tensor, Tensor)"
)
def _norm_add_hardtanh_slope(
    x: Tensor, out: Tensor, upstream: Tensor, weight: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to what was normalised, to the residual, and to weight and bias, (2, C)."""
    pixels, channels = _pixels(x), len(weight)
    passed, gradient, half = torch.empty_like(pixels), torch.empty_like(pixels), _half(x)
    mean, sums = _folded(statistics[0], pixels), torch.empty(2, len(x), pixels.shape[2])
    upstream = upstream.to(x.dtype)
    share_out(
        kernels.clamp_slope_sums, *pixels.shape, half, pixels, _pixels(out), _pixels(upstream), mean, passed, *sums
    )
    factors, rows = torch.empty(5, channels), sums[0].numel() // channels
    addresses = (each.data_ptr() for each in (sums, statistics, weight, factors))
    kernels.slope_factors(rows, channels, x.numel() // channels, *addresses)
    share_out(kernels.norm_slope, *pixels.shape, half, pixels, passed, _folded(factors[:3], pixels), gradient)
    return _images(gradient, x.shape), _images(passed, x.shape), factors[3:]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere; same shape and dtype as `x`, no gradient."""
    return cast(Tensor, _sign(x.detach()))


def sign_slope(x: Tensor, upstream: Tensor, slope: Slope) -> Tensor:
    """`upstream` times the derivative of sign at `x` that `slope` names; all of one shape."""
    return cast(Tensor, _sign_slope(x.detach(), upstream.detach(), _SLOPES[slope]))


def standardised_sign_slope(x: Tensor, upstream: Tensor, slope: Slope) -> Tensor:
    """The gradient of sign(x / std) to `x`, std being that of each slice along dimension 0."""
    return cast(Tensor, _standardised_sign_slope(x.detach(), upstream.detach(), _SLOPES[slope]))


def standardise_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Filters (O, n) standardised as ReCU does, and the scale (O,) of each."""
    return cast(tuple[Tensor, Tensor], _standardise_filters(weight.detach()))


def standardise_filters_slope(standardised: Tensor, scale: Tensor, upstream: Tensor) -> Tensor:
    """The gradient (O, n) to the filters that `standardise_filters` took."""
    return cast(Tensor, _standardise_filters_slope(standardised, scale, upstream.detach()))


def norm_add_hardtanh(x: Tensor, residual: Tensor, norm: nn.BatchNorm2d, *, shift: float) -> Tensor:
    """hardtanh(norm(x) + residual - shift) in training: batch statistics, which the norm's running ones follow.

    Args:
        x: (N, C, H, W), in channels-last order, or it is copied.
        residual: same shape.
        norm: affine, with running statistics and a momentum.
        shift: see `ShiftedHardtanh`.
    """
    out, statistics = _norm_add_hardtanh(x, residual, norm.weight, norm.bias, norm.eps, shift)
    _follow(norm, *statistics[::2])
    return cast(Tensor, out)


def _keep_for_slope(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(inputs[0], output[0], inputs[2], output[1])


def _norm_slope(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
    x, out, weight, statistics = ctx.saved_tensors
    gradient, passed, (of_weight, of_bias) = _norm_add_hardtanh_slope(x, out, upstream, weight, statistics)
    return gradient, passed, of_weight, of_bias, None, None


torch.library.register_autograd("bnnsearch::norm_add_hardtanh", _norm_slope, setup_context=_keep_for_slope)


@torch.no_grad()
def _follow(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch, as torch does."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


def _slope(kernel: Callable[..., None], x: Tensor, upstream: Tensor, slope: int) -> Tensor:
    x = _dense(x)
    upstream = upstream.to(x.dtype).contiguous(memory_format=layout.memory_order(x))
    out = torch.empty_like(x)
    share_out(kernel, *_rows(x), _half(x), slope, x, upstream, out)
    return out


def _half(x: Tensor) -> int:
    return int(x.dtype is torch.bfloat16)


def _rows(x: Tensor) -> tuple[int, int]:
    """Samples, and elements of each; fewer than two dimensions are one sample."""
    samples = len(x) if x.ndim > 1 else 1
    return samples, x.numel() // samples


def _dense(x: Tensor) -> Tensor:
    return x if layout.is_channels_last(x) else x.contiguous()


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, P, C'), without a copy where the order of its memory is channels-last.

    Some neighbouring pixels are folded into one of as many times C channels, long enough for the processor's vectors.
    """
    images, channels, height, width = x.shape
    together = math.gcd(height * width, max(1, _LANES // channels))
    return x.permute(0, 2, 3, 1).contiguous().view(images, -1, together * channels)


def _folded(factors: Tensor, pixels: Tensor) -> Tensor:
    """Factors per channel (..., C), repeated for the folded channels of `pixels`."""
    return factors.repeat(*(1 for _ in factors.shape[1:]), pixels.shape[2] // factors.shape[-1])


def _images(pixels: Tensor, shape: torch.Size) -> Tensor:
    """What `_pixels` gives of a tensor of `shape` (N, C, H, W), as such a tensor, its memory channels-last."""
    return pixels.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def share_out(kernel: Callable[..., None], samples: int, *arguments: Tensor | int) -> None:
    """Call `kernel` on all samples, a share of them in each of torch's threads; tensors are passed by their address."""
    plain = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    work = max(argument.numel() for argument in arguments if isinstance(argument, Tensor))
    threads = min(torch.get_num_threads(), samples) if work >= _ALONE else 1
    spans = list(pairwise(samples * part // threads for part in range(threads + 1)))
    others = [_pool().submit(kernel, *span, *plain) for span in spans[1:]]
    kernel(*spans[0], *plain)
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="fused")
