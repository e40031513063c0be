"""What is done to a block while it is in registers: batch norm, residual sums, activations, thresholds, stores."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple

from bnnsearch.kernels.conv_emit import (
    F32,
    I16,
    I64,
    PIXELS,
    REALS,
    VECTOR_BYTES,
    Values,
    call,
    choose,
    constant,
    larger,
    load,
    loop,
    pixel_places,
    pointer,
    smaller,
    splat,
)

STEP_BYTES = 40


class Step(IntEnum):
    """What is done to a block; `a` and `b` are per-channel vectors, `map` is another tensor at the same pixels."""

    AFFINE = 0  # fma(x, a, b)
    SCALE = 1  # x a
    SHIFT = 2  # x + a
    CLAMP = 3  # min(max(x, a), b)
    PRELU = 4  # x if x > 0 else x a
    DIVIDE = 5  # x / map, one divisor per pixel
    ADD = 6  # x + map
    MULTIPLY = 7  # x map
    STORE = 8  # map = x
    BITS = 9  # map = (x >= a) xor b, b being 16 bits per vector


class Operands(NamedTuple):
    """Where a step's operands are, and which pixels and channels the block holds."""

    a: Any
    b: Any
    map: Any
    offsets: Any
    pixel: Any
    lane: Any

    def places(self, builder: Any, lane: Any) -> Values:
        """Addresses in the map of each pixel's channels from byte `lane` on."""
        return pixel_places(builder, builder.add(self.map, lane), self.offsets, self.pixel)


def take_steps(builder: Any, block: Values, steps: Values, pixel: Any, group: Any) -> None:
    """Emit the loop over the rows (kind, a, b, map, offsets) of the step table, int64, from `first` below `last`."""
    table, first, last = steps
    start = builder.add(table, builder.mul(first, I64(STEP_BYTES)))
    lane = builder.shl(group, I64(6))

    def take(index: Any, block: Values) -> Values:
        row = builder.add(start, builder.mul(index, I64(STEP_BYTES)))
        kind, a, b, array, offsets = (load(builder, I64, row, I64(8 * column)) for column in range(5))
        where = Operands(a, b, array, offsets, pixel, lane)
        return choose(builder, kind, {step: _emitter(builder, step, block, where) for step in Step})

    loop(builder, builder.sub(last, first), block, take)


def _emitter(builder: Any, step: Step, block: Values, where: Operands) -> Callable[[], Values]:
    if step in _CHANNELWISE:
        return lambda: _channelwise(builder, block, where, _CHANNELWISE[step])
    return lambda: _WITH_MAP[step](builder, block, where)


def _affine(builder: Any, x: Any, a: Any, b: Any) -> Any:
    return call(builder, "fma", x, a, b)


def _scale(builder: Any, x: Any, a: Any, _: Any) -> Any:
    return builder.fmul(x, a)


def _shift(builder: Any, x: Any, a: Any, _: Any) -> Any:
    return builder.fadd(x, a)


def _clamp(builder: Any, x: Any, a: Any, b: Any) -> Any:
    return smaller(builder, larger(builder, x, a), b)


def _prelu(builder: Any, x: Any, a: Any, _: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, constant(REALS, 0.0)), x, builder.fmul(x, a))


_CHANNELWISE: dict[Step, Callable[[Any, Any, Any, Any], Any]] = {
    Step.AFFINE: _affine,
    Step.SCALE: _scale,
    Step.SHIFT: _shift,
    Step.CLAMP: _clamp,
    Step.PRELU: _prelu,
}
_TAKE_B = (_affine, _clamp)


def _channelwise(builder: Any, block: Values, where: Operands, change: Callable[[Any, Any, Any, Any], Any]) -> Values:
    width = len(block) // PIXELS
    a = _lanes(builder, where.a, where.lane, width)
    b = _lanes(builder, where.b, where.lane, width) if change in _TAKE_B else [None] * width
    return [change(builder, x, a[index % width], b[index % width]) for index, x in enumerate(block)]


def _lanes(builder: Any, vectors: Any, lane: Any, width: int) -> Values:
    return [load(builder, REALS, vectors, lane, I64(v * VECTOR_BYTES)) for v in range(width)]


def _add(builder: Any, block: Values, where: Operands) -> Values:
    return [builder.fadd(x, y) for x, y in zip(block, _operand(builder, block, where), strict=True)]


def _multiply(builder: Any, block: Values, where: Operands) -> Values:
    return [builder.fmul(x, y) for x, y in zip(block, _operand(builder, block, where), strict=True)]


def _operand(builder: Any, block: Values, where: Operands) -> Values:
    width = len(block) // PIXELS
    return [
        load(builder, REALS, place, I64(v * VECTOR_BYTES))
        for place in where.places(builder, where.lane)
        for v in range(width)
    ]


def _divide(builder: Any, block: Values, where: Operands) -> Values:
    divisors = [splat(builder, load(builder, F32, place)) for place in where.places(builder, I64(0))]
    width = len(block) // PIXELS
    return [builder.fdiv(x, divisors[place // width]) for place, x in enumerate(block)]


def _store(builder: Any, block: Values, where: Operands) -> Values:
    width = len(block) // PIXELS
    for p, place in enumerate(where.places(builder, where.lane)):
        for v in range(width):
            target = pointer(builder, REALS, place, I64(v * VECTOR_BYTES))
            builder.store(block[p * width + v], target, align=4)
    return block


def _bits(builder: Any, block: Values, where: Operands) -> Values:
    """Of a lane of 64 bytes of reals, 2 bytes of bits; pixels in ascending order, see `layout.bits_bytes`."""
    width = len(block) // PIXELS
    lane = builder.lshr(where.lane, I64(5))
    levels = _lanes(builder, where.a, where.lane, width)
    turned = [load(builder, I16, where.b, lane, I64(v * 2), align=2) for v in range(width)]
    for p, place in enumerate(where.places(builder, lane)):
        for v in range(width):
            above = builder.bitcast(builder.fcmp_ordered(">=", block[p * width + v], levels[v]), I16)
            builder.store(builder.xor(above, turned[v]), pointer(builder, I16, place, I64(v * 2)), align=1)
    return block


_WITH_MAP: dict[Step, Callable[[Any, Values, Operands], Values]] = {
    Step.DIVIDE: _divide,
    Step.ADD: _add,
    Step.MULTIPLY: _multiply,
    Step.STORE: _store,
    Step.BITS: _bits,
}
