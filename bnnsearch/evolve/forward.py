"""Forward passes of XOR networks over packed samples, for one network or a whole population."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnsearch.evolve.layout import INPUT_WORDS, INPUTS, OFFSET, OUTPUTS
from bnnsearch.kernels.bits import count_ones
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import Words, majority_layer


@compiled
def gather(rows: Words, picks: NDArray[np.int64], columns: Words) -> None:
    """Lay the rows at `picks` out as columns (words, n), n >= len(picks); the rest stays as it is."""
    for k in range(picks.size):
        for word in range(rows.shape[1]):
            columns[word, k] = rows[picks[k], word]


@compiled
def layer_rows(genome: Words, row: NDArray[np.int64]) -> Words:
    """A layer's weights in a genome, one neuron's after the other; `row` of the layout's table."""
    return genome[row[OFFSET] : row[OFFSET] + (row[OUTPUTS] + 7) // 8 * 8 * row[INPUT_WORDS]]


@compiled
def group_mask(word: int, first: int, last: int) -> np.uint64:
    """The bits of `word` that belong to the elements first <= i < last."""
    low, high = max(first - word * 64, 0), min(last - word * 64, 64)
    ones = ~np.uint64(0)
    return (ones >> np.uint64(64 - (high - low))) << np.uint64(low)


@compiled
def count_groups(plane: Words, classes: int, group: int, votes: NDArray[np.int16]) -> None:
    """Ones in each group of `group` bits of the output columns `plane` (words, n); `votes` is (classes, n)."""
    for label in range(classes):
        counts = votes[label]
        counts[:] = 0
        for word in range(label * group // 64, (label * group + group - 1) // 64 + 1):
            mask = group_mask(word, label * group, label * group + group)
            for column in range(plane.shape[1]):
                counts[column] += np.int16(count_ones(plane[word, column] & mask))


@compiled
def count_votes(genome: Words, table: NDArray[np.int64], columns: Words, classes: int) -> NDArray[np.int16]:
    """Votes (classes, n) of the network for samples given as input columns (words, n)."""
    values = columns
    for row in table:
        out = np.empty(((row[OUTPUTS] + 63) // 64, columns.shape[1]), np.uint64)
        majority_layer(values, layer_rows(genome, row), (row[INPUTS], row[OUTPUTS]), out)
        values = out
    votes = np.empty((classes, columns.shape[1]), np.int16)
    count_groups(values, classes, table[-1, OUTPUTS] // classes, votes)
    return votes


@compiled
def decide(votes: NDArray[np.int16]) -> NDArray[np.int64]:
    """The label with most votes for each column of (classes, n); the lowest one where several have most."""
    labels = np.zeros(votes.shape[1], np.int64)
    for column in range(votes.shape[1]):
        for label in range(1, votes.shape[0]):
            if votes[label, column] > votes[labels[column], column]:
                labels[column] = label
    return labels


@compiled
def judge(votes: NDArray[np.int16], label: int) -> tuple[int, int]:
    """Whether one sample's votes (classes,) decide for `label` (1 or 0), and the label's lead over the best other."""
    # twice the votes, plus one where a tie is lost: labels below this one
    strongest = -1
    for other in range(votes.size):
        rival = 2 * votes[other] + (1 if other < label else 0)
        strongest = max(strongest, rival if other != label else -1)
    return int(2 * votes[label] >= strongest), votes[label] - (strongest >> 1)


@compiled
def score_blocks(
    genome: Words, table: NDArray[np.int64], columns: Words, labels: NDArray[np.int64], rule: tuple[int, int]
) -> tuple[int, int]:
    """Correct samples, and the sum of the true labels' leads clipped to +-margin.

    Args:
        genome: the network's weights.
        table: its layout's.
        columns: (blocks, words, samples) of input bits.
        labels: (blocks, samples); -1 counts for nothing.
        rule: number of labels, and the margin.
    """
    classes, margin = rule
    hits = leads = 0
    for block in range(columns.shape[0]):
        votes = count_votes(genome, table, columns[block], classes)
        for column in range(labels.shape[1]):
            if labels[block, column] >= 0:
                hit, lead = judge(votes[:, column], labels[block, column])
                hits += hit
                leads += max(-margin, min(margin, lead))
    return hits, leads


@compiled
def score_all(
    genomes: Words, table: NDArray[np.int64], columns: Words, labels: NDArray[np.int64], rule: tuple[int, int]
) -> NDArray[np.int64]:
    """`score_blocks` of every genome of (genomes, words): (genomes, 2)."""
    scores = np.empty((genomes.shape[0], 2), np.int64)
    for k in range(genomes.shape[0]):
        scores[k, 0], scores[k, 1] = score_blocks(genomes[k], table, columns, labels, rule)
    return scores


@compiled
def popcount_all(words: Words) -> int:
    """Number of ones in all words."""
    total = 0
    for word in words:
        total += count_ones(word)
    return total
