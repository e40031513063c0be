"""bfloat16 in compiled code, which has no such type: its 16 bits are those of a uint16, the upper half of a float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_WORD, _FLOAT = ir.IntType(32), ir.FloatType()


def _widened(_, number):  # type: ignore[no-untyped-def]
    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        if number == types.float32:
            return values[0]
        return builder.bitcast(builder.shl(builder.zext(values[0], _WORD), _WORD(16)), _FLOAT)

    return types.float32(number), codegen


def _rounded(_, number, like):  # type: ignore[no-untyped-def]
    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        if like == types.float32:
            return values[0]
        bits = builder.bitcast(values[0], _WORD)
        odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))  # halves go to the even neighbour
        nearest = builder.add(builder.add(bits, _WORD(0x7FFF)), odd)
        return builder.trunc(builder.lshr(nearest, _WORD(16)), ir.IntType(16))

    return like(number, like), codegen


widened = cast(Callable[[np.generic], np.float32], intrinsic(_widened))
"""The float32 of an element: of the bits of a bfloat16, uint16, or of a float32, which it is already."""

rounded = cast(Callable[[np.float32, np.generic], np.generic], intrinsic(_rounded))
"""A float32 as an element of the type of the second argument: itself, or the bits of the nearest bfloat16."""
