"""The register block of the packed runtime: 8 pixels x 16 or 32 channels, from a source through steps to memory.

A source fills the block: a binary convolution (XOR and popcount), a real convolution, or a pool. Steps then work on the
block while it stays in registers: scale, batch norm, residual, activation, store, threshold to bits. A vector holds 16
neighbouring output channels of one pixel, so that activations are broadcast words, comparisons give 16 neighbouring
bits, and nothing is ever summed across a register.

Everything is addressed in bytes. Offsets of pixels come from tables, int32, so that borders, strides and batches are
a matter of the tables alone. What stands behind each address is said in `bnnsearch.kernels.conv`.

Arithmetic is IEEE float32 and rounds as PyTorch on a CPU does: real convolutions add products one by one, fused, in
the order (row, column, channel), and batch norm is one fused multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

PIXELS = 8
LANES = 16
VECTOR_BYTES = 64


class Source(IntEnum):
    """What fills a block."""

    BITS = 0
    REAL = 1
    MAX = 2
    SUM = 3


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


_I1, _I16, _I32, _I64, _F32 = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
_WORDS, _REALS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)

Block = list[list[Any]]
"""IR values, a vector per pixel and group of 16 channels."""


def _at(builder: Any, kind: Any, *terms: Any) -> Any:
    """A pointer to `kind` at the sum of byte addresses."""
    address = terms[0]
    for term in terms[1:]:
        address = builder.add(address, term)
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder: Any, kind: Any, *terms: Any) -> Any:
    return builder.load(_at(builder, kind, *terms), align=4 if kind is not _I16 else 2)


def _splat(builder: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, scalar, _I32(0)), undefined, ir.Constant(_WORDS, [0] * LANES)
    )


def _call(builder: Any, name: str, *operands: Any) -> Any:
    vector = operands[0].type
    element = "f32" if vector.element == _F32 else "i32"
    signature = ir.FunctionType(vector, [vector] * len(operands))
    function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, signature, f"llvm.{name}.v{LANES}{element}"
    )
    return builder.call(function, operands)


def _offsets(builder: Any, table: Any, pixel: Any) -> list[Any]:
    """The byte offsets of the block's pixels, from an int32 table."""
    first = builder.add(table, builder.shl(pixel, _I64(2)))
    return [builder.sext(_load(builder, _I32, first, _I64(4 * p)), _I64) for p in range(PIXELS)]


