"""Scoring networks that differ from one parent by a few flips: update kept counts instead of a forward pass.

Kept are every neuron's Hamming distance for every sample, and every sample's votes. A flipped weight changes the
distance of one neuron by one; only where that crosses the majority do the neurons behind it see a change, again of one.
For each child the flips are done, the score is read, the flips are undone: exact for any number of flips and layers.

Samples come in blocks whose counts stay in the second-level cache while all children pass over them. Distances of the
first layer lie side by side for all samples of a block, since a flip there touches them all; those of later layers lie
side by side for all neurons, since a changed activation touches all of these. Both are rounded up to multiples of 64.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnnsearch.evolve.forward import count_groups, group_mask, judge, layer_rows
from bnnsearch.evolve.layout import INPUT_WORDS, INPUTS, OFFSET, OUTPUTS, Layout
from bnnsearch.kernels.bits import count_ones, lowest_one
from bnnsearch.kernels.counting import GROUP, step_distances
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import Words, distances, majority_layer, padded, unpack_rows

Signs = NDArray[np.int8]
Counts = NDArray[np.int16]
Integers = NDArray[np.int64]

NEVER = 32767
"""Distance of a neuron that does not exist: no majority reaches it."""

HITS, LEADS, UPDATES = range(3)
"""Entries of `Kept.totals`: correct samples, sum of the clipped leads, counts updated so far."""


class Kept(NamedTuple):
    """What is kept of the parent on a block of samples, or, with a first axis of blocks, on many.

    Attributes:
        inputs: input bits as +-1, each (samples,), one after the other.
        first: distances of the first layer, each neuron's (samples,), one after the other.
        deep: distances of the later layers, one layer after the other, each (samples, neurons).
        votes: (samples, classes).
        labels: (samples,); -1 where there is no sample.
        judged: whether each sample is correct, and its clipped lead, (samples, 2).
        totals: see above.
        signs: the parent's weights of the later layers as +-1, one layer after the other, each (inputs, neurons); 0 in
            the padding. Blocks share this and what follows.
        places: start of each layer in `deep` and in `signs`, and its rounded number of neurons, (layers, 3).
        groups: word of output bits and label, for every label that has bits in a word, (groups, 2).
        group_masks: these bits, (groups,).
    """

    inputs: Signs
    first: Counts
    deep: Counts
    votes: Counts
    labels: Integers
    judged: Integers
    totals: Integers
    signs: Signs
    places: Integers
    groups: Integers
    group_masks: Words


def keep(layout: Layout, columns: Words, labels: Integers, classes: int) -> Kept:
    """Room for the counts of blocks of samples: columns (blocks, words, samples) and labels (blocks, samples)."""
    blocks, _, size = columns.shape
    widths = [padded(outputs, GROUP) for outputs in layout.sizes[1:]]
    deep = np.cumsum([0, 0, *(size * width for width in widths[1:])])
    signs = np.cumsum([0, 0, *(inputs * width for inputs, width in zip(layout.sizes[1:-1], widths[1:], strict=True))])
    bits = layout.sizes[-1] // classes
    groups = [
        (word, label)
        for word in range(widths[-1] // GROUP)
        for label in range(classes)
        if label * bits < (word + 1) * GROUP and (label + 1) * bits > word * GROUP
    ]
    rows = columns.transpose(0, 2, 1).reshape(blocks * size, -1)
    pixels = unpack_rows(rows, layout.sizes[0]).reshape(blocks, size, -1)
    return Kept(
        inputs=as_signs(pixels.transpose(0, 2, 1)).reshape(blocks, -1),
        first=np.zeros((blocks, layout.sizes[1] * size), np.int16),
        deep=np.zeros((blocks, deep[-1]), np.int16),
        votes=np.zeros((blocks, size, classes), np.int16),
        labels=labels,
        judged=np.zeros((blocks, size, 2), np.int64),
        totals=np.zeros((blocks, 3), np.int64),
        signs=np.zeros(signs[-1], np.int8),
        places=np.stack([deep[:-1], signs[:-1], widths], axis=1),
        groups=np.array(groups, np.int64),
        group_masks=np.array(
            [group_mask(word, label * bits, label * bits + bits) for word, label in groups], np.uint64
        ),
    )


def as_signs(bits: NDArray[np.bool_]) -> Signs:
    """+-1 of bits, contiguous."""
    return np.ascontiguousarray(bits).astype(np.int8) * np.int8(2) - np.int8(1)


def rebuild(kept: Kept, layout: Layout, columns: Words, genome: Words, margin: int) -> None:
    """Fill `kept` by a forward pass of `genome` over the blocks it was made for."""
    for layer, (inputs, outputs) in enumerate(pairwise(layout.sizes)):
        if layer > 0:
            _, place, width = kept.places[layer]
            signs = kept.signs[place : place + inputs * width].reshape(inputs, width)
            signs[:, :outputs] = as_signs(unpack_rows(layout.layer(genome, layer)[:outputs], inputs)).T
    for index in range(len(columns)):
        fill_block(block_of(kept, index), layout.table, columns[index], genome, margin)


@compiled
def block_of(kept: Kept, index: int) -> Kept:
    """One block; its arrays are views."""
    return Kept(
        kept.inputs[index],
        kept.first[index],
        kept.deep[index],
        kept.votes[index],
        kept.labels[index],
        kept.judged[index],
        kept.totals[index],
        kept.signs,
        kept.places,
        kept.groups,
        kept.group_masks,
    )


@compiled
def fill_block(block: Kept, table: Integers, columns: Words, genome: Words, margin: int) -> None:
    """Count a block's distances and votes by a forward pass and judge its samples."""
    values, size = columns, columns.shape[1]
    for layer in range(table.shape[0]):
        inputs, outputs, weights = table[layer, INPUTS], table[layer, OUTPUTS], layer_rows(genome, table[layer])
        counts = np.empty(((outputs + 7) // 8 * 8, size), np.int16)
        distances(values, weights, counts)
        if layer == 0:
            for neuron in range(outputs):
                block.first[neuron * size : neuron * size + size] = counts[neuron]
        else:
            place, width = block.places[layer, 0], block.places[layer, 2]
            block.deep[place : place + size * width] = NEVER
            for sample in range(size):
                at = place + sample * width
                block.deep[at : at + outputs] = counts[:outputs, sample]
        after = np.empty(((outputs + 63) // 64, size), np.uint64)
        majority_layer(values, weights, (inputs, outputs), after)
        values = after
    classes = block.votes.shape[1]
    votes = np.empty((classes, size), np.int16)
    count_groups(values, classes, table[-1, OUTPUTS] // classes, votes)
    block.votes[:] = votes.T
    block.judged[:] = 0
    block.totals[HITS] = 0
    block.totals[LEADS] = 0
    for sample in range(size):
        rejudge(block, sample, margin)


@compiled
def rejudge(block: Kept, sample: int, margin: int) -> None:
    """Bring a sample's correctness and lead up to date with its votes."""
    if block.labels[sample] < 0:
        return
    hit, lead = judge(block.votes[sample], block.labels[sample])
    lead = max(-margin, min(margin, lead))
    block.totals[HITS] += hit - block.judged[sample, 0]
    block.totals[LEADS] += lead - block.judged[sample, 1]
    block.judged[sample, 0] = hit
    block.judged[sample, 1] = lead


@compiled
def spread(block: Kept, table: Integers, sample: int, layer: int, change: tuple[int, int]) -> list[tuple[int, int]]:
    """Carry one changed activation of one sample through the layers from `layer` to the last but one.

    Args:
        block: brought up to date.
        table: the layout's.
        sample: which one.
        layer: weight layer whose input changed.
        change: the input, and its new sign.

    Returns:
        inputs of the last layer that changed, and their new signs.
    """
    changes = [change]
    for index in range(layer, table.shape[0] - 1):
        place, sign_place, width = block.places[index]
        half = table[index, INPUTS] >> 1
        block.totals[UPDATES] += len(changes) * width
        behind = [change][:0]
        for first in range(0, width, GROUP):
            at = place + sample * width + first
            before = after = np.uint64(0)
            for turn in range(len(changes)):
                source, sign = changes[turn]
                sign_at = sign_place + source * width + first
                was, after = step_distances(block.deep, at, block.signs, sign_at, (-sign, half))
                before = was if turn == 0 else before
            crossed = before ^ after
            while crossed:
                bit = lowest_one(crossed)
                behind.append((first + bit, 1 if (after >> np.uint64(bit)) & np.uint64(1) else -1))
                crossed &= crossed - np.uint64(1)
        changes = behind
    return changes


@compiled
def change_samples(
    block: Kept, table: Integers, layer: int, changes: tuple[int, int, np.uint64, np.uint64], margin: int
) -> None:
    """Carry a changed activation of several samples to their votes and judge these samples.

    Args:
        block: brought up to date.
        table: the layout's.
        layer: weight layer whose input changed.
        changes: the input, the first of 64 samples, the bits of those where it changed, and its new values.
        margin: where leads are clipped.
    """
    neuron, first, crossed, now = changes
    last = table.shape[0] - 1
    half, width = table[last, INPUTS] >> 1, block.places[last, 2]
    deep, signs, groups = block.deep, block.signs, block.groups
    while crossed:
        bit = lowest_one(crossed)
        crossed &= crossed - np.uint64(1)
        change = (neuron, 1 if (now >> np.uint64(bit)) & np.uint64(1) else -1)
        inputs = [change] if layer == last else spread(block, table, first + bit, layer, change)
        votes, at = block.votes[first + bit], block.places[last, 0] + (first + bit) * width
        for source, sign in inputs:
            sign_at, current = block.places[last, 1] + source * width, -1
            before = after = np.uint64(0)
            for index in range(groups.shape[0]):
                word, label = groups[index, 0], groups[index, 1]
                if word != current:
                    current = word
                    before, after = step_distances(
                        deep, at + word * GROUP, signs, sign_at + word * GROUP, (-sign, half)
                    )
                mask = block.group_masks[index]
                votes[label] += count_ones(after & mask) - count_ones(before & mask)
        block.totals[UPDATES] += len(inputs) * width
        rejudge(block, first + bit, margin)


@compiled
def flip_first(block: Kept, table: Integers, weight: tuple[int, int], sign: int, margin: int) -> None:
    """Flip a weight (neuron, input) of the first layer, whose value is `sign`."""
    neuron, source = weight
    samples, half = block.labels.size, table[0, INPUTS] >> 1
    block.totals[UPDATES] += samples
    for first in range(0, samples, GROUP):
        at, source_at = neuron * samples + first, source * samples + first
        was, now = step_distances(block.first, at, block.inputs, source_at, (sign, half))
        if was != now:
            change_samples(block, table, 1, (neuron, first, was ^ now, now), margin)


@compiled
def flip_deep(block: Kept, table: Integers, layer: int, weight: tuple[int, int], margin: int) -> None:
    """Flip a weight (neuron, input) of a later layer; also in `signs`."""
    neuron, source = weight
    samples, half, half_before = block.labels.size, table[layer, INPUTS] >> 1, table[layer - 1, INPUTS] >> 1
    place, sign_place, width = block.places[layer]
    sign = block.signs[sign_place + source * width + neuron]
    block.signs[sign_place + source * width + neuron] = -sign
    block.totals[UPDATES] += samples
    before, step, inputs = source * samples, 1, block.first
    if layer > 1:
        before, step, inputs = block.places[layer - 1, 0] + source, block.places[layer - 1, 2], block.deep
    for sample in range(samples):
        at = place + sample * width + neuron
        old = block.deep[at]
        new = old + sign if inputs[before + sample * step] <= half_before else old - sign
        block.deep[at] = new
        if (old <= half) != (new <= half):
            change = 1 if new <= half else -1
            if layer == table.shape[0] - 1:
                block.votes[sample, neuron // (table[layer, OUTPUTS] // block.votes.shape[1])] += change
                rejudge(block, sample, margin)
            else:
                one, now = np.uint64(1), np.uint64(change > 0)
                change_samples(block, table, layer + 1, (neuron, sample, one, now), margin)


@compiled
def weight_at(table: Integers, bit: int) -> tuple[int, int, int]:
    """Layer, neuron and input of the weight at a bit of the genome."""
    word, layer = bit >> 6, 0
    while layer + 1 < table.shape[0] and table[layer + 1, OFFSET] <= word:
        layer += 1
    neuron, column = divmod(word - table[layer, OFFSET], table[layer, INPUT_WORDS])
    return layer, neuron, column * 64 + (bit & 63)


@compiled
def flip(block: Kept, table: Integers, genome: Words, places: Integers, rule: tuple[int, bool]) -> None:
    """Flip the weights at bits `places` of the genome, or flip them back.

    Args:
        block: counts of the network before.
        table: the layout's.
        genome: the parent, which keeps its bits.
        places: bits of the genome, all different.
        rule: the margin, and whether the flips were done before.
    """
    margin, back = rule
    for bit in places:
        layer, neuron, source = weight_at(table, bit)
        if layer == 0:
            is_one = (genome[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) == np.uint64(1)
            flip_first(block, table, (neuron, source), 1 if is_one != back else -1, margin)
        else:
            flip_deep(block, table, layer, (neuron, source), margin)


@compiled
def score_children(
    kept: Kept, table: Integers, genome: Words, children: tuple[Integers, Integers], margin: int
) -> Integers:
    """Correct samples and summed leads of children of the kept parent, (children, 2).

    Args:
        kept: counts of `genome`; the same afterwards.
        table: the layout's.
        genome: the parent.
        children: bits that they flip, one child's after the other's, and where each child's begin and end,
            (children + 1,).
        margin: where leads are clipped.
    """
    places, starts = children
    scores = np.zeros((starts.size - 1, 2), np.int64)
    for index in range(kept.labels.shape[0]):
        block = block_of(kept, index)
        for child in range(starts.size - 1):
            mine = places[starts[child] : starts[child + 1]]
            flip(block, table, genome, mine, (margin, False))
            scores[child, 0] += block.totals[HITS]
            scores[child, 1] += block.totals[LEADS]
            flip(block, table, genome, mine[::-1].copy(), (margin, True))
    return scores


@compiled
def adopt_child(kept: Kept, table: Integers, genome: Words, places: Integers, margin: int) -> None:
    """Make the child of `genome` that flips the bits `places` the kept parent."""
    for index in range(kept.labels.shape[0]):
        if index > 0:
            toggle_signs(kept, table, places)  # blocks share them
        flip(block_of(kept, index), table, genome, places, (margin, False))


@compiled
def toggle_signs(kept: Kept, table: Integers, places: Integers) -> None:
    """Flip weights of the later layers in `signs` only."""
    for bit in places:
        layer, neuron, source = weight_at(table, bit)
        if layer > 0:
            kept.signs[kept.places[layer, 1] + source * kept.places[layer, 2] + neuron] *= -1
