"""Single words: count their ones, find their lowest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_WORD = ir.IntType(64)


def _count_ones(_, word):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.int64(types.uint64), codegen


def _lowest_one(_, word):  # type: ignore[no-untyped-def]  # noqa: ARG001
    def codegen(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.IntType(1)(1))

    return types.int64(types.uint64), codegen


count_ones = cast(Callable[[np.uint64], int], intrinsic(_count_ones))
"""Number of ones of a uint64, as int64; for compiled code."""

lowest_one = cast(Callable[[np.uint64], int], intrinsic(_lowest_one))
"""Place of the lowest one of a uint64 that has one, as int64; for compiled code."""
