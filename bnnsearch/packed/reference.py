"""A packed network in numpy, operation by operation: what predicts where the native library does not load, slowly.

It rounds as the kernels do, so its logits are theirs bit for bit: real convolutions add products one by one, fused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch.packed import operations as ops
from bnnsearch.packed.graph import INPUT, Graph
from bnnsearch.packed.layout import octet_table
from bnnsearch.packed.prepare import real_weight

Reals = NDArray[np.float32]
_FAR = np.float32(1.5 * 2**23)


class Reference:
    """Runs a network on batches of any size, (N, channels, height, width) from one operation to the next."""

    def __init__(self, graph: Graph, tensors: Mapping[str, ops.Array]) -> None:
        self._graph = graph
        self._tensors = tensors
        self._shapes = graph.shapes()
        self._values: dict[str, ops.Array] = {}

    def run(self, images: NDArray[np.uint8]) -> Reals:
        """Logits (N, classes) of images (N, C, H, W)."""
        channels = np.arange(images.shape[1])[:, None, None]
        self._values = {INPUT: octet_table(self._graph.images)[channels, images]}
        with np.errstate(all="ignore"):
            for operation in self._graph.operations:
                self._values[operation.name] = self._result(operation)
        return self.values(self._graph.output)[:, :, 0, 0]

    def values(self, name: str) -> Reals:
        """A value of the last run, (N, channels, height, width)."""
        return np.ascontiguousarray(self._values[name], np.float32)

    def _result(self, operation: ops.Operation) -> ops.Array:
        match operation:
            case ops.Convolution():
                return self._convolution(operation)
            case ops.Pool():
                return self._pool(operation)
            case ops.Combine():
                x, y = self._values[operation.x], self._values[operation.y]
                return x + y if operation.op == "add" else x * y
            case ops.Concatenate():
                return self._concatenated(operation)
            case _:
                return self._changed(operation, self._values[operation.input])

    def _changed(
        self,
        operation: ops.Affine
        | ops.Scale
        | ops.Shift
        | ops.Prelu
        | ops.Clamp
        | ops.Round
        | ops.Sigmoid
        | ops.Threshold
        | ops.Flatten,
        x: ops.Array,
    ) -> ops.Array:
        match operation:
            case ops.Affine():
                factor, summand = (_per_channel(row) for row in self._tensors[operation.name])
                return fused(x, factor, summand)
            case ops.Scale():
                return x * _per_channel(self._tensors[operation.name])
            case ops.Shift():
                return x + _per_channel(self._tensors[operation.name])
            case ops.Prelu():
                return np.where(x > 0, x, x * _per_channel(self._tensors[operation.name]))
            case ops.Clamp():
                low = np.float32(-np.inf if operation.low is None else operation.low)
                high = np.float32(np.inf if operation.high is None else operation.high)
                above = np.where(x > low, x, low)
                return np.where(above < high, above, high)
            case ops.Round():
                return (x + _FAR) - _FAR
            case ops.Sigmoid():
                return np.asarray(1 / (1 + np.exp(-x.astype(np.float64))), np.float32)
            case ops.Threshold():
                level = operation.level if operation.level is not None else self._tensors[operation.name]
                bits = x >= _per_channel(np.atleast_1d(np.asarray(level, np.float32)))
                if operation.reverses:
                    bits = bits ^ _per_channel(self._tensors[operation.reversed_name].astype(np.bool_))
                return np.where(bits, np.float32(1), np.float32(-1))
            case ops.Flatten():
                return x.reshape(len(x), -1, 1, 1)
            case _:
                assert_never(operation)

    def _convolution(self, operation: ops.Convolution) -> ops.Array:
        x, channels = self._values[operation.input], self._shapes[operation.input].channels
        signs = operation.model_copy(update={"integer": "bits"}) if operation.binary else operation
        weight = real_weight(signs, self._tensors, channels)
        taps = zip(_taps(operation, x, self._shapes[operation.name], 0), np.ndindex(operation.kernel), strict=True)
        if operation.counts:  # whole numbers, exact in any order
            exact = (np.einsum("nchw,oc->nohw", tap, weight[:, row, column]) for tap, (row, column) in taps)
            return np.asarray(sum(exact), np.float32)
        sums = np.zeros((len(x), *self._shapes[operation.name]), np.float64 if operation.wide else np.float32)
        for tap, (row, column) in taps:
            for channel in range(channels):
                factor, values = _per_channel(weight[:, row, column, channel]), tap[:, channel, None]
                sums = sums + factor.astype(np.float64) * values if operation.wide else fused(values, factor, sums)
        return sums.astype(np.float32)

    def _pool(self, operation: ops.Pool) -> ops.Array:
        x, out = self._values[operation.input], self._shapes[operation.name]
        if operation.kind == "max":
            highest = np.full((len(x), *out), -np.inf, np.float32)
            for tap in _taps(operation, x, out, -np.inf):
                highest = np.where(highest > tap, highest, tap)
            return highest
        sums = np.zeros((len(x), *out), np.float64 if operation.wide else np.float32)
        for tap in _taps(operation, x, out, 0):
            sums = sums + tap
        if operation.kind == "sum":
            return sums.astype(np.float32)
        inside = sum(_taps(operation, np.ones_like(x[:1, :1]), out, 0))
        return sums.astype(np.float32) / inside

    def _concatenated(self, operation: ops.Concatenate) -> ops.Array:
        _, *sides = self._shapes[operation.name]
        images = len(self._values[INPUT])
        parts = [
            np.zeros((images, part.count, *sides), np.float32)
            if part.input is None
            else self._values[part.input][:, part.first : part.first + part.count]
            for part in operation.parts
        ]
        return np.concatenate(parts, axis=1)


def fused(x: ops.Array, y: ops.Array, z: ops.Array) -> Reals:
    """X y + z of float32, rounded once.

    The product is exact in float64. Where the sum is not, it is rounded to the neighbour whose last bit is 1, which no
    rounding to float32 can take for a tie (Boldo, Melquiond, Emulation of FMA and correctly rounded sums, 2008).
    """
    product, z = x.astype(np.float64) * y, z.astype(np.float64)
    total = product + z
    part = total - product
    missed = (product - (total - part)) + (z - part)
    even = (total.view(np.int64) & 1) == 0
    nudged = np.nextafter(total, np.copysign(np.inf, missed))
    return np.where((missed != 0) & even & np.isfinite(missed), nudged, total).astype(np.float32)


def _per_channel(values: ops.Array) -> ops.Array:
    return np.asarray(values).reshape(-1, 1, 1)


def _taps(operation: ops.Convolution | ops.Pool, x: ops.Array, out: ops.Shape, outside: float) -> Iterator[ops.Array]:
    """What each place of the window meets, row by row: (N, channels, out height, out width)."""
    (height, width), (down, right), (top, left) = operation.kernel, operation.stride, operation.padding
    bottom = max(0, (out.height - 1) * down + height - top - x.shape[2])
    end = max(0, (out.width - 1) * right + width - left - x.shape[3])
    bordered = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, end)), constant_values=outside)
    for row, column in np.ndindex(height, width):
        rows = slice(row, row + (out.height - 1) * down + 1, down)
        yield bordered[:, :, rows, column : column + (out.width - 1) * right + 1 : right]
