"""Convolution of signs in training, on CPUs where counting bits and looking sums up is faster than multiplying.

What they are is in `native/train/convolution.c`. Torch convolves where the arguments are others than it takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional, grad

from bnnsearch import native
from bnnsearch.core import kernels
from bnnsearch.core.fused import fuses, share_out

_PAYS = frozenset({"avx2"})
"""Where it was measured to: processors with AVX-512 multiply twice as fast, and those with AMX still faster."""

_GATHERED, _MOST_FOURS, _SPAN, _FAR, _MOST_TAPS = 1 << 17, 64, 128, 512, 64  # as in convolution.c
_INDEX_BYTES = 1 << 23
"""About how large an index is made at a time: it stays in the processor's cache."""

_SPARE = 64
"""Bytes after the bits of the last image, which are read, and do not count."""


def conv2d(x: Tensor, weight: Tensor, *, stride: int, padding: int | tuple[int, int]) -> Tensor:
    """`torch.nn.functional.conv2d`, where signs are expected.

    Args:
        x: (N, C, H, W); where all are +-1 it is fast. The outcome is in channels-last order then.
        weight: (O, C, height, width); where each filter has one magnitude it is faster still.
        stride: step of the kernel.
        padding: zeros on each side, or above and below, left and right.
    """
    above, left = padding if isinstance(padding, tuple) else (padding, padding)
    if (plan := _plan_for(x, weight, stride, above, left)) is not None:
        packed = plan.pack(x)
        if packed is not None:
            return cast(Tensor, _SignConvolution.apply(x, weight, packed, plan))
    return functional.conv2d(x, weight, stride=stride, padding=padding)


class _Shape(ctypes.Structure):
    """`Convolution` of convolution.c."""

    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "channels", "height", "width", "out_channels", "out_height", "out_width", "rows", "columns", "stride",
            "above", "left",
        )
    ]  # fmt: skip


class _Row(ctypes.Structure):
    """`Row` of convolution.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("length", "wide", "reach")),
        *((name, ctypes.c_void_p) for name in ("sources", "targets")),
    ]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of a convolution from its shapes.

    Attributes:
        shape: as the kernels have it.
        inside: which taps meet the image, (kinds, taps): a kind is how an output pixel stands to the border.
        places: per output pixel, bytes to its window, to the base of its kind, and to its output, (3, pixels).
        together: images whose gradient is taken at a time.
        row: those images as a row of places; None where their gradient is torch's work.
        kept: what `row` points to.
    """

    shape: _Shape
    inside: NDArray[np.uint8]
    places: NDArray[np.int32]
    together: int = 0
    row: _Row | None = None
    kept: tuple[NDArray[np.int32], ...] = field(default=())

    def pack(self, x: Tensor) -> Tensor | None:
        """The bits of images; None where some of their elements are none of +-1."""
        shape = self.shape
        octets = (shape.height + 2 * shape.above) * (shape.width + 2 * shape.left) * shape.channels // 8
        bits = torch.empty(len(x) * octets + _SPARE, dtype=torch.uint8)
        plain = torch.empty(len(x), dtype=torch.uint8)
        x = x.contiguous(memory_format=torch.channels_last)
        share_out(kernels.pack_signs, len(x), ctypes.addressof(shape), x, bits, plain)
        return bits if plain.all() else None


@dataclass(frozen=True, slots=True)
class _Filters:
    """Filters of one magnitude each, as `pack_filters` leaves them."""

    octets: Tensor
    scale: Tensor
    fours: Tensor


class _SignConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bits: Tensor, plan: _Plan) -> Tensor:
        filters = _packed_filters(weight, plan)
        ctx.save_for_backward(weight, bits)
        ctx.filters, ctx.plan, ctx.shape = filters, plan, x.shape
        shape = plan.shape
        if filters is None:
            return functional.conv2d(x, weight, stride=shape.stride, padding=(shape.above, shape.left))
        return _products(bits, len(x), filters, plan)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weight, bits = ctx.saved_tensors
        plan: _Plan = ctx.plan
        slopes = upstream[0].contiguous(memory_format=torch.channels_last)
        to_images = to_weight = None
        if ctx.needs_input_grad[0]:
            if ctx.filters is not None and plan.row is not None:
                to_images = _image_slopes(slopes, ctx.shape, ctx.filters, plan, plan.row)
            else:
                sides = plan.shape.stride, (plan.shape.above, plan.shape.left)
                to_images = grad.conv2d_input(ctx.shape, weight, slopes, *sides)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            to_weight = _weight_slopes(slopes, bits, weight, plan)
        return to_images, to_weight, None, None


