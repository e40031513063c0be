"""Forward passes of XOR networks over blocks of 128 packed samples, for one network or a whole population."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.evolve import kernels
from bnnsearch.evolve.layout import Layout


def score(
    genomes: Words, layout: Layout, columns: Words, labels: NDArray[np.int64], rule: tuple[int, int]
) -> NDArray[np.int64]:
    """Correct samples, and the sum of the true labels' leads over the best other, clipped to +-margin.

    Args:
        genomes: (genomes, words).
        layout: of each of them.
        columns: input bits, (blocks, words, 128).
        labels: (blocks, 128); -1 counts for nothing.
        rule: number of labels, and the margin.

    Returns:
        (genomes, 2).
    """
    classes, margin = rule
    table, scores = layout.table, np.empty((len(genomes), 2), np.int64)
    kernels.score(
        table, len(table), genomes, len(genomes), layout.words, columns, labels, len(columns), classes, margin,
        _room(layout, classes), scores,
    )  # fmt: skip
    return scores


def predict(genome: Words, layout: Layout, columns: Words, classes: int) -> NDArray[np.int64]:
    """The label with most votes for each sample, the lowest where several have most.

    Args:
        genome: the network.
        layout: of the genome.
        columns: input bits, (blocks, words, 128).
        classes: number of labels.

    Returns:
        (blocks * 128,).
    """
    table, labels = layout.table, np.empty(len(columns) * 128, np.int64)
    kernels.labels(table, len(table), genome, columns, len(columns), classes, _room(layout, classes), labels)
    return labels


def _room(layout: Layout, classes: int) -> Words:
    return np.empty(kernels.score_room(layout.table, len(layout.table), classes), np.uint64)
