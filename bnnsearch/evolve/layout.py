"""Where the bits of an XOR network lie: all weights in one flat array of words, its genome.

Neurons of every layer, the inputs being layer 0, also have one place each among all neurons of the network, every layer
starting at a multiple of 64; activations of a block of samples are columns over these places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words, pack_rows, padded, unpack_rows
from bnnsearch.core.cost import LayerCost, ModelCost
from bnnsearch.evolve import kernels

OFFSET, INPUTS, OUTPUTS, INPUT_WORDS, INPUT_PLACE, OUTPUT_PLACE, BACK_OFFSET, COUNTER_OFFSET = range(8)
"""Columns of `Layout.table`; places count words of 64 neurons."""


@dataclass(frozen=True)
class Layout:
    """Sizes of the layers, inputs first, outputs last, and what follows from them."""

    sizes: tuple[int, ...]

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """One row per weight layer, columns as named above, for the kernels."""
        rows = []
        offset = back = counter = place = 0
        for inputs, outputs in pairwise(self.sizes):
            words, output_words = padded(inputs, 64) // 64, padded(outputs, 64) // 64
            rows.append((offset, inputs, outputs, words, place, place + words, back, counter))
            offset += padded(outputs, 8) * words
            back += padded(inputs, 8) * output_words
            counter += padded(inputs, 8) * padded(outputs, 16)
            place += words
        return np.array(rows, np.int64)

    @cached_property
    def words(self) -> int:
        """Length of the genome in words."""
        return sum(padded(outputs, 8) * (padded(inputs, 64) // 64) for inputs, outputs in pairwise(self.sizes))

    @cached_property
    def weights(self) -> int:
        """Number of weights."""
        return sum(inputs * outputs for inputs, outputs in pairwise(self.sizes))

    @cached_property
    def neuron_words(self) -> int:
        """Words of 64 neurons that all layers take, inputs included."""
        return sum(padded(size, 64) // 64 for size in self.sizes)

    @cached_property
    def mask(self) -> Words:
        """Genome-shaped words with a 1 wherever there is a weight: 0 in the padding."""
        mask = np.zeros(self.words, np.uint64)
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            row = np.full(padded(inputs, 64) // 64, ~np.uint64(0))
            if inputs % 64:
                row[-1] = np.uint64((1 << inputs % 64) - 1)
            self.layer(mask, layer)[:outputs] = row
        return mask

    def layer(self, genome: Words, index: int) -> Words:
        """View of one layer's weights in a genome: (outputs rounded up to 8, input words)."""
        row = self.table[index]
        rows, words = padded(int(row[OUTPUTS]), 8), int(row[INPUT_WORDS])
        return genome[int(row[OFFSET]) : int(row[OFFSET]) + rows * words].reshape(rows, words)

    def places(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Bits of the genome where weights lie that are numbered layer by layer, neuron by neuron."""
        places = np.empty_like(weights)
        kernels.weight_places(self.table, weights, weights.size, places)
        return places

    def transposed(self, genome: Words) -> Words:
        """The weights of every layer transposed, (inputs rounded up to 8, output words), one after the other."""
        parts = []
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            bits = np.zeros((padded(inputs, 8), outputs), np.bool_)
            bits[:inputs] = unpack_rows(self.layer(genome, layer)[:outputs], inputs).T
            parts.append(pack_rows(bits).ravel())
        return np.concatenate(parts)

    def change_transposed(self, back: Words, old: Words, now: Words) -> None:
        """Turn `back`, the transpose of `old`, into that of `now`, which differs in few weights."""
        kernels.transpose_changes(self.table, len(self.table), old, now, back)

    def random(self, generator: np.random.Generator) -> Words:
        """A genome of fair random bits; zero in the padding."""
        return generator.integers(0, 2**64, self.words, np.uint64) & self.mask


def network_cost(layout: Layout) -> ModelCost:
    """The cost of one image: one-bit multiply-accumulates and bits, nothing real; the vote at the end is not counted.

    Inputs are read, hidden neurons written and read, outputs written.
    """
    layers = tuple(
        LayerCost(
            name=f"layer{number}",
            kind="XorLayer",
            out_shape=(outputs,),
            params=inputs * outputs,
            binary_params=inputs * outputs,
            int8_params=0,
            folded_bits=inputs * outputs,
            macs=inputs * outputs,
            mac_bits=1,
            binary=True,
            signed_inputs=True,
            follows_real=False,
            follows_binary=number > 0,
            learns_frozen=False,
        )
        for number, (inputs, outputs) in enumerate(pairwise(layout.sizes))
    )
    alive = max(inputs + outputs for inputs, outputs in pairwise(layout.sizes))
    moved = layout.sizes[0] + 2 * sum(layout.sizes[1:-1]) + layout.sizes[-1]
    return ModelCost(layers, peak_activation_bytes=math.ceil(alive / 8), moved_activation_bits=moved)
