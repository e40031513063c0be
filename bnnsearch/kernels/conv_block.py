"""The register block of the packed runtime: 8 pixels x 16 or 32 channels, from a source through steps to memory.

A vector holds 16 neighbouring output channels of one pixel, so that activations are broadcast words, comparisons give
16 neighbouring bits, and nothing is ever summed across a register. Everything is addressed in bytes. Offsets of pixels
come from tables, int32, so that borders, strides and batches are a matter of the tables alone.

Arithmetic is IEEE float32 and rounds as PyTorch on a CPU does: real convolutions add products one by one, fused, in
the order (row, column, channel), and batch norm is one fused multiply-add.

Numba keeps compiled functions until the file they stand in changes: after a change to this module or to those it
imports, remove `__pycache__/conv.*.nb*`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba.core import cgutils, types
from numba.extending import intrinsic

from bnnsearch.kernels.conv_emit import F32, I8, I32, pointer
from bnnsearch.kernels.conv_source import Where, fill
from bnnsearch.kernels.conv_step import take_steps


def _block(width: int) -> Callable[[tuple[Any, ...]], None]:
    """A numba intrinsic that fills a block of `width` groups of channels and takes the steps.

    Its operand is a tuple of 15 int64: the kind of source, the fields of `Where`, the step table, first and last step.
    """

    def typed(_: Any, operands: Any) -> Any:
        def codegen(context: Any, builder: Any, __: Any, values: Any) -> Any:
            kind, *rest = cgutils.unpack_tuple(builder, values[0])  # type: ignore[no-untyped-call]
            where = Where(*rest[:-3])
            take_steps(builder, fill(builder, kind, where, width), rest[-3:], where.pixel, where.group)
            return context.get_dummy_value()

        return types.void(operands), codegen

    return cast(Callable[[tuple[Any, ...]], None], intrinsic(typed))


block_of_16 = _block(1)
block_of_32 = _block(2)


def _reader(kind: Any, numba_kind: Any) -> Callable[[int], Any]:
    def typed(_: Any, address: Any) -> Any:
        def codegen(__: Any, builder: Any, ___: Any, values: Any) -> Any:
            return builder.load(pointer(builder, kind, values[0]))

        return numba_kind(address), codegen

    return cast(Callable[[int], Any], intrinsic(typed))


read_octet = _reader(I8, types.uint8)
read_int32 = _reader(I32, types.int32)
read_real = _reader(F32, types.float32)


@intrinsic
def _write_real(_, address, __):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: Any, ___: Any, values: Any) -> Any:
        builder.store(values[1], pointer(builder, F32, values[0]))
        return context.get_dummy_value()

    return types.void(address, types.float32), codegen


write_real = cast(Callable[[int, Any], None], _write_real)