def _packed_filters(weight: Tensor, plan: _Plan) -> _Filters | None:
    """None where some filter has weights of several magnitudes."""
    rows = weight.detach().permute(0, 2, 3, 1).contiguous()
    octets, fours = (rows.new_empty(rows.numel() // parts, dtype=torch.uint8) for parts in (8, 4))
    scale = rows.new_empty(len(rows))
    arguments = (each.data_ptr() for each in (rows, octets, scale, fours))
    return _Filters(octets, scale, fours) if kernels.pack_filters(ctypes.addressof(plan.shape), *arguments) else None


def _products(bits: Tensor, images: int, filters: _Filters, plan: _Plan) -> Tensor:
    shape, at = plan.shape, ctypes.addressof(plan.shape)
    taps = filters.octets.numel() // shape.out_channels
    laid = filters.octets.new_empty(kernels.filter_bytes(shape.out_channels, taps))
    kernels.lay_filters(filters.octets.data_ptr(), shape.out_channels, taps, laid.data_ptr())
    bases = torch.zeros(len(plan.inside), shape.out_channels)
    kernels.sign_bases(at, len(plan.inside), native.address(plan.inside), filters.octets.data_ptr(), bases.data_ptr())
    out = _empty_images(images, shape.out_channels, shape.out_height, shape.out_width)
    share_out(kernels.convolve_signs, images, at, bits, laid, bases, filters.scale, native.address(plan.places), out)
    return out


def _image_slopes(slopes: Tensor, of: Sequence[int], filters: _Filters, plan: _Plan, row: _Row) -> Tensor:
    images, channels, height, width = of
    out = _empty_images(images, channels, height, width)
    chunks, at = -(-images // plan.together), ctypes.addressof(plan.shape)
    arguments = ctypes.addressof(row), slopes, filters.fours, filters.scale, out
    share_out(kernels.image_slopes, chunks, at, images, plan.together, *arguments)
    return out


def _weight_slopes(slopes: Tensor, bits: Tensor, weight: Tensor, plan: _Plan) -> Tensor:
    shape, at = plan.shape, ctypes.addressof(plan.shape)
    images, taps, blocks = len(slopes), shape.rows * shape.columns, shape.out_channels // 8
    tall = shape.height + 2 * shape.above
    each = tall * -(-shape.out_width // 4) * shape.columns * shape.channels
    some = max(1, _INDEX_BYTES // each)
    out = torch.zeros(blocks, taps, shape.channels, 8)
    octets = (bits.numel() - _SPARE) // images
    for start in range(0, images, some):
        part = slopes[start : start + some]
        index = bits.new_empty(len(part) * each)
        share_out(kernels.index_signs, len(part) * tall, at, bits[start * octets :], index)
        share_out(kernels.weight_slopes, blocks, at, len(part), part, index, out)
    out[:, plan.inside.max(axis=0) == 0] = 0  # they never meet an image: what is left there is rounding
    return out.permute(0, 3, 2, 1).reshape(weight.shape)


def _empty_images(images: int, channels: int, height: int, width: int) -> Tensor:
    return torch.empty(images, height, width, channels).permute(0, 3, 1, 2)


def _plan_for(x: Tensor, weight: Tensor, stride: int, above: int, left: int) -> _Plan | None:
    """None where the kernels do not take such arguments, or multiplying is the faster."""
    if not (fuses(x, weight) and x.ndim == 4 and x.dtype is torch.float32 and native.chosen() in _PAYS):
        return None
    filters, channels, rows, columns = weight.shape
    if x.shape[1] != channels:
        return None
    return _plan((channels, *x.shape[2:]), (filters, rows, columns), stride, above, left)


@lru_cache(maxsize=256)
def _plan(
    image: tuple[int, int, int], kernel: tuple[int, int, int], stride: int, above: int, left: int
) -> _Plan | None:
    """None where the kernels do not take such shapes."""
    (channels, height, width), (filters, rows, columns) = image, kernel
    if channels % 16 or filters % 16 or rows * columns > _MOST_TAPS:
        return None
    if kernels.gathered_bytes(rows * columns * channels // 8) > _GATHERED:
        return None
    out_height, out_width = (height + 2 * above - rows) // stride + 1, (width + 2 * left - columns) // stride + 1
    if out_height < 1 or not 1 <= out_width <= 4 * _MOST_FOURS:
        return None
    shape = _Shape(channels, height, width, filters, out_height, out_width, rows, columns, stride, above, left)
    y, x = np.arange(out_height) * stride, np.arange(out_width) * stride
    meets_row = _meets(y[:, None] + np.arange(rows) - above, height)
    meets_column = _meets(x[:, None] + np.arange(columns) - left, width)
    meets = (meets_row[:, None, :, None] & meets_column[None, :, None, :]).reshape(out_height * out_width, -1)
    inside, kinds = np.unique(meets, axis=0, return_inverse=True)
    row = (width + 2 * left) * channels // 8
    places = np.stack([
        (y[:, None] * row + x * channels // 8).ravel(),
        kinds.ravel() * filters * 4,
        np.arange(out_height * out_width) * filters * 4,
    ]).astype(np.int32)  # fmt: skip
    plan = _Plan(shape, np.ascontiguousarray(inside, np.uint8), np.ascontiguousarray(places))
    return plan if stride != 1 or rows <= above or columns <= left else _with_row(plan)


def _meets(places: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    return (places >= 0) & (places < size)


def _with_row(plan: _Plan) -> _Plan:
    """A plan with the places of the gradient to the images: a convolution of the gradient to the output."""
    of = plan.shape
    border = of.rows - 1 - of.above, of.columns - 1 - of.left
    tall, wide = of.out_height + border[0], of.out_width + border[1]
    reach = (of.rows - 1) * wide + of.columns - 1
    if reach > _FAR:
        return plan
    together = max(1, 1024 // (tall * wide))
    length = -(-together * tall * wide // _SPAN) * _SPAN
    place = np.arange(length + -(-reach // 8) * 8)
    image, y, x = place // (tall * wide), place // wide % tall, place % wide

    def pixels(y: NDArray[np.int64], x: NDArray[np.int64], height: int, width: int) -> NDArray[np.int32]:
        there = _meets(y, height) & _meets(x, width) & (image < together)
        return np.where(there, (image * height + y) * width + x, -1).astype(np.int32)

    sources = pixels(y - border[0], x - border[1], of.out_height, of.out_width)
    targets = pixels(y, x, of.height, of.width)
    row = _Row(length, wide, reach, native.address(sources), native.address(targets))
    return _Plan(of, plan.inside, plan.places, together, row, (sources, targets))
