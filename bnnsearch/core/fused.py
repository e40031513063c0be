"""Training's elementwise work on a CPU in one pass over memory, where numba is there to compile it.

Between two convolutions a binary network is bound by memory: composed of torch's operations, a gradient of sign or a
norm with its residual reads and writes its tensors many times over. Whoever calls asks `fuses` first, and composes
operations where it is false: on other devices and types, in compiled training steps, without numba.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import Function

from bnnsearch.core import layout

try:
    from bnnsearch.kernels import norm as norm_kernels
    from bnnsearch.kernels import sign_gradient, standardise
except ModuleNotFoundError as error:
    if error.name not in ("numba", "llvmlite"):
        raise
    AVAILABLE = False
else:
    AVAILABLE = True

Slope = Literal["identity", "ste", "polynomial"]
_ARRAY_TYPES = {torch.float32: torch.float32, torch.bfloat16: torch.uint16}
_LANES = 64
_ALONE = 1 << 15
"""Fewer elements than these are not worth a second thread."""


def fuses(*tensors: Tensor) -> bool:
    """Whether the functions below take `tensors`, which have to be of one type."""
    first = tensors[0]
    return (
        AVAILABLE
        and not torch.compiler.is_compiling()
        and first.dtype in _ARRAY_TYPES
        and all(_is_plain(x) and x.dtype is first.dtype for x in tensors)
    )


def _is_plain(x: Tensor) -> bool:
    """Whether `x` has memory of this process that can be worked on, which tensors of a tracer have not."""
    return type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu" and x.numel() > 0


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, -1 elsewhere; same shape and dtype as `x`, no gradient."""
    x = _dense(x.detach())
    out = torch.empty_like(x)
    _share_out(sign_gradient.sign_rows, layout.rows(x), layout.rows(out))
    return out


def sign_slope(x: Tensor, upstream: Tensor, slope: Slope) -> Tensor:
    """`upstream` times the derivative of sign at `x` that `slope` names; all of one shape."""
    return _slope(sign_gradient.slope_rows, x, upstream, slope)


def standardised_sign_slope(x: Tensor, upstream: Tensor, slope: Slope) -> Tensor:
    """The gradient of sign(x / std) to `x`, std being that of each slice along dimension 0."""
    return _slope(sign_gradient.standardised_slope_rows, x, upstream, slope)


