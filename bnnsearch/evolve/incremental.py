"""Scoring networks that differ from one parent by a few flips: update kept counts instead of a forward pass.

Kept are every neuron's Hamming distance for every sample, and every sample's votes. A flipped weight changes the
distance of one neuron by one; only where that crosses the majority do the neurons behind it see a change, again of one.
For each child the flips are done, the score is read, the flips are undone: exact for any number of flips and layers.

Samples come in blocks whose counts stay in the second-level cache while all children pass over them. Distances of the
first layer lie side by side for all samples of a block, since a flip there touches them all; those of later layers lie
side by side for all neurons, since a changed activation touches all of these. Both are rounded up to multiples of 64.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.bits import Words, padded, unpack_rows
from bnnsearch.evolve import kernels
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.samples import Blocks

Integers = NDArray[np.int64]

GROUP = 64
"""Neurons of a layer are rounded up to this many."""

HITS, LEADS, UPDATES = range(3)
"""Columns of `Kept.totals`: correct samples, sum of the clipped leads, counts updated so far."""


class Kept(ctypes.Structure):
    """What is kept of a parent on blocks of samples; the C source says what each field is.

    Args:
        layout: of the parent and its children.
        blocks: samples to score on.
        classes: number of labels.
        margin: where leads are clipped.

    Attributes:
        totals: counts of each block, (blocks, 3).
    """

    _fields_ = (
        ("layers", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("depth", "blocks", "classes", "groups_count", "margin", "deep_size")),
        *((name, ctypes.c_void_p) for name in ("inputs", "first", "deep", "votes", "labels", "judged", "total")),
        *((name, ctypes.c_void_p) for name in ("signs", "places", "groups", "changes")),
        ("changes_size", ctypes.c_int64),
        ("planes", ctypes.c_void_p),
    )

    def __init__(self, layout: Layout, blocks: Blocks, classes: int, margin: int) -> None:
        count, _, size = blocks.columns.shape
        widths = [padded(outputs, GROUP) for outputs in layout.sizes[1:]]
        deep = np.cumsum([0, 0, *(size * width for width in widths[1:])])
        weights = (inputs * width for inputs, width in zip(layout.sizes[1:-1], widths[1:], strict=True))
        signs = np.cumsum([0, 0, *weights])
        groups = label_groups(layout.sizes[-1], classes)
        self.totals = np.zeros((count, 3), np.int64)
        self._columns = blocks.columns
        self._arrays: tuple[NDArray[Any], ...] = (
            layout.table,
            signs_of(blocks.columns, layout.sizes[0]),
            np.zeros((count, layout.sizes[1], size), np.int16),
            np.zeros((count, deep[-1]), np.int16),
            np.zeros((count, size, classes), np.int16),
            blocks.labels,
            np.zeros((count, size, 2), np.int16),
            self.totals,
            np.zeros(signs[-1], np.int8),
            np.stack([deep[:-1], signs[:-1], widths], axis=1),
            groups,
            np.zeros((2, max(layout.sizes[1:])), np.int32),
            np.zeros((2, max(widths) // 64, size), np.uint64),
        )
        layers, *rest, changes, planes = [native.address(array) for array in self._arrays]
        sizes = (len(layout.table), count, classes, len(groups), margin, int(deep[-1]))
        super().__init__(layers, *sizes, *rest, changes, max(layout.sizes[1:]), planes)

    @property
    def updates(self) -> int:
        """Counts updated so far."""
        return int(self.totals[:, UPDATES].sum())

    def rebuild(self, genome: Words) -> None:
        """Make `genome` the parent, by a forward pass."""
        kernels.rebuild(ctypes.byref(self), self._columns, genome)

    def score_children(self, parent: Words, places: Integers, starts: Integers) -> Integers:
        """Correct samples and summed leads of children of the parent, (children, 2).

        Args:
            parent: its genome.
            places: bits that the children flip, one child's after the other's.
            starts: where each child's begin and end, (children + 1,).
        """
        scores = np.empty((len(starts) - 1, 2), np.int64)
        kernels.score_children(ctypes.byref(self), parent, places, starts, len(scores), scores)
        return scores

    def adopt_child(self, parent: Words, places: Integers) -> None:
        """Make the child of `parent` that flips the bits `places` the parent."""
        kernels.adopt_child(ctypes.byref(self), parent, places, len(places))


def label_groups(outputs: int, classes: int) -> Words:
    """Word of output bits, label and the bits of the label in the word, for every label that has some: (groups, 3)."""
    bits = outputs // classes
    groups = []
    for word in range(padded(outputs, 64) // 64):
        for label in range(classes):
            low, high = max(label * bits - word * 64, 0), min((label + 1) * bits - word * 64, 64)
            if low < high:
                groups.append((word, label, (1 << high) - (1 << low)))
    return np.array(groups, np.uint64)


def signs_of(columns: Words, inputs: int) -> NDArray[np.int8]:
    """Input bits as +-1, (blocks, inputs, samples), of columns (blocks, words, samples)."""
    blocks, words, size = columns.shape
    rows = columns.transpose(0, 2, 1).reshape(blocks * size, words)
    bits = unpack_rows(rows, inputs).reshape(blocks, size, inputs).transpose(0, 2, 1)
    return np.ascontiguousarray(bits).astype(np.int8) * np.int8(2) - np.int8(1)
