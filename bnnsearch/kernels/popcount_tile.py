"""The register tile all popcount kernels are made of: 8 rows x 16 columns of binary dot products.

For bit vectors x, w of n elements standing for -1 and +1, the dot product is n - 2 popcount(x ^ w); with a mask m of
elements that count it is |m| - 2 popcount(m & (x ^ w)). A tile keeps 8 x 16 of these counts in sixteen vector
registers: columns lie side by side in memory (`columns[word, column]`), so a vector holds one word of eight columns,
and each word of a row is broadcast. Nothing is summed across a register; each loaded vector is used eight times.

The compiler is told the vector width outright: LLVM takes some processors with 512-bit registers for ones that prefer
256 bits. On a processor without such registers it splits the vectors itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

ROWS = 8
COLUMNS = 16
LANES = 8

_I64 = ir.IntType(64)
_LANE = ir.VectorType(_I64, LANES)
_LANE16 = ir.VectorType(ir.IntType(16), LANES)
_PAIR = range(COLUMNS // LANES)

Counts = list[list[Any]]


class Where(NamedTuple):
    """Where a tile's operands lie.

    Word k of column c is element `column + k * column_step + c` of its array, word k of row r is element
    `row + k * row_step + r * row_stride`, for k below `words`.
    """

    column: int
    column_step: int
    row: int
    row_step: int
    row_stride: int
    words: int


def _splat(builder: Any, scalar: Any, vector: Any = _LANE) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _load(builder: Any, pointer: Any, index: Any, vector: Any = _LANE) -> Any:
    place = builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())
    return builder.load(place, align=vector.element.width // 8)


def _store(builder: Any, value: Any, pointer: Any, index: Any) -> None:
    place = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    builder.store(value, place, align=value.type.element.width // 8)


def _call(builder: Any, name: str, *operands: Any) -> Any:
    """Call the LLVM intrinsic `name` on operands of one vector type."""
    vector = operands[0].type
    signature = ir.FunctionType(vector, [vector] * len(operands))
    function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, signature, f"llvm.{name}.v{vector.count}i{vector.element.width}"
    )
    return builder.call(function, operands)


def _count(builder: Any, vectors: list[Any], where: list[Any]) -> Counts:
    """Emit the loop over the words; `vectors` are columns, rows and, where only some elements count, the mask."""
    columns, rows, *mask = vectors
    column, column_step, row, row_step, row_stride, words = where
    entry, loop, end = builder.block, builder.append_basic_block("words"), builder.append_basic_block("counted")
    builder.branch(loop)
    builder.position_at_end(loop)
    word = builder.phi(_I64)
    sums = [[builder.phi(_LANE) for _ in _PAIR] for _ in range(ROWS)]
    at = builder.add(column, builder.mul(word, column_step))
    row_at = builder.add(row, builder.mul(word, row_step))
    bits, *counting = (
        [_load(builder, array, builder.add(at, _I64(half * LANES))) for half in _PAIR] for array in (columns, *mask)
    )
    following = []
    for r in range(ROWS):
        place = builder.add(row_at, builder.mul(row_stride, _I64(r)))
        weight = _splat(builder, builder.load(builder.gep(rows, [place])))
        differ = [builder.xor(bits[half], weight) for half in _PAIR]
        for only in counting:
            differ = [builder.and_(differ[half], only[half]) for half in _PAIR]
        following.append([builder.add(sums[r][half], _call(builder, "ctpop", differ[half])) for half in _PAIR])
    next_word = builder.add(word, _I64(1))
    _close_loop(sums, following, entry, loop)
    word.add_incoming(_I64(0), entry)
    word.add_incoming(next_word, loop)
    builder.cbranch(builder.icmp_signed("<", next_word, words), loop, end)
    builder.position_at_end(end)
    return following


def _close_loop(sums: Counts, following: Counts, entry: Any, loop: Any) -> None:
    for r in range(ROWS):
        for half in _PAIR:
            sums[r][half].add_incoming(ir.Constant(_LANE, [0] * LANES), entry)
            sums[r][half].add_incoming(following[r][half], loop)


def _or_bits(builder: Any, flags: list[Any], plane: Any, index: Any, shift: Any) -> None:
    """Or the flags of the eight rows, bit r of row r, shifted by `shift`, into eight words of `plane`."""
    zero = ir.Constant(_LANE, [0] * LANES)
    byte = zero
    for r, flag in enumerate(flags):
        byte = builder.or_(byte, builder.select(flag, ir.Constant(_LANE, [1 << r] * LANES), zero))
    old = _load(builder, plane, index)
    _store(builder, builder.or_(old, builder.shl(byte, _splat(builder, shift))), plane, index)


def _emit(generate: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A numba intrinsic from `generate(builder, *operands)`: arrays come as pointers, tuples as lists."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def operand(kind: Any, value: Any) -> Any:
            if isinstance(kind, types.Array):
                return make_array(kind)(context, builder, value).data  # type: ignore[no-untyped-call]
            if isinstance(kind, types.BaseTuple):
                parts: list[Any] = list(kind)  # type: ignore[call-overload]
                return [operand(part, builder.extract_value(value, place)) for place, part in enumerate(parts)]
            return value

        generate(builder, *(operand(kind, value) for kind, value in zip(signature.args, values, strict=True)))
        return context.get_dummy_value()

    return types.void(*arguments), codegen


def _tile(function: Callable[..., tuple[Any, Any]]) -> Callable[..., None]:
    return cast(Callable[..., None], intrinsic(function))


@_tile
def tile_distances(_, vectors, where, out):  # type: ignore[no-untyped-def]
    """Write the 8 x 16 distances as int16 to `array[at + r * stride + c]`, `out` being (array, at, stride).

    In this and the other tiles `vectors` is (columns, rows) or (columns, rows, mask of the columns), all uint64, and
    `where` is a `Where`.
    """

    def generate(builder: Any, vectors: Any, where: Any, out: Any) -> None:
        array, at, stride = out
        for r, pair in enumerate(_count(builder, vectors, where)):
            for half, count in enumerate(pair):
                place = builder.add(builder.add(at, _I64(half * LANES)), builder.mul(stride, _I64(r)))
                _store(builder, builder.trunc(count, _LANE16), array, place)

    return _emit(generate, vectors, where, out)


@_tile
def tile_majority(_, vectors, where, majority, out):  # type: ignore[no-untyped-def]
    """Or the bits `distance <= majority`, row r at bit `shift + r`, into the words `plane[at + c]`.

    `out` is (plane, at, shift).
    """

    def generate(builder: Any, vectors: Any, where: Any, majority: Any, out: Any) -> None:
        plane, at, shift = out
        counts = _count(builder, vectors, where)
        bound = _splat(builder, majority)
        for half in _PAIR:
            flags = [builder.icmp_unsigned("<=", row[half], bound) for row in counts]
            _or_bits(builder, flags, plane, builder.add(at, _I64(half * LANES)), shift)

    return _emit(generate, vectors, where, majority, out)


@_tile
def tile_gated(_, vectors, where, gate, out):  # type: ignore[no-untyped-def]
    """Or two bits per row and column, from the dot product v = totals[c] - 2 distance: v >= 0 and |v| <= margin.

    `gate` is (totals, margin), `out` is (plane of signs, plane of near ones, at, shift).
    """

    def generate(builder: Any, vectors: Any, where: Any, gate: Any, out: Any) -> None:
        counts = _count(builder, vectors, where)
        totals, margin = gate
        sign, near, at, shift = out
        one = ir.Constant(_LANE, [1] * LANES)
        width = _splat(builder, margin)
        for half in _PAIR:
            total = _load(builder, totals, builder.add(where[0], _I64(half * LANES)))
            middle = builder.ashr(total, one)
            low = builder.ashr(builder.add(builder.sub(total, width), one), one)
            high = builder.ashr(builder.add(total, width), one)
            span = builder.add(builder.sub(high, low), one)  # 0 where no count of this parity is near
            signs = [builder.icmp_unsigned("<=", row[half], middle) for row in counts]
            nears = [builder.icmp_unsigned("<", builder.sub(row[half], low), span) for row in counts]
            place = builder.add(at, _I64(half * LANES))
            _or_bits(builder, signs, sign, place, shift)
            _or_bits(builder, nears, near, place, shift)

    return _emit(generate, vectors, where, gate, out)


@_tile
def tile_votes(_, vectors, where, counters, crossed):  # type: ignore[no-untyped-def]
    """Add the dot products to int16 counters and tell which counters left the band around zero.

    `counters` is (array, at, stride, totals, bounds) with int16 totals and int16 bounds = (limit, band):
    `array[at + r * stride + c]` moves by `totals[column + c] - 2 distance`, saturating at +-limit; then the low 16 bits
    of uint32 `crossed[r]` tell the columns above +band, the next 16 those below -band.
    """

    def generate(builder: Any, vectors: Any, where: Any, counters: Any, crossed: Any) -> None:
        counts = _count(builder, vectors, where)
        array, at, stride, totals, bounds = counters
        most, above = (_splat(builder, builder.load(builder.gep(bounds, [_I64(place)])), _LANE16) for place in (0, 1))
        zero = ir.Constant(_LANE16, [0] * LANES)
        least, below = builder.sub(zero, most), builder.sub(zero, above)
        total = [_load(builder, totals, builder.add(where[0], _I64(half * LANES)), _LANE16) for half in _PAIR]
        for r, pair in enumerate(counts):
            word = ir.IntType(32)(0)
            for half, count in enumerate(pair):
                place = builder.add(builder.add(at, _I64(half * LANES)), builder.mul(stride, _I64(r)))
                distance = builder.trunc(count, _LANE16)
                vote = builder.sub(builder.sub(total[half], distance), distance)
                value = _call(builder, "sadd.sat", _load(builder, array, place, _LANE16), vote)
                value = _call(builder, "smin", _call(builder, "smax", value, least), most)
                _store(builder, value, array, place)
                rises, falls = builder.icmp_signed(">", value, above), builder.icmp_signed("<", value, below)
                for flags, lift in ((rises, half * LANES), (falls, COLUMNS + half * LANES)):
                    byte = builder.zext(builder.bitcast(flags, ir.IntType(8)), ir.IntType(32))
                    word = builder.or_(word, builder.shl(byte, ir.IntType(32)(lift)))
            builder.store(word, builder.gep(crossed, [_I64(r)]))

    return _emit(generate, vectors, where, counters, crossed)
