"""LLVM for blocks of 8 pixels x 16 or 32 channels: vectors, loops, and addresses in bytes.

The compiler is told the vector width outright: LLVM takes some processors with 512-bit registers for ones that prefer
256 bits. On a processor without such registers it splits the vectors itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llvmlite import ir
from numba.core import cgutils

PIXELS = 8
LANES = 16
VECTOR_BYTES = 64

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
WORDS, REALS, WIDE = (ir.VectorType(element, LANES) for element in (I32, F32, F64))

Values = list[Any]
"""IR values; of a block, a vector for each pixel and group of 16 channels, pixel by pixel."""


def pointer(builder: Any, kind: Any, *terms: Any) -> Any:
    """A pointer to `kind` at the sum of byte addresses."""
    address = terms[0]
    for term in terms[1:]:
        address = builder.add(address, term)
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, kind: Any, *terms: Any, align: int = 4) -> Any:
    """Load a `kind` from the sum of byte addresses."""
    return builder.load(pointer(builder, kind, *terms), align=align)


def splat(builder: Any, scalar: Any) -> Any:
    """A vector of 16 times `scalar`."""
    undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WORDS, [0] * LANES))


def call(builder: Any, name: str, *operands: Any) -> Any:
    """Call the LLVM intrinsic `name` on vectors of one type."""
    vector = operands[0].type
    element = {I32: "i32", F32: "f32", F64: "f64"}[vector.element]
    kind = ir.FunctionType(vector, [vector] * len(operands))
    function = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
        builder.module, kind, f"llvm.{name}.v{LANES}{element}"
    )
    return builder.call(function, operands)


def constant(kind: Any, value: float) -> Any:
    """A vector constant of one value."""
    return ir.Constant(kind, [value] * LANES)


def larger(builder: Any, x: Any, y: Any) -> Any:
    """The larger of two vectors, element by element."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def smaller(builder: Any, x: Any, y: Any) -> Any:
    """The smaller of two vectors, element by element."""
    return builder.select(builder.fcmp_ordered("<", x, y), x, y)


def pixel_places(builder: Any, start: Any, table: Any, pixel: Any) -> list[Any]:
    """Addresses of the block's pixels: `start` and their byte offsets from an int32 table."""
    first = builder.add(table, builder.shl(pixel, I64(2)))
    offsets = [load(builder, I32, first, I64(4 * p)) for p in range(PIXELS)]
    return [builder.add(start, builder.sext(offset, I64)) for offset in offsets]


def loop(builder: Any, count: Any, carried: Values, body: Callable[[Any, Values], Values]) -> Values:
    """Emit `for i in range(count): carried = body(i, carried)`; `count` must be at least 1."""
    entry, again, end = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("end")
    builder.branch(again)
    builder.position_at_end(again)
    index = builder.phi(I64)
    now = [builder.phi(value.type) for value in carried]
    following = body(index, list(now))
    increased = builder.add(index, I64(1))
    last = builder.block
    for phi, start, after in zip([index, *now], [I64(0), *carried], [increased, *following], strict=True):
        phi.add_incoming(start, entry)
        phi.add_incoming(after, last)
    builder.cbranch(builder.icmp_signed("<", increased, count), again, end)
    builder.position_at_end(end)
    return following


def choose(builder: Any, kind: Any, cases: Mapping[int, Callable[[], Values]]) -> Values:
    """Emit a switch over `kind`, which must be one of `cases`; each emits the same values in its own way."""
    blocks = {number: builder.append_basic_block(f"case{number}") for number in cases}
    joined = builder.append_basic_block("joined")
    switch = builder.switch(kind, next(iter(blocks.values())))
    results: dict[Any, Values] = {}
    for number, block in blocks.items():
        switch.add_case(I64(number), block)
        builder.position_at_end(block)
        values = cases[number]()
        results[builder.block] = values
        builder.branch(joined)
    builder.position_at_end(joined)
    phis = [builder.phi(value.type) for value in values]
    for block, values in results.items():
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, block)
    return phis
