"""The marks of appendix .3 as its text has them: by majority, without a gate, layer by layer from the last.

    an output bit is wrong             if it differs from its label for at least half of the batch
    a weight of the last layer         if its output bit is, and it helped to make it so for at least half of the batch
    an input of a layer                if most of the weights that leave it are
    a weight of an earlier layer       if its output is

It cannot learn from many labels: an output bit should be 0 for nine samples in ten, so that "wrong for half" ends with
all bits 0 and no weight marked. Balanced, samples of the bit's own label and all others count for one half each.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words, pack_rows, padded, unpack_rows
from bnnsearch.evolve import kernels
from bnnsearch.evolve.layout import Layout


def majority_marks(
    genome: Words, layout: Layout, rows: Words, labels: NDArray[np.int64], rule: tuple[int, bool]
) -> tuple[Words, int]:
    """Mark the wrong weights.

    Args:
        genome: the network.
        layout: of the genome.
        rows: packed inputs of the batch, (n, words).
        labels: (n,).
        rule: number of labels, and whether the bit's own label counts as much as all others.

    Returns:
        genome-shaped words with a 1 for every wrong weight, and the number of wrong output bits.
    """
    classes, balanced = rule
    count = padded(len(rows), 64)
    columns = np.zeros((rows.shape[1], count), np.uint64)
    columns[:, : len(rows)] = rows.T
    values = [columns]
    for row, outputs in zip(layout.table, layout.sizes[1:], strict=True):
        values.append(np.empty((padded(outputs, 64) // 64, count), np.uint64))
        kernels.majority(row, genome, values[-2], count, values[-1])
    of_label = pack_rows(labels == np.arange(classes)[:, None])
    marks = np.zeros_like(genome)
    wrong = kernels.mark_last(
        layout.table[-1], genome, over_samples(values[-2]), over_samples(values[-1]), of_label,
        np.bitwise_or.reduce(of_label), count // 64, classes, balanced, marks,
    )  # fmt: skip
    last = len(layout.table) - 1
    for layer in range(last - 1, -1, -1):
        inputs, outputs = layout.sizes[layer + 1 : layer + 3]
        leaving = unpack_rows(layout.layer(marks, layer + 1)[:outputs], inputs).sum(axis=0)
        layout.layer(marks, layer)[:inputs][2 * leaving > outputs] = layout.layer(layout.mask, layer)[0]
    return marks, wrong


def majority_operations(layout: Layout, images: int, wrong: int) -> int:
    """Bit-operations of `majority_marks`: a forward pass, the inputs of `wrong` output bits, the marks that leave."""
    layers = [inputs * outputs for inputs, outputs in pairwise(layout.sizes)]
    return sum(layers) * images + wrong * layout.sizes[-2] * images + sum(layers[1:])


def over_samples(columns: Words) -> Words:
    """Columns (words, n) of neurons as columns (n / 64, 64 words) of samples."""
    words, count = columns.shape
    out = np.empty((count // 64, words * 64), np.uint64)
    kernels.transpose(columns, words, count // 64, out)
    return out
