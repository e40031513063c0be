"""Batch norm, and whatever else stands between a value and its sign, folded into one threshold per channel.

Every operation folded is monotone in float32 as it rounds, so sign(f(x)) changes at one float: the smallest x at
which f(x) >= 0, found by bisection over the floats themselves. That settles ties exactly as the unfolded network does.
Where f falls (gamma < 0) the comparison is reversed. For an integer x the threshold is the next integer above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bnnsearch.packed.graph import Graph
from bnnsearch.packed.operations import (
    LARGEST_SUM,
    Affine,
    Array,
    Clamp,
    Convolution,
    Operation,
    Pool,
    Prelu,
    Scale,
    Shape,
    Shift,
    Threshold,
)

Reals = NDArray[np.float32]
Tensors = Mapping[str, Array]
Monotone = Affine | Scale | Shift | Clamp | Prelu


def fold_thresholds(graph: Graph, tensors: Tensors) -> tuple[Graph, dict[str, Array]]:
    """Move every threshold up to the first value it can be taken of; what nobody reads any more is left out.

    Returns:
        The graph and the tensors it uses.
    """
    makers = {operation.name: operation for operation in graph.operations}
    users = graph.users()
    shapes = graph.shapes()
    kept: dict[str, Array] = dict(tensors)
    operations: list[Operation] = []
    for operation in graph.operations:
        if not isinstance(operation, Threshold):
            operations.append(operation)
            continue
        chain = _chain(operation, makers, users, kept)
        source = chain[0].input if chain else operation.input
        level, falling = _level(chain, _levels(operation, kept), shapes[source].channels, kept)
        if counting := _counting(source, makers):
            bound = _largest_sum(counting, shapes) + 1
            level = np.clip(np.ceil(level), -bound, bound).astype(np.int32)
        folded = Threshold(name=operation.name, input=source, reverses=bool(falling.any()), real=operation.real)
        if (level == level[0]).all():
            folded = folded.model_copy(update={"level": float(level[0])})
        else:
            kept[folded.name] = level
        if folded.reverses:
            kept[folded.reversed_name] = falling.astype(np.uint8)
        operations.append(folded)
    return _pruned(graph, operations, kept)


def _counting(source: str, makers: Mapping[str, Operation]) -> Convolution | None:
    """The convolution whose whole sums, or the largest of some, are the value `source`; None where it is no such."""
    maker = makers.get(source)
    while isinstance(maker, Pool) and maker.kind == "max":
        maker = makers.get(maker.input)
    return maker if isinstance(maker, Convolution) and maker.counts else None


def _largest_sum(counting: Convolution, shapes: Mapping[str, Shape]) -> int:
    """What no sum exceeds in magnitude."""
    return LARGEST_SUM if counting.integer else math.prod(counting.kernel) * shapes[counting.input].channels


def _levels(operation: Threshold, tensors: Tensors) -> Reals:
    stored = tensors[operation.name] if operation.level is None else np.array([operation.level])
    return stored.astype(np.float32)


def _chain(
    threshold: Threshold, makers: Mapping[str, Operation], users: Mapping[str, Sequence[Operation]], tensors: Tensors
) -> list[Monotone]:
    """The monotone operations before the threshold that nobody else needs, first one first."""
    chain: list[Monotone] = []
    name = threshold.input
    while len(users[name]) == 1:
        maker = makers.get(name)
        if not isinstance(maker, Affine | Scale | Shift | Clamp | Prelu):
            break
        if isinstance(maker, Prelu) and (tensors[maker.name].astype(np.float32) < 0).any():
            break
        chain.append(maker)
        name = maker.input
    return chain[::-1]


def apply(operation: Monotone, x: Reals, tensors: Tensors) -> Reals:
    """`operation` on x (channels,) or (n, channels), rounding as the kernels do."""
    match operation:
        case Affine():
            scale, offset = tensors[operation.name].astype(np.float64)
            return np.asarray(x * scale + offset, np.float32)  # exact product; rounded once, but for double rounding
        case Scale():
            return x * tensors[operation.name].astype(np.float32)
        case Shift():
            return x + tensors[operation.name].astype(np.float32)
        case Prelu():
            return np.where(x > 0, x, x * tensors[operation.name].astype(np.float32))
        case Clamp():
            low = np.float32(-np.inf if operation.low is None else operation.low)
            high = np.float32(np.inf if operation.high is None else operation.high)
            return np.minimum(np.maximum(x, low), high)


def _level(chain: Sequence[Monotone], level: Reals, channels: int, tensors: Tensors) -> tuple[Reals, NDArray[np.bool_]]:
    """Per channel the smallest x where the answer is that of large x, and whether that answer is -1.

    The answer is +1 where chain(x) >= level.
    """
    if not chain:
        return level, np.zeros(level.shape, np.bool_)

    def answer(order: NDArray[np.int64]) -> NDArray[np.bool_]:
        x = _float_at(order)
        with np.errstate(over="ignore"):
            for operation in chain:
                x = apply(operation, x, tensors)
        return np.broadcast_to(x >= level, (channels,))

    low, high = (np.full(channels, _order_of(bound), np.int64) for bound in (-3.0e38, 3.0e38))
    at_high = answer(high)
    constant = answer(low) == at_high
    while (high - low).max() > 1:
        middle = (low + high) // 2
        reached = answer(middle) == at_high
        high, low = np.where(reached, middle, high), np.where(reached, low, middle)
    lowest = np.full(channels, np.finfo(np.float32).min, np.float32)
    return np.where(constant, lowest, _float_at(high)), ~at_high


def _order_of(value: float) -> int:
    """The place of a float32 among all of them, 0 at zero."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float_at(order: NDArray[np.int64]) -> Reals:
    """The inverse of `_order_of`."""
    magnitude = np.abs(order).astype(np.int32).view(np.float32)
    return np.where(order < 0, -magnitude, magnitude).astype(np.float32)


def _pruned(graph: Graph, operations: Sequence[Operation], tensors: Tensors) -> tuple[Graph, dict[str, Array]]:
    """Without operations that lead nowhere and tensors that nobody uses."""
    needed, kept = {graph.output}, []
    for operation in reversed(operations):
        if operation.name in needed:
            kept.append(operation)
            needed.update(operation.inputs)
    used = [name for operation in kept for name in operation.tensors]
    return graph.model_copy(update={"operations": tuple(kept[::-1])}), {name: tensors[name] for name in used}
