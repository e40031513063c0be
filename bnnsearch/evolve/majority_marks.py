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

from bnnsearch.evolve.layout import Layout
from bnnsearch.kernels.bits import count_ones
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import Words, as_columns, majority_layer, padded, transpose, unpack_rows


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
    columns, values = as_columns(rows, 64), []
    for layer, (inputs, outputs) in enumerate(pairwise(layout.sizes)):
        values.append(columns)
        after = np.empty((padded(outputs, 64) // 64, columns.shape[1]), np.uint64)
        majority_layer(columns, layout.layer(genome, layer), (inputs, outputs), after)
        columns = after
    of_label = np.zeros((classes, columns.shape[1] // 64), np.uint64)
    for sample, label in enumerate(labels.tolist()):
        of_label[label, sample >> 6] |= np.uint64(1 << (sample & 63))
    marks = np.zeros_like(genome)
    last = len(values) - 1
    sizes = (layout.sizes[-2], layout.sizes[-1])
    wrong = mark_last(
        layout.layer(genome, last),
        (over_samples(values[-1]), over_samples(columns)),
        of_label,
        (sizes, balanced),
        layout.layer(marks, last),
    )
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
    out = np.empty((columns.shape[1] // 64, columns.shape[0] * 64), np.uint64)
    transpose(columns, out)
    return out


@compiled
def is_half(errors: Words, own: Words, others: Words, balanced: bool) -> bool:
    """Whether `errors` are at least half of the samples, or of both kinds' halves.

    Args:
        errors: bits over samples, (words,).
        own: samples of the output bit's label, (words,).
        others: all other samples, (words,).
        balanced: whether own and others count for one half each.
    """
    own_wrong = others_wrong = own_count = others_count = 0
    for word in range(errors.size):
        own_wrong += count_ones(errors[word] & own[word])
        others_wrong += count_ones(errors[word] & others[word])
        own_count += count_ones(own[word])
        others_count += count_ones(others[word])
    if balanced and own_count > 0 and others_count > 0:
        return own_wrong * others_count + others_wrong * own_count >= own_count * others_count
    return 2 * (own_wrong + others_wrong) >= own_count + others_count


@compiled
def mark_last(
    weights: Words,
    values: tuple[Words, Words],
    of_label: Words,
    rule: tuple[tuple[int, int], bool],
    marks: Words,
) -> int:
    """Mark the wrong weights of the last layer.

    Args:
        weights: (outputs rounded up to 8, words).
        values: its inputs and outputs over samples, (words of samples, neurons).
        of_label: samples of each label, (labels, words of samples).
        rule: numbers of inputs and outputs, and whether labels are balanced.
        marks: like `weights`, zero; changed in place.

    Returns:
        number of wrong outputs.
    """
    inputs, outputs = values
    (source_count, output_count), balanced = rule
    wrong = 0
    everyone = np.zeros(of_label.shape[1], np.uint64)
    for samples in of_label:
        everyone |= samples
    for output in range(output_count):
        own = of_label[output * of_label.shape[0] // output_count]
        others, value = everyone & ~own, outputs[:, output]
        errors = (value ^ own) & everyone
        if not is_half(errors, own, others, balanced):
            continue
        wrong += 1
        for source in range(source_count):
            bit = np.uint64(source & 63)
            weight = np.uint64(0) - ((weights[output, source >> 6] >> bit) & np.uint64(1))
            if is_half(errors & (inputs[:, source] ^ weight ^ value), own, others, balanced):
                marks[output, source >> 6] |= np.uint64(1) << bit
    return wrong
