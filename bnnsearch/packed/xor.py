"""From an evolved network of XOR and majority votes to a packed one.

Its parts all have a packed form: pixels are compared with thresholds, 2 distance <= inputs is dot product >= 0, and the
ones of each label's group are counted by a real layer whose weights are 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bnnsearch.errors import InputError
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.graph import INPUT, Graph, Normalisation
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.operations import (
    Array,
    Clamp,
    Concatenate,
    Convolution,
    Flatten,
    Operation,
    Scale,
    Shift,
    Slice,
    Threshold,
)

if TYPE_CHECKING:
    from bnnsearch.evolve.network import Binarizer, XorNetwork


def pack_xor_network(
    network: XorNetwork,
    *,
    shape: tuple[int, int, int],
    provenance: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    preprocessing: Preprocessing | None = None,
) -> PackedModel:
    """Pack an evolved network; its logits are the votes of each label.

    Args:
        network: the network.
        shape: (C, H, W) of its images.
        provenance: where the model comes from, kept in the file.
        classes: names of the classes, by label; left out, their numbers.
        preprocessing: how image files become its images; left out, they are stretched to `shape`.

    Raises:
        InputError: the network is made for images of another shape.
    """
    if network.binarizer.inputs(shape) != network.sizes[0]:
        raise InputError(f"the network takes {network.sizes[0]} bits, but images of {shape} give another number")
    channels = shape[0]
    images = Normalisation(shape=shape, mean=(0.0,) * channels, std=(1 / 255,) * channels)
    tensors: dict[str, Array] = {}
    operations = _pixels_to_bits(network.binarizer, shape, tensors)
    for number, (words, outputs) in enumerate(zip(network.layers(), network.sizes[1:], strict=True), start=1):
        name, bits = f"layer{number}", operations[-1].name
        tensors[name] = words
        operations.append(Convolution(name=name, input=bits, binary=True, channels=outputs, kernel=(1, 1)))
        if number < len(network.sizes) - 1:
            operations.append(Threshold(name=f"{name}.majority", input=name, level=0.0))
    operations.extend(_votes(network, operations[-1].name, tensors))
    graph = Graph(images=images, operations=tuple(operations), output="votes")
    return PackedModel(graph, tensors, provenance, classes=classes, preprocessing=preprocessing)


def _pixels_to_bits(binarizer: Binarizer, shape: tuple[int, int, int], tensors: dict[str, Array]) -> list[Operation]:
    """The inner pixels, once per threshold, compared half way between octets: they are scaled by 1 but for rounding."""
    channels, height, width = shape
    edge = binarizer.crop
    parts = [
        Slice(input="pixels", first=(channel * height + row) * width + edge, count=width - 2 * edge)
        for _ in binarizer.thresholds
        for channel in range(channels)
        for row in range(edge, height - edge)
    ]
    bits_each = binarizer.inputs(shape) // len(binarizer.thresholds)
    tensors["bits"] = np.repeat(np.array(binarizer.thresholds, np.float32) - np.float32(0.5), bits_each)
    return [
        Flatten(name="pixels", input=INPUT),
        Concatenate(name="inner", parts=tuple(parts)),
        Threshold(name="bits", input="inner"),
    ]


def _votes(network: XorNetwork, name: str, tensors: dict[str, Array]) -> list[Operation]:
    """Ones where the dot product, an integer, is at least 0: clamp(2 (x + 1/2), 0, 1). Then their number per group."""
    tensors["half"], tensors["doubled"] = np.array([0.5], np.float32), np.array([2.0], np.float32)
    groups = np.eye(network.classes, dtype=np.int8).repeat(network.bits_per_label, axis=1)
    tensors["votes"] = groups.reshape(network.classes, 1, 1, -1)
    tensors["votes.scale"] = np.ones(network.classes, np.float32)
    return [
        Shift(name="half", input=name),
        Scale(name="doubled", input="half"),
        Clamp(name="ones", input="doubled", low=0.0, high=1.0),
        Convolution(name="votes", input="ones", binary=False, int8=True, channels=network.classes, kernel=(1, 1)),
    ]
