"""Integer credit assignment: which neuron should have been the other way for which sample.

Output errors: for a label c other than the true one whose votes come within `margin` of the true label's, the ones in
group c are asked to become 0 and the zeros in the true group to become 1. Backwards, a neuron is asked to follow

    e = sum over the asked neurons j behind it of delta_j w_j,    delta = sign(e) where |e| > error_threshold

Both only where the neuron is near the majority, |agreeing - differing| <= gate: elsewhere one flip changes nothing.
Errors are ternary and lie in two bit planes: `asked` (not 0) and `up` (+1), so that e is one masked popcount.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnnsearch.evolve.forward import count_groups, gather, group_mask, layer_rows
from bnnsearch.evolve.layout import BACK_OFFSET, INPUT_PLACE, INPUTS, OUTPUT_PLACE, OUTPUTS
from bnnsearch.kernels.bits import count_ones
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import Words, gated_layer, transpose


class CreditRule(NamedTuple):
    """Numbers of the rule, all integers.

    Attributes:
        classes: number of labels.
        margin: votes by which the true label should lead every other.
        gate: largest |agreeing - differing| of a neuron that is still asked to change.
        error_threshold: largest |e| of a neuron that is left alone.
    """

    classes: int
    margin: int
    gate: int
    error_threshold: int


class Planes(NamedTuple):
    """Bits of a block of samples, one column per sample, over the places of all neurons: (places, samples) words.

    Attributes:
        value: activations, inputs first.
        near: neurons near the majority.
        up: direction asked for.
        asked: neurons asked to change.
    """

    value: Words
    near: Words
    up: Words
    asked: Words


class Errors(NamedTuple):
    """The transposed planes of the samples that ask for a change: (words of 64 samples, 64 places).

    `total` (64 places,) counts the samples that ask each neuron.
    """

    value: Words
    up: Words
    asked: Words
    total: NDArray[np.int16]


def planes(places: int, samples: int) -> Planes:
    """Empty planes for a multiple of 64 samples."""
    value, near, up, asked = np.zeros((4, places, samples), np.uint64)
    return Planes(value, near, up, asked)


def errors(places: int, samples: int) -> Errors:
    """Empty transposed planes for a multiple of 64 samples."""
    value, up, asked = np.zeros((3, samples // 64, places * 64), np.uint64)
    return Errors(value, up, asked, np.zeros(places * 64, np.int16))


@compiled
def forward_gated(genome: Words, table: NDArray[np.int64], gate: int, block: Planes) -> None:
    """Fill `value` and `near` of all layers from the inputs in `value`."""
    for row in table:
        first, after = row[OUTPUT_PLACE], row[OUTPUT_PLACE] + (row[OUTPUTS] + 63) // 64
        columns = block.value[row[INPUT_PLACE] : row[OUTPUT_PLACE]]
        totals = np.full(columns.shape[1], row[INPUTS], np.int64)
        out = (block.value[first:after], block.near[first:after])
        gated_layer((columns, layer_rows(genome, row)), row[OUTPUTS], (totals, gate), out)


@compiled
def ask_outputs(block: Planes, row: NDArray[np.int64], labels: NDArray[np.int64], rule: CreditRule) -> int:
    """Fill `up` and `asked` of the outputs.

    Args:
        block: `value` and `near` as `forward_gated` leaves them.
        row: last row of the layout's table.
        labels: (samples,); a label below 0 asks for nothing.
        rule: numbers of the rule.

    Returns:
        number of samples classified correctly.
    """
    group = row[OUTPUTS] // rule.classes
    first, after = row[OUTPUT_PLACE], row[OUTPUT_PLACE] + (row[OUTPUTS] + 63) // 64
    value, near, up, asked = (
        block.value[first:after],
        block.near[first:after],
        block.up[first:after],
        block.asked[first:after],
    )
    votes = np.empty((rule.classes, labels.size), np.int16)
    count_groups(value, rule.classes, group, votes)
    hits = 0
    asked[:] = np.uint64(0)
    for sample in range(labels.size):
        label = labels[sample]
        if label < 0:
            continue
        best, wanted = 0, False
        for other in range(rule.classes):
            if votes[other, sample] > votes[best, sample]:
                best = other
            if other != label and votes[label, sample] - votes[other, sample] < rule.margin:
                wanted = True
                for word in range(other * group // 64, (other * group + group - 1) // 64 + 1):
                    asked[word, sample] |= value[word, sample] & group_mask(word, other * group, other * group + group)
        hits += best == label
        if wanted:
            for word in range(label * group // 64, (label * group + group - 1) // 64 + 1):
                asked[word, sample] |= ~value[word, sample] & group_mask(word, label * group, label * group + group)
    for word in range(after - first):
        for sample in range(labels.size):
            asked[word, sample] &= near[word, sample]
            up[word, sample] = ~value[word, sample]
    return hits


@compiled
def keep_asked(block: Planes, place: int, kept: Planes) -> int:
    """Copy the samples that ask for a change at the outputs, from `place` on, to the front of `kept`.

    Returns:
        number of these samples; the rest of the last 64 asks for nothing.
    """
    samples = block.value.shape[1]
    chosen = np.empty(samples, np.int64)
    count = 0
    for sample in range(samples):
        some = np.uint64(0)
        for word in range(place, block.asked.shape[0]):
            some |= block.asked[word, sample]
        if some:
            chosen[count] = sample
            count += 1
    for word in range(block.value.shape[0]):
        for k in range(count):
            kept.value[word, k] = block.value[word, chosen[k]]
            kept.near[word, k] = block.near[word, chosen[k]]
    for word in range(place, block.value.shape[0]):
        for k in range(count):
            kept.up[word, k] = block.up[word, chosen[k]]
            kept.asked[word, k] = block.asked[word, chosen[k]]
        kept.asked[word, count : (count + 63) // 64 * 64] = np.uint64(0)
    return count


@compiled
def propagate(back: Words, table: NDArray[np.int64], threshold: int, block: Planes) -> None:
    """Fill `up` and `asked` of the hidden layers from those of the outputs; `back` holds the transposed weights."""
    for index in range(len(table) - 1, 0, -1):
        row = table[index]
        words = (row[OUTPUTS] + 63) // 64
        inputs = (row[INPUTS] + 7) // 8 * 8
        weights = back[row[BACK_OFFSET] : row[BACK_OFFSET] + inputs * words]
        behind, at, after = row[OUTPUT_PLACE] + words, row[OUTPUT_PLACE], row[INPUT_PLACE]
        mask = block.asked[at:behind]
        totals = np.zeros(mask.shape[1], np.int64)
        for word in range(words):
            for sample in range(mask.shape[1]):
                totals[sample] += count_ones(mask[word, sample])
        out = (block.up[after:at], block.asked[after:at])
        gated_layer((block.up[at:behind], weights, mask), row[INPUTS], (totals, threshold), out)
        near, asked = block.near[after:at], block.asked[after:at]
        for word in range(at - after):
            for sample in range(mask.shape[1]):
                asked[word, sample] = near[word, sample] & ~asked[word, sample]


@compiled
def transpose_kept(kept: Planes, words: int, out: Errors, at: int) -> None:
    """Transpose `words` * 64 samples into the words from `at` on of `out`."""
    for source, target in ((kept.value, out.value), (kept.up, out.up), (kept.asked, out.asked)):
        transpose(source[:, : words * 64], target[at : at + words])


@compiled
def close_gaps(out: Errors, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> int:
    """Move the filled stretches of words together and count who is asked how often.

    Args:
        out: errors, filled in `lengths[k]` words from `starts[k]` on, in ascending order.
        starts: (stretches,).
        lengths: (stretches,).

    Returns:
        number of words filled.
    """
    words = 0
    for stretch in range(starts.size):
        for word in range(starts[stretch], starts[stretch] + lengths[stretch]):
            if words != word:
                out.value[words] = out.value[word]
                out.up[words] = out.up[word]
                out.asked[words] = out.asked[word]
            words += 1
    for place in range(out.total.size):
        total = 0
        for word in range(words):
            total += count_ones(out.asked[word, place])
        out.total[place] = np.int16(total)
    return words


@compiled
def assign_credit(
    network: tuple[Words, Words, NDArray[np.int64]],
    batch: tuple[Words, NDArray[np.int64], NDArray[np.int64]],
    rule: CreditRule,
    blocks: tuple[Planes, Planes],
    out: tuple[Errors, int],
) -> tuple[int, int]:
    """Forward pass, errors and their way back for a share of a mini-batch.

    Args:
        network: genome, transposed genome, layout's table.
        batch: packed rows of all samples, which of them, and the labels of these.
        rule: the rule's numbers.
        blocks: two working spaces for at least so many samples, multiples of 64.
        out: where the transposed errors go, and from which word on.

    Returns:
        correct samples, and samples that ask for a change.
    """
    genome, back, table = network
    rows, picks, labels = batch
    block, kept = blocks
    gather(rows, picks, block.value)
    forward_gated(genome, table, rule.gate, block)
    known = np.full(block.value.shape[1], -1, np.int64)
    known[: labels.size] = labels
    hits = ask_outputs(block, table[-1], known, rule)
    count = keep_asked(block, table[-1, OUTPUT_PLACE], kept)
    width = (count + 63) // 64 * 64
    if count:
        if width < block.value.shape[1]:
            value, near = kept.value[:, :width].copy(), kept.near[:, :width].copy()
            kept = Planes(value, near, kept.up[:, :width].copy(), kept.asked[:, :width].copy())
        propagate(back, table, rule.error_threshold, kept)
        transpose_kept(kept, width // 64, out[0], out[1])
    return hits, count
