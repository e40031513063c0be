"""What is made of a network once, whatever the batch: its stages, and its weights as the kernels read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import padded
from bnnsearch.packed.graph import INPUT, Graph
from bnnsearch.packed.kernels import LANES
from bnnsearch.packed.layout import (
    binary_lanes,
    border_bases,
    filter_bits,
    octet_table,
    real_bytes,
    real_lanes,
)
from bnnsearch.packed.operations import Array, Convolution, Flatten, Shape
from bnnsearch.packed.schedule import Schedule, schedule


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network as stages with weights in lanes.

    Attributes:
        image_channels: floats per pixel of the input map: as many as there are where only real convolutions read it.
        octets: what each octet of the image becomes, (C, 256).
        weights: filters of each convolution, as the kernels read them.
        bases: of each binary convolution, see `layout.border_bases`.
        kept: values whose place in memory is not used again.
    """

    graph: Graph
    tensors: Mapping[str, Array]
    shapes: dict[str, Shape]
    schedule: Schedule
    image_channels: int
    octets: NDArray[np.float32]
    kept: frozenset[str]
    weights: dict[str, Array] = field(default_factory=dict)
    bases: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=dict)

    @property
    def image_bytes(self) -> int:
        """Bytes of the largest real value of one image."""
        sizes = [real_bytes(shape.channels) * shape.height * shape.width for shape in self.shapes.values()]
        return max(sizes)


def prepare(graph: Graph, tensors: Mapping[str, Array], *, keep: Iterable[str] = ()) -> Prepared:
    """Gather the operations into stages and lay the weights out; the real values `keep` can be read after a run."""
    shapes = graph.shapes()
    users = [user for user in graph.users()[INPUT] if not isinstance(user, Flatten)]
    channels = shapes[INPUT].channels
    if not all(isinstance(user, Convolution) for user in users):
        channels = padded(channels, LANES)
    stages = schedule(graph)
    stages.stored.update(map(stages.source_of, keep))
    kept = frozenset(map(stages.source_of, (*keep, graph.output)))
    prepared = Prepared(graph, tensors, shapes, stages, channels, octet_table(graph.images), kept)
    for operation in graph.operations:
        if isinstance(operation, Convolution):
            _add_weights(prepared, operation)
    return prepared


def real_weight(operation: Convolution, tensors: Mapping[str, Array], channels: int) -> NDArray[np.float32]:
    """The filters (out, height, width, in) on `channels` real values; int8 ones multiplied by their scale."""
    if operation.integer == "bits":
        bits = filter_bits(operation, tensors[operation.name].astype(np.uint64), channels)
        return np.where(bits, np.float32(1), np.float32(-1))
    weight = tensors[operation.name].astype(np.float32)
    return weight * tensors[f"{operation.name}.scale"].reshape(-1, 1, 1, 1) if operation.int8 else weight


def _add_weights(prepared: Prepared, operation: Convolution) -> None:
    source, out = prepared.shapes[operation.input], prepared.shapes[operation.name]
    if not operation.binary:
        weight = real_weight(operation, prepared.tensors, source.channels)
        lanes = prepared.image_channels if operation.input == INPUT else padded(source.channels, LANES)
        prepared.weights[operation.name] = real_lanes(weight, lanes)
        return
    bits = filter_bits(operation, prepared.tensors[operation.name].astype(np.uint64), source.channels)
    prepared.weights[operation.name] = binary_lanes(bits)
    prepared.bases[operation.name] = border_bases(operation, bits, source, out)
