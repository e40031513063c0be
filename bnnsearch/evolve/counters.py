"""Integer inertia: every weight has a counter that the errors push, and flips when the counter has crossed far enough.

H += sum over the batch of delta_j x_i,  clipped to [-limit, limit];   w = +1 once H > band, -1 once H < -band
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bnnsearch.evolve.credit import Errors
from bnnsearch.evolve.layout import (
    BACK_OFFSET,
    COUNTER_OFFSET,
    INPUT_PLACE,
    INPUT_WORDS,
    INPUTS,
    OFFSET,
    OUTPUT_PLACE,
    OUTPUTS,
    Layout,
)
from bnnsearch.kernels.bits import lowest_one
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import Words, padded, unpack_rows
from bnnsearch.kernels.popcount_tile import COLUMNS, ROWS, Where, tile_votes


def no_counters(layout: Layout) -> NDArray[np.int16]:
    """Zero counters, laid out as `start_counters` has them."""
    return np.zeros(
        sum(padded(inputs, 8) * padded(outputs, 16) for inputs, outputs in pairwise(layout.sizes)), np.int16
    )


def start_counters(layout: Layout, genome: Words, generator: np.random.Generator, magnitude: int) -> NDArray[np.int16]:
    """Counters whose signs are the genome's bits and whose magnitudes are random in 1..`magnitude`; 0 in the padding.

    Returns:
        all layers' counters one after the other, each (inputs rounded up to 8, outputs rounded up to 16).
    """
    parts = []
    for index, (inputs, outputs) in enumerate(pairwise(layout.sizes)):
        counters = np.zeros((padded(inputs, 8), padded(outputs, 16)), np.int16)
        bits = unpack_rows(layout.layer(genome, index)[:outputs], inputs).T
        signs = bits.astype(np.int16) * np.int16(2) - np.int16(1)
        counters[:inputs, :outputs] = signs * generator.integers(1, magnitude + 1, (inputs, outputs), np.int16)
        parts.append(counters.ravel())
    return np.concatenate(parts)


@compiled
def move_counters(
    weights: tuple[Words, Words, NDArray[np.int16]],
    row: NDArray[np.int64],
    batch: tuple[Errors, int],
    span: tuple[int, int],
    bounds: NDArray[np.int16],
) -> int:
    """Push one layer's counters by the votes of a batch and flip the weights whose counter crossed the band.

    Args:
        weights: genome, transposed genome and counters of the network; changed in place.
        row: the layer's row of the layout's table.
        batch: errors and how many words of 64 samples they fill.
        span: inputs first <= i < last whose weights move; multiples of 64, so that two threads share no word.
        bounds: limit and band.

    Returns:
        number of flips.
    """
    genome, back, counters = weights
    error, words = batch
    outputs, output_words = row[OUTPUTS], (row[OUTPUTS] + 63) // 64
    width, step = (outputs + 15) // 16 * 16, error.value.shape[1]
    crossed = np.empty(ROWS, np.uint32)
    flips = 0
    for first in range(span[0], min(span[1], row[INPUTS]), ROWS):
        for column in range(0, width, COLUMNS):
            at = row[OUTPUT_PLACE] * 64 + column
            where = Where(at, step, row[INPUT_PLACE] * 64 + first, step, 1, words)
            place = row[COUNTER_OFFSET] + first * width + column
            tile_votes(
                (error.up, error.value, error.asked), where, (counters, place, width, error.total, bounds), crossed
            )
            for i in range(first, min(first + ROWS, row[INPUTS])):
                word = row[BACK_OFFSET] + i * output_words + (column >> 6)
                shift = np.uint64(column & 63)
                rises, falls = np.uint64(crossed[i - first] & 0xFFFF), np.uint64(crossed[i - first] >> 16)
                old = (back[word] >> shift) & np.uint64(0xFFFF)
                changed = ((old | rises) & ~falls) ^ old
                if changed:
                    back[word] ^= changed << shift
                    for j in range(COLUMNS):
                        if (changed >> np.uint64(j)) & np.uint64(1):
                            target = row[OFFSET] + (column + j) * row[INPUT_WORDS] + (i >> 6)
                            genome[target] ^= np.uint64(1) << np.uint64(i & 63)
                            flips += 1
    return flips


@compiled
def transpose_changes(genomes: tuple[Words, Words], table: NDArray[np.int64], back: Words) -> None:
    """Turn the transpose of the first genome, `back`, into that of the second, which differs in few weights."""
    old, new = genomes
    for row in table:
        words, output_words = row[INPUT_WORDS], (row[OUTPUTS] + 63) // 64
        for neuron in range(row[OUTPUTS]):
            for word in range(words):
                place = row[OFFSET] + neuron * words + word
                differ = old[place] ^ new[place]
                while differ:
                    source = word * 64 + lowest_one(differ)
                    back[row[BACK_OFFSET] + source * output_words + (neuron >> 6)] ^= np.uint64(1) << np.uint64(
                        neuron & 63
                    )
                    differ &= differ - np.uint64(1)
