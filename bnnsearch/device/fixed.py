"""Which values of a packed network are integers in a unit of their own, so that a device needs no floating point.

A value is fixed-point where all it can be is k 2^e with one e and integers |k| < 2^24. Such values and their sums and
products are exact in float32, so the packed runtime computes the very same numbers as integer arithmetic does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch.packed import operations as ops
from bnnsearch.packed.fold import apply
from bnnsearch.packed.graph import INPUT, Graph
from bnnsearch.packed.layout import octet_table
from bnnsearch.packed.prepare import real_weight

LARGEST = 2**24
Pixelwise = ops.Affine | ops.Scale | ops.Shift | ops.Clamp | ops.Prelu | ops.Round


@dataclass(frozen=True, slots=True)
class Fixed:
    """Integers from `low` to `high`, in units of 2^exponent."""

    exponent: int
    low: int
    high: int


class NotFixedError(Exception):
    """Why a value is not fixed-point, in words."""


def integers(values: ops.Array) -> tuple[NDArray[np.int64], int]:
    """(k, e) with values = k 2^e, e as large as can be and at most 0 where all are integers.

    Raises:
        NotFixedError: there are none below 2^24.
    """
    exact = np.asarray(values, np.float64)
    for exponent in range(0, -25, -1):
        scaled = np.ldexp(exact, -exponent)
        if np.abs(scaled).max(initial=0) >= LARGEST:
            break
        if (scaled == np.rint(scaled)).all():
            return scaled.astype(np.int64), exponent
    raise NotFixedError("has values that are no integers in any unit")


def pixel_chain(graph: Graph) -> list[Pixelwise]:
    """The operations after `input` that are functions of one octet, in order: each the only reader of the last."""
    users = graph.users()
    chain: list[Pixelwise] = []
    name = INPUT
    while len(users[name]) == 1:
        (user,) = users[name]
        if not isinstance(user, Pixelwise):
            break
        chain.append(user)
        name = user.name
    return chain


def pixel_table(graph: Graph, tensors: Mapping[str, ops.Array]) -> NDArray[np.float32]:
    """What each octet becomes by the normalisation and the operations of `pixel_chain`, (channels, 256)."""
    table = octet_table(graph.images)
    for operation in pixel_chain(graph):
        rounded = np.rint(table) if isinstance(operation, ops.Round) else apply(operation, table.T, tensors).T
        table = np.ascontiguousarray(rounded)
    return table


def fixed_values(graph: Graph, tensors: Mapping[str, ops.Array]) -> dict[str, Fixed]:
    """The fixed-point form of every value; bits are -1 and +1.

    Raises:
        NotFixedError: one line that names the first value that has none.
    """
    chain = pixel_chain(graph)
    done = {operation.name for operation in chain}
    last = chain[-1].name if chain else INPUT
    found: dict[str, Fixed] = {}
    try:
        numbers, exponent = integers(pixel_table(graph, tensors))
    except NotFixedError as error:
        raise NotFixedError(f"{last}: the normalised image {error}") from error
    found[last] = Fixed(exponent, int(numbers.min()), int(numbers.max()))
    for operation in graph.operations:
        if operation.name in done:
            continue
        try:
            value = _fixed(operation, graph, tensors, found)
        except NotFixedError as error:
            raise NotFixedError(f"{operation.name}: {error}") from error
        if max(-value.low, value.high) >= LARGEST:
            raise NotFixedError(f"{operation.name}: its values reach {max(-value.low, value.high)}, 2^24 or more")
        found[operation.name] = value
    return found


def _fixed(
    operation: ops.Operation, graph: Graph, tensors: Mapping[str, ops.Array], found: Mapping[str, Fixed]
) -> Fixed:
    match operation:
        case ops.Convolution():
            return _convolution(operation, graph, tensors, found[operation.input])
        case ops.Threshold():
            return Fixed(0, -1, 1)
        case ops.Pool():
            return _pool(operation, found[operation.input])
        case ops.Flatten():
            return found[operation.input]
        case ops.Concatenate() | ops.Combine():
            return _joined(operation, [found[name] for name in operation.inputs])
        case ops.Scale():
            return _scaled(found[operation.input], tensors[operation.name])
        case ops.Shift():
            return shifted(found[operation.input], tensors[operation.name])
        case ops.Clamp():
            return _clamped(operation, found[operation.input])
        case ops.Affine() | ops.Prelu() | ops.Sigmoid() | ops.Round():
            raise NotFixedError(f"{operation.op} is computed in floating point")
        case _:
            assert_never(operation)


def _joined(operation: ops.Concatenate | ops.Combine, parts: Sequence[Fixed]) -> Fixed:
    if len({part.exponent for part in parts}) > 1:
        raise NotFixedError("its parts have different units")
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    if isinstance(operation, ops.Concatenate):
        return Fixed(parts[0].exponent, min(0, *lows), max(0, *highs))
    if operation.op == "multiply":
        raise NotFixedError("a product is computed in floating point")
    return Fixed(parts[0].exponent, sum(lows), sum(highs))


def _convolution(operation: ops.Convolution, graph: Graph, tensors: Mapping[str, ops.Array], x: Fixed) -> Fixed:
    if operation.binary:
        count = int(np.prod(operation.kernel)) * graph.shapes()[operation.input].channels
        return Fixed(0, -count, count)
    channels = graph.shapes()[operation.input].channels
    if operation.integer is not None:  # what any weights can give, so that it is known before they are trained
        reach = int(np.prod(operation.kernel)) * channels * max(-x.low, x.high)
        reach *= np.iinfo(np.int8).max if operation.integer == "int8" else 1
        if reach < LARGEST:
            return Fixed(x.exponent, -reach, reach)
    weights, exponent = integers(real_weight(operation, tensors, channels))
    if np.abs(weights).max() > np.iinfo(np.int16).max:
        raise NotFixedError("its weights are no integers of 16 bits in any unit")
    low, high = np.minimum(weights * x.low, weights * x.high), np.maximum(weights * x.low, weights * x.high)
    sums = [
        np.minimum(low, 0).reshape(len(low), -1).sum(1).min(),
        np.maximum(high, 0).reshape(len(low), -1).sum(1).max(),
    ]
    return Fixed(x.exponent + exponent, int(sums[0]), int(sums[1]))


def _pool(operation: ops.Pool, x: Fixed) -> Fixed:
    if operation.kind == "max":
        return x
    taps = int(np.prod(operation.kernel))
    if operation.kind == "mean":
        raise NotFixedError("a mean is computed in floating point")
    return Fixed(x.exponent, min(0, taps * x.low), max(0, taps * x.high))


def _scaled(x: Fixed, values: ops.Array) -> Fixed:
    factors, exponent = integers(values)
    ends = [int(factor) * end for factor in (factors.min(), factors.max()) for end in (x.low, x.high)]
    return Fixed(x.exponent + exponent, min(ends), max(ends))


def in_unit(x: Fixed, exponent: int) -> Fixed:
    """The same values in a unit that is no larger."""
    factor = 2 ** (x.exponent - exponent)
    return Fixed(exponent, x.low * factor, x.high * factor)


def shifted(x: Fixed, offsets: ops.Array) -> Fixed:
    """What x plus any of `offsets` can be."""
    numbers, exponent = integers(offsets)
    unit = min(exponent, x.exponent)
    x, numbers = in_unit(x, unit), numbers * 2 ** (exponent - unit)
    return Fixed(unit, x.low + int(numbers.min()), x.high + int(numbers.max()))


def _clamped(operation: ops.Clamp, x: Fixed) -> Fixed:
    bounds = [bound for bound in (operation.low, operation.high) if bound is not None]
    unit = min(x.exponent, integers(np.array(bounds))[1] if bounds else 0)
    x = in_unit(x, unit)
    low, high = clamp_bounds(operation, x)
    return Fixed(unit, min(max(x.low, low), high), min(max(x.high, low), high))


def clamp_bounds(operation: ops.Clamp, x: Fixed) -> tuple[int, int]:
    """The bounds in the units of x; what x reaches where there is none."""
    low = x.low if operation.low is None else int(np.ldexp(operation.low, -x.exponent))
    high = x.high if operation.high is None else int(np.ldexp(operation.high, -x.exponent))
    return low, high
