"""Integer credit assignment: which neuron should have been the other way for which sample.

Output errors: for a label c other than the true one whose votes come within `margin` of the true label's, the ones in
group c are asked to become 0 and the zeros in the true group to become 1. Backwards, a neuron is asked to follow

    e = sum over the asked neurons j behind it of delta_j w_j,    delta = sign(e) where |e| > error_threshold

Both only where the neuron is near the majority, |agreeing - differing| <= gate: elsewhere one flip changes nothing.
Errors are ternary and lie in two bit planes: `asked` (not 0) and `up` (+1), so that e is one masked popcount.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.bits import Words
from bnnsearch.evolve import kernels
from bnnsearch.evolve.layout import Layout


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


class Errors(ctypes.Structure):
    """Planes of the samples that ask for a change, transposed: (words of 64 samples, 64 places), zero at first.

    Attributes:
        planes: activations, directions asked for (up: 1), and who is asked to change.
        counts: samples that ask each neuron, (64 places,).
    """

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("value", "up", "asked", "total")),
        ("stride", ctypes.c_int64),
    )

    def __init__(self, places: int, samples: int) -> None:
        self.planes = np.zeros((3, samples // 64, places * 64), np.uint64)
        self.counts = np.zeros(places * 64, np.int16)
        super().__init__(*map(native.address, (*self.planes, self.counts)), places * 64)


class Network(NamedTuple):
    """What errors pass through.

    Attributes:
        layout: where the weights lie.
        genome: the weights.
        back: their transpose, `Layout.transposed`.
    """

    layout: Layout
    genome: Words
    back: Words


class Batch(NamedTuple):
    """A share of a mini-batch.

    Attributes:
        rows: packed inputs of all samples, (n, words).
        picks: which of them.
        labels: of these.
    """

    rows: Words
    picks: NDArray[np.int64]
    labels: NDArray[np.int64]


def room(layout: Layout, samples: int, classes: int) -> Words:
    """What `assign_credit` needs to work in for a multiple of 64 samples."""
    return np.zeros(kernels.credit_room(layout.neuron_words, samples, classes), np.uint64)


def assign_credit(
    network: Network, batch: Batch, rule: CreditRule, space: tuple[Words, int], out: tuple[Errors, int]
) -> tuple[int, int]:
    """Forward pass, errors and their way back.

    Args:
        network: as it is now.
        batch: samples.
        rule: the rule's numbers.
        space: `room`, and for how many samples it is.
        out: where the transposed errors go, and from which word on.

    Returns:
        correct samples, and samples that ask for a change.
    """
    (layout, genome, back), (rows, picks, labels) = network, batch
    result = np.zeros(2, np.int64)
    kernels.assign_credit(
        layout.table, len(layout.table), np.array(rule, np.int64), genome, back, rows, picks, labels, len(picks),
        layout.neuron_words, space[1], space[0], ctypes.byref(out[0]), out[1], result,
    )  # fmt: skip
    return int(result[0]), int(result[1])
