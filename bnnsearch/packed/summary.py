"""A network layer by layer: what comes out, how many bits its weights have, what they weigh, what they multiply."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnnsearch.packed.graph import expected_tensors
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.operations import Convolution


@dataclass(frozen=True, slots=True)
class Line:
    """A layer.

    Attributes:
        name: in the network.
        kind: of layer.
        shape: (C, H, W) of its output for one image, or (C,).
        weights: how many it has.
        bits: of each; 0 where it has none.
        bytes: of all its arrays.
        macs: multiply-accumulates for one image.
        arithmetic: of these: `binary` (XNOR and count), `integer` or `float32`; empty where there are none.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    bits: int
    bytes: int
    macs: int
    arithmetic: str


def packed_lines(model: PackedModel) -> list[Line]:
    """The operations of a packed network; the bytes are those of its file's arrays."""
    shapes = model.graph.shapes()
    lines = []
    for operation in model.graph.operations:
        shape = shapes[operation.name]
        arrays = [model.tensors[name] for name in expected_tensors(operation, shapes)]
        weights = macs = bits = 0
        arithmetic = ""
        if isinstance(operation, Convolution):
            weights = shape.channels * math.prod(operation.kernel) * shapes[operation.input].channels
            macs = weights * shape.height * shape.width
            bits = (
                1
                if operation.binary or operation.integer == "bits"
                else 8
                if operation.int8 or operation.integer
                else 32
            )
            arithmetic = "binary" if operation.binary else "integer" if operation.counts else "float32"
        size = sum(array.nbytes for array in arrays)
        lines.append(Line(operation.name, operation.op, tuple(shape), weights, bits, size, macs, arithmetic))
    return lines
