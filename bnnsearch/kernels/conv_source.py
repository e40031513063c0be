"""What fills a block: a binary convolution, a real one, or a pool."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from bnnsearch.kernels.conv_emit import (
    F32,
    I32,
    I64,
    PIXELS,
    REALS,
    VECTOR_BYTES,
    WIDE,
    WORDS,
    Values,
    call,
    choose,
    constant,
    larger,
    load,
    loop,
    pixel_places,
    splat,
)


class Source(IntEnum):
    """What fills a block."""

    BITS = 0
    MASKED_BITS = 1  # where rows of bits do not end with a word
    REAL = 2
    MAX = 3
    SUM = 4
    WIDE_REAL = 5  # summed in float64, rounded once
    WIDE_SUM = 6


class Where(NamedTuple):
    """Addresses and counts of a source, int64; see `bnnsearch.kernels.conv.Column`."""

    source: Any
    offsets: Any
    weights: Any
    rows: Any
    run: Any
    row_stride: Any
    base: Any
    base_offsets: Any
    masks: Any
    pixel: Any
    group: Any


def fill(builder: Any, kind: Any, where: Where, width: int) -> Values:
    """Emit the block of `width` groups of channels that source `kind` gives; wide sums, of one group only."""
    cases: dict[int, Callable[[], Values]] = {
        Source.BITS: lambda: _dot_products(builder, where, width, _Distances(builder)),
        Source.MASKED_BITS: lambda: _dot_products(builder, where, width, _MaskedDistances(builder, where.masks)),
        Source.REAL: lambda: _convolve(builder, where, width, _Products(builder)),
        Source.MAX: lambda: _pool(builder, where, width, larger),
        Source.SUM: lambda: _pool(builder, where, width, _sum),
    }
    if width == 1:
        cases[Source.WIDE_REAL] = lambda: _rounded(builder, _convolve(builder, where, width, _WideProducts(builder)))
        cases[Source.WIDE_SUM] = lambda: _rounded(builder, _pool(builder, where, width, _sum, WIDE))
    return choose(builder, kind, cases)


class _Products:
    """Taps of a real convolution: products, added one by one."""

    kind = loaded = REALS

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def value(self, place: Any, step: Any) -> Any:
        return splat(self.builder, load(self.builder, F32, place, step))

    def add(self, total: Any, value: Any, weight: Any, _: Any) -> Any:
        return call(self.builder, "fma", value, weight, total)


class _WideProducts(_Products):
    """The same in float64."""

    kind = WIDE

    def add(self, total: Any, value: Any, weight: Any, _: Any) -> Any:
        wide = (self.builder.fpext(factor, WIDE) for factor in (value, weight))
        return call(self.builder, "fma", *wide, total)


class _Distances:
    """Taps of a binary convolution: of 32 bits at a time, those that differ are counted."""

    kind = loaded = WORDS

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def value(self, place: Any, step: Any) -> Any:
        return splat(self.builder, load(self.builder, I32, place, step, align=1))

    def add(self, total: Any, value: Any, weight: Any, _: Any) -> Any:
        return self.builder.add(total, call(self.builder, "ctpop", self.builder.xor(value, weight)))


class _MaskedDistances(_Distances):
    """The same, where the mask of a word has a 1."""

    def __init__(self, builder: Any, masks: Any) -> None:
        super().__init__(builder)
        self.masks = masks

    def add(self, total: Any, value: Any, weight: Any, step: Any) -> Any:
        mask = splat(self.builder, load(self.builder, I32, self.masks, step))
        differ = self.builder.and_(self.builder.xor(value, weight), mask)
        return self.builder.add(total, call(self.builder, "ctpop", differ))


def _convolve(builder: Any, where: Where, width: int, taps: _Products | _Distances) -> Values:
    """Sum over kernel rows and the run of elements in each."""
    places = pixel_places(builder, where.source, where.offsets, where.pixel)
    filter_bytes = builder.shl(builder.mul(where.rows, where.run), I64(6))
    weights = builder.add(where.weights, builder.mul(where.group, filter_bytes))
    row_bytes = builder.shl(where.run, I64(6))

    def row(_: Any, carried: Values) -> Values:
        sums, weight, here = carried[: PIXELS * width], carried[PIXELS * width], carried[-PIXELS:]

        def tap(index: Any, sums: Values) -> Values:
            step = builder.shl(index, I64(2))
            line = builder.add(weight, builder.shl(index, I64(6)))
            lanes = [load(builder, taps.loaded, line, builder.mul(filter_bytes, I64(v))) for v in range(width)]
            after = []
            for p, place in enumerate(here):
                value = taps.value(place, step)
                after += [taps.add(sums[p * width + v], value, lane, step) for v, lane in enumerate(lanes)]
            return after

        sums = loop(builder, where.run, sums, tap)
        return [*sums, builder.add(weight, row_bytes), *(builder.add(place, where.row_stride) for place in here)]

    zeros = [constant(taps.kind, 0)] * (PIXELS * width)
    return loop(builder, where.rows, [*zeros, weights, *places], row)[: PIXELS * width]


def _dot_products(builder: Any, where: Where, width: int, taps: _Distances) -> Values:
    """The base less twice the distance, exact in float32; the base of a pixel counts the taps inside the image."""
    distances = _convolve(builder, where, width, taps)
    lane = builder.add(where.base, builder.shl(where.group, I64(6)))
    bases = _vectors(builder, pixel_places(builder, lane, where.base_offsets, where.pixel), width)
    minus_two = constant(REALS, -2.0)
    return [
        call(builder, "fma", builder.sitofp(distance, REALS), minus_two, base)
        for distance, base in zip(distances, bases, strict=True)
    ]


def _pool(builder: Any, where: Where, width: int, combine: Callable[..., Any], kind: Any = REALS) -> Values:
    """Combine the `rows` source pixels of each window; the offsets of tap t stand `t row_stride` bytes on."""
    lane = builder.add(where.source, builder.shl(where.group, I64(6)))

    def window(tap: Any) -> Values:
        table = builder.add(where.offsets, builder.mul(tap, where.row_stride))
        values = _vectors(builder, pixel_places(builder, lane, table, where.pixel), width)
        return [builder.fpext(value, kind) for value in values] if kind is WIDE else values

    def add_tap(index: Any, carried: Values) -> Values:
        taps = window(builder.add(index, I64(1)))
        return [combine(builder, before, now) for before, now in zip(carried, taps, strict=True)]

    several = builder.zext(builder.icmp_signed(">", where.rows, I64(1)), I64)
    first = window(I64(0))
    return choose(
        builder,
        several,
        {0: lambda: first, 1: lambda: loop(builder, builder.sub(where.rows, I64(1)), first, add_tap)},
    )


def _sum(builder: Any, x: Any, y: Any) -> Any:
    return builder.fadd(x, y)


def _rounded(builder: Any, wide: Values) -> Values:
    return [builder.fptrunc(value, REALS) for value in wide]


def _vectors(builder: Any, places: Values, width: int) -> Values:
    return [load(builder, REALS, place, I64(v * VECTOR_BYTES)) for place in places for v in range(width)]