def standardise_filters(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Filters (O, n) standardised as ReCU does, and the scale (O,) of each."""
    weight = weight.detach().contiguous()
    out, scale = torch.empty_like(weight), weight.new_empty(len(weight))
    _share_out(standardise.standardise_rows, weight, out, scale)
    return out, scale


def standardise_filters_slope(standardised: Tensor, scale: Tensor, upstream: Tensor) -> Tensor:
    """The gradient (O, n) to the filters that `standardise_filters` took."""
    out = torch.empty_like(standardised)
    _share_out(standardise.standardise_slope_rows, standardised, scale, upstream.detach().contiguous(), out)
    return out


def norm_add_hardtanh(x: Tensor, residual: Tensor, norm: nn.BatchNorm2d, *, shift: float) -> Tensor:
    """hardtanh(norm(x) + residual - shift) in training: batch statistics, which the norm's running ones follow.

    Args:
        x: (N, C, H, W), in channels-last order, or it is copied.
        residual: same shape.
        norm: affine, with running statistics and a momentum.
        shift: see `ShiftedHardtanh`.
    """
    return cast(Tensor, _NormAddHardtanh.apply(x, residual, norm.weight, norm.bias, norm, shift))


class _NormAddHardtanh(Function):
    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes no names
        ctx: Any, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, shift: float
    ) -> Tensor:
        pixels, channels = _pixels(x), len(weight)
        sums = _image_sums(norm_kernels.channel_sums, pixels, channels=channels)
        statistics = torch.empty(3, channels)
        norm_kernels.batch_statistics(_array(sums), x.numel() // channels, norm.eps, _array(statistics))
        mean, deviation, variance = statistics.unbind()
        _follow(norm, mean, variance)
        scale = weight.detach() * deviation
        factors = torch.stack((scale, bias - mean * scale - shift))
        out = torch.empty_like(pixels)
        _share_out(norm_kernels.affine_add_clamp, pixels, _pixels(residual), _folded(factors, pixels), out)
        ctx.save_for_backward(pixels, out, weight, statistics)
        ctx.shape = x.shape
        return _images(out, x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        pixels, out, weight, statistics = ctx.saved_tensors
        channels, passed, mean = len(weight), torch.empty_like(pixels), _folded(statistics[0], pixels)
        sums = _image_sums(
            norm_kernels.clamp_slope_sums, pixels, out, _pixels(grads[0]), mean, passed, channels=channels
        )
        factors = torch.empty(5, channels)
        count = pixels.numel() // channels
        norm_kernels.slope_factors(
            _array(sums), count, _array(statistics), _array(weight.detach()), _array(factors)
        )  # fmt: skip
        gradient = torch.empty_like(pixels)
        _share_out(norm_kernels.norm_slope, pixels, passed, _folded(factors[:3], pixels), gradient)
        return _images(gradient, ctx.shape), _images(passed, ctx.shape), factors[3], factors[4], None, None


@torch.no_grad()
def _follow(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards those of a batch, as torch does."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)


def _slope(kernel: Callable[..., None], x: Tensor, upstream: Tensor, slope: Slope) -> Tensor:
    number = {"identity": sign_gradient.IDENTITY, "ste": sign_gradient.STE, "polynomial": sign_gradient.POLYNOMIAL}
    x = _dense(x.detach())
    upstream = upstream.detach().to(x.dtype).contiguous(memory_format=layout.memory_order(x))
    out = torch.empty_like(x)
    _share_out(kernel, number[slope], layout.rows(x), layout.rows(upstream), layout.rows(out))
    return out


def _image_sums(kernel: Callable[..., None], *arguments: Tensor, channels: int) -> Tensor:
    """The two sums that `kernel` leaves per image and folded channel, as (2, N', C)."""
    images, _, folded = arguments[0].shape
    sums = torch.empty(2, images, folded)
    _share_out(kernel, *arguments, sums)
    return sums.view(2, -1, channels)


def _dense(x: Tensor) -> Tensor:
    return x if layout.is_channels_last(x) else x.contiguous()


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, P, C'), without a copy where the order of its memory is channels-last.

    Some neighbouring pixels are folded into one of as many times C channels, long enough for the processor's vectors.
    """
    images, channels, height, width = x.shape
    together = math.gcd(height * width, max(1, _LANES // channels))
    return x.detach().permute(0, 2, 3, 1).contiguous().view(images, -1, together * channels)


def _folded(factors: Tensor, pixels: Tensor) -> Tensor:
    """Factors per channel (..., C), repeated for the folded channels of `pixels`."""
    return factors.repeat(*(1 for _ in factors.shape[1:]), pixels.shape[2] // factors.shape[-1])


def _images(pixels: Tensor, shape: torch.Size) -> Tensor:
    """What `_pixels` gives of a tensor of `shape` (N, C, H, W), as such a tensor, its memory channels-last."""
    return pixels.view(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)


def _array(x: Tensor) -> NDArray[Any]:
    return np.asarray(x.view(_ARRAY_TYPES[x.dtype]).numpy())


def _share_out(kernel: Callable[..., None], *arguments: Tensor | int) -> None:
    """Call `kernel` on all samples of `arguments`, a share of them in each of torch's threads."""
    first = next(argument for argument in arguments if isinstance(argument, Tensor))  # (N, ...)
    arrays = [_array(argument) if isinstance(argument, Tensor) else argument for argument in arguments]
    threads = min(torch.get_num_threads(), len(first)) if first.numel() >= _ALONE else 1
    bounds = [len(first) * part // threads for part in range(threads + 1)]
    spans = list(pairwise(bounds))
    others = [_pool().submit(kernel, span, *arrays) for span in spans[1:]]
    kernel(spans[0], *arrays)
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="fused")
