"""Kept distances, 64 at a time: move each by one and learn which side of the majority it was and is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

GROUP = 64

_I16 = ir.IntType(16)
_COUNTS = ir.VectorType(_I16, GROUP)
_SIGNS = ir.VectorType(ir.IntType(8), GROUP)


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_COUNTS, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), GROUP), [0] * GROUP))


def _step(_, distances, at, signs, signs_at, bounds):  # type: ignore[no-untyped-def]
    """Add `sign * signs[signs_at + k]` to `distances[at + k]` for 64 k.

    Args:
        _: numba's typing context.
        distances: int16, flat.
        at: first element.
        signs: int8, flat.
        signs_at: first element.
        bounds: int64 (sign, majority).

    Returns:
        words whose bit k tells whether distance k was, and is, at most the majority.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        distances_, at_, signs_, signs_at_, bounds_ = values
        counts = make_array(signature.args[0])(context, builder, distances_).data  # type: ignore[no-untyped-call]
        steps = make_array(signature.args[2])(context, builder, signs_).data  # type: ignore[no-untyped-call]
        sign, majority = (
            _splat(builder, builder.trunc(builder.extract_value(bounds_, place), _I16)) for place in range(2)
        )
        place = builder.bitcast(builder.gep(counts, [at_]), _COUNTS.as_pointer())
        step_place = builder.bitcast(builder.gep(steps, [signs_at_]), _SIGNS.as_pointer())
        old = builder.load(place, align=2)
        step = builder.sext(builder.load(step_place, align=1), _COUNTS)
        new = builder.add(old, builder.mul(step, sign))
        builder.store(new, place, align=2)
        was, now = (
            builder.bitcast(builder.icmp_signed("<=", value, majority), ir.IntType(GROUP)) for value in (old, new)
        )
        return cgutils.pack_array(builder, [was, now])  # type: ignore[no-untyped-call]

    words = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call]
    return words(distances, at, signs, signs_at, bounds), codegen


step_distances = cast(Callable[..., tuple[Any, Any]], intrinsic(_step))