def _loop(builder: Any, count: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit `for i in range(count): carried = body(i, carried)`; `count` is at least 1."""
    entry, loop, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(_I64)
    now = [builder.phi(value.type) for value in carried]
    following = body(index, list(now))
    increased = builder.add(index, _I64(1))
    last = builder.block
    for phi, start, after in zip([index, *now], [_I64(0), *carried], [increased, *following], strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(after, last)
    builder.cbranch(builder.icmp_signed("<", increased, count), loop, end)
    builder.position_at_end(end)
    return following


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * LANES)


def _flat(block: Block) -> list[Any]:
    return [vector for row in block for vector in row]


def _rows(flat: list[Any]) -> Block:
    width = len(flat) // PIXELS
    return [flat[p * width : (p + 1) * width] for p in range(PIXELS)]


def _convolve(builder: Any, where: list[Any], width: int, real: bool) -> Block:
    """Sum over kernel rows and the run of elements in each: distances as integers, or real products."""
    source, offsets, weights, rows, run, row_stride, _, _, pixel, group = where
    kind, element = (_REALS, _F32) if real else (_WORDS, _I32)
    starts = [builder.add(source, offset) for offset in _offsets(builder, offsets, pixel)]
    filter_bytes = builder.shl(builder.mul(rows, run), _I64(6))
    first_weight = builder.add(weights, builder.mul(group, filter_bytes))

    def row(_: Any, carried: list[Any]) -> list[Any]:
        *sums, weight = carried[:-PIXELS]
        here = carried[-PIXELS:]

        def tap(index: Any, sums: list[Any]) -> list[Any]:
            step = builder.shl(index, _I64(2))
            line = builder.add(weight, builder.shl(index, _I64(6)))
            lanes = [_load(builder, kind, line, builder.mul(filter_bytes, _I64(v))) for v in range(width)]
            after = []
            for p, place in enumerate(here):
                value = _splat(builder, _load(builder, element, place, step))
                for v, lane in enumerate(lanes):
                    total = sums[p * width + v]
                    if real:
                        after.append(_call(builder, "fma", value, lane, total))
                    else:
                        after.append(builder.add(total, _call(builder, "ctpop", builder.xor(value, lane))))
            return after

        sums = _loop(builder, run, sums, tap)
        return [*sums, builder.add(weight, builder.shl(run, _I64(6))), *(builder.add(h, row_stride) for h in here)]

    zeros = [_constant(kind, 0)] * (PIXELS * width)
    return _rows(_loop(builder, rows, [*zeros, first_weight, *starts], row)[: PIXELS * width])


def _dot_products(builder: Any, where: list[Any], width: int) -> Block:
    """The base less twice the distance, exact in float32; the base of a pixel counts the taps inside the image."""
    *_, base, base_offsets, pixel, group = where
    distances = _convolve(builder, where, width, real=False)
    lane = builder.shl(group, _I64(6))
    starts = [builder.add(builder.add(base, lane), offset) for offset in _offsets(builder, base_offsets, pixel)]
    minus_two = _constant(_REALS, -2.0)

    def product(place: Any, v: int, distance: Any) -> Any:
        counted = builder.sitofp(distance, _REALS)
        return _call(builder, "fma", counted, minus_two, _load(builder, _REALS, place, _I64(v * VECTOR_BYTES)))

    return [[product(starts[p], v, distance) for v, distance in enumerate(row)] for p, row in enumerate(distances)]


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def _smaller(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


def _pool(builder: Any, where: list[Any], width: int, combine: Callable[..., Any]) -> Block:
    """Combine the `rows` source pixels of each window; table `tap` of offsets starts `row_stride` bytes on."""
    source, offsets, _, rows, _, row_stride, _, _, pixel, group = where
    lane = builder.add(source, builder.shl(group, _I64(6)))

    def window(tap: Any) -> list[Any]:
        table = builder.add(offsets, builder.mul(tap, row_stride))
        places = [builder.add(lane, offset) for offset in _offsets(builder, table, pixel)]
        return [_load(builder, _REALS, place, _I64(v * VECTOR_BYTES)) for place in places for v in range(width)]

    def add_tap(index: Any, carried: list[Any]) -> list[Any]:
        taps = window(builder.add(index, _I64(1)))
        return [combine(builder, before, now) for before, now in zip(carried, taps, strict=True)]

    first = window(_I64(0))
    entry = builder.block
    more, done = builder.append_basic_block("more"), builder.append_basic_block("pooled")
    builder.cbranch(builder.icmp_signed(">", rows, _I64(1)), more, done)
    builder.position_at_end(more)
    combined = _loop(builder, builder.sub(rows, _I64(1)), first, add_tap)
    after = builder.block
    builder.branch(done)
    builder.position_at_end(done)
    return _rows([_join(builder, {entry: one, after: all_}) for one, all_ in zip(first, combined, strict=True)])


def _join(builder: Any, incoming: dict[Any, Any]) -> Any:
    phi = builder.phi(next(iter(incoming.values())).type)
    for block, value in incoming.items():
        phi.add_incoming(value, block)
    return phi


def _channelwise(builder: Any, block: Block, where: dict[str, Any], change: Callable[..., Any]) -> Block:
    """`change(builder, x, a, b)` with the per-channel vectors of each group; b is loaded only if it is taken."""
    takes_b = change.__code__.co_argcount == 4
    names = ("a", "b") if takes_b else ("a",)
    width = len(block[0])
    parameters = [
        [_load(builder, _REALS, where[name], where["lane"], _I64(v * VECTOR_BYTES)) for name in names]
        for v in range(width)
    ]
    return [[change(builder, x, *parameters[v]) for v, x in enumerate(row)] for row in block]


def _with_map(builder: Any, block: Block, where: dict[str, Any], change: Callable[..., Any]) -> Block:
    offsets = _offsets(builder, where["offsets"], where["pixel"])
    places = [builder.add(builder.add(where["map"], where["lane"]), offset) for offset in offsets]
    return [
        [change(builder, x, _load(builder, _REALS, places[p], _I64(v * VECTOR_BYTES))) for v, x in enumerate(row)]
        for p, row in enumerate(block)
    ]


def _store(builder: Any, block: Block, where: dict[str, Any]) -> Block:
    for p, offset in enumerate(_offsets(builder, where["offsets"], where["pixel"])):
        place = builder.add(builder.add(where["map"], where["lane"]), offset)
        for v, x in enumerate(block[p]):
            builder.store(x, _at(builder, _REALS, place, _I64(v * VECTOR_BYTES)), align=4)
    return block


def _to_bits(builder: Any, block: Block, where: dict[str, Any]) -> Block:
    bits_lane = builder.lshr(where["lane"], _I64(5))  # 64 bytes of reals are 2 bytes of bits
    width = len(block[0])
    levels = [_load(builder, _REALS, where["a"], where["lane"], _I64(v * VECTOR_BYTES)) for v in range(width)]
    reverse = [_load(builder, _I16, where["b"], bits_lane, _I64(v * 2)) for v in range(width)]
    for p, offset in enumerate(_offsets(builder, where["offsets"], where["pixel"])):
        place = builder.add(builder.add(where["map"], bits_lane), offset)
        for v, x in enumerate(block[p]):
            above = builder.bitcast(builder.fcmp_ordered(">=", x, levels[v]), _I16)
            builder.store(builder.xor(above, reverse[v]), _at(builder, _I16, place, _I64(v * 2)), align=2)
    return block


def _divide(builder: Any, block: Block, where: dict[str, Any]) -> Block:
    offsets = _offsets(builder, where["offsets"], where["pixel"])
    divisors = [_splat(builder, _load(builder, _F32, where["map"], offset)) for offset in offsets]
    return [[builder.fdiv(x, divisor) for x in row] for row, divisor in zip(block, divisors, strict=True)]


def _prelu(builder: Any, x: Any, a: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, _constant(_REALS, 0.0)), x, builder.fmul(x, a))


def _clamp(builder: Any, x: Any, a: Any, b: Any) -> Any:
    return _smaller(builder, _larger(builder, x, a), b)


_CHANNELWISE: dict[Step, Callable[..., Any]] = {
    Step.AFFINE: lambda builder, x, a, b: _call(builder, "fma", x, a, b),
    Step.SCALE: lambda builder, x, a: builder.fmul(x, a),
    Step.SHIFT: lambda builder, x, a: builder.fadd(x, a),
    Step.CLAMP: _clamp,
    Step.PRELU: _prelu,
}
_WITH_MAP: dict[Step, Callable[..., Any]] = {
    Step.ADD: lambda builder, x, y: builder.fadd(x, y),
    Step.MULTIPLY: lambda builder, x, y: builder.fmul(x, y),
}


def _take(builder: Any, step: Step, block: Block, where: dict[str, Any]) -> Block:
    if step in _CHANNELWISE:
        return _channelwise(builder, block, where, _CHANNELWISE[step])
    if step in _WITH_MAP:
        return _with_map(builder, block, where, _WITH_MAP[step])
    return {Step.STORE: _store, Step.BITS: _to_bits, Step.DIVIDE: _divide}[step](builder, block, where)


def _take_steps(builder: Any, block: Block, steps: list[Any], pixel: Any, group: Any) -> None:
    """Emit the loop over the rows (kind, a, b, map, offsets) of the step table, int64, from `first` below `last`."""
    table, first, last = steps
    start = builder.add(table, builder.mul(first, _I64(STEP_BYTES)))
    lane = builder.shl(group, _I64(6))

    def body(index: Any, flat: list[Any]) -> list[Any]:
        row = builder.add(start, builder.mul(index, _I64(STEP_BYTES)))
        kind, *places = (_load(builder, _I64, row, _I64(8 * column)) for column in range(5))
        where = dict(zip(("a", "b", "map", "offsets"), places, strict=True)) | {"pixel": pixel, "lane": lane}
        done = builder.append_basic_block("taken")
        cases = {step: builder.append_basic_block(step.name) for step in Step}
        choice = builder.switch(kind, cases[Step.STORE])
        results: dict[Any, list[Any]] = {}
        for step, case in cases.items():
            if step is not Step.STORE:
                choice.add_case(_I64(step), case)
            builder.position_at_end(case)
            results[builder.block] = _flat(_take(builder, step, _rows(flat), where))
            builder.branch(done)
        builder.position_at_end(done)
        return [_join(builder, {block: after[i] for block, after in results.items()}) for i in range(len(flat))]

    _loop(builder, builder.sub(last, first), _flat(block), body)


STEP_BYTES = 40


def _emit_block(builder: Any, operands: list[Any], width: int) -> None:
    """Fill a block from its source and take the steps."""
    kind, *where = operands[:11]
    steps = operands[11:]
    pixel, group = where[-2:]
    fills: dict[Source, Callable[[], Block]] = {
        Source.BITS: lambda: _dot_products(builder, where, width),
        Source.REAL: lambda: _convolve(builder, where, width, real=True),
        Source.MAX: lambda: _pool(builder, where, width, _larger),
        Source.SUM: lambda: _pool(builder, where, width, lambda b, x, y: b.fadd(x, y)),
    }
    filled = builder.append_basic_block("filled")
    cases = {source: builder.append_basic_block(source.name) for source in Source}
    choice = builder.switch(kind, cases[Source.BITS])
    results: dict[Any, list[Any]] = {}
    for source, case in cases.items():
        if source is not Source.BITS:
            choice.add_case(_I64(source), case)
        builder.position_at_end(case)
        flat = _flat(fills[source]())
        results[builder.block] = flat
        builder.branch(filled)
    builder.position_at_end(filled)
    joined = [_join(builder, {block: flat[i] for block, flat in results.items()}) for i in range(PIXELS * width)]
    _take_steps(builder, _rows(joined), steps, pixel, group)


def _block(width: int) -> Callable[..., None]:
    """A numba intrinsic for blocks of `width` vectors; its operand is a tuple of 14 int64."""

    def typed(_: Any, operands: Any) -> Any:
        def codegen(context: Any, builder: Any, __: Any, values: Any) -> Any:
            _emit_block(builder, cgutils.unpack_tuple(builder, values[0]), width)  # type: ignore[no-untyped-call]
            return context.get_dummy_value()

        return types.void(operands), codegen

    return cast(Callable[..., None], intrinsic(typed))


block_of_16 = _block(1)
block_of_32 = _block(2)


def _reader(kind: Any, numba_kind: Any) -> Callable[[int], Any]:
    def typed(_: Any, address: Any) -> Any:
        def codegen(__: Any, builder: Any, ___: Any, values: Any) -> Any:
            return builder.load(_at(builder, kind, values[0]))

        return numba_kind(address), codegen

    return cast(Callable[[int], Any], intrinsic(typed))


read_octet = _reader(ir.IntType(8), types.uint8)
read_int32 = _reader(_I32, types.int32)
read_real = _reader(_F32, types.float32)


def _writer(kind: Any, numba_kind: Any) -> Callable[[int, Any], None]:
    def typed(_: Any, address: Any, __: Any) -> Any:
        def codegen(context: Any, builder: Any, ___: Any, values: Any) -> Any:
            builder.store(values[1], _at(builder, kind, values[0]))
            return context.get_dummy_value()

        return types.void(address, numba_kind), codegen

    return cast(Callable[[int, Any], None], intrinsic(typed))


write_real = _writer(_F32, types.float32)
