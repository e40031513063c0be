"""The errors of a mini-batch, counted by all threads, and the counters they push."""

from __future__ import annotations

import ctypes
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words, padded
from bnnsearch.evolve import kernels
from bnnsearch.evolve.algorithm import Problem
from bnnsearch.evolve.credit import Batch, CreditRule, Errors, Network, assign_credit, room
from bnnsearch.evolve.layout import Layout

COUNTER_BITS = 16


def credit_operations(layout: Layout, images: int, asked: int) -> int:
    """Bit-operations of counting the errors of `images` and pushing counters by them.

    All images pass forward, those that ask for a change also backward and to the counters; without any of these no
    counter is touched.
    """
    layers = [inputs * outputs for inputs, outputs in pairwise(layout.sizes)]
    counted = sum(layers) * COUNTER_BITS if asked else 0
    return sum(layers) * (images + asked) + sum(layers[1:]) * asked + counted


class Weights(NamedTuple):
    """A network in training: genome, its transpose (`Layout.transposed`), and a counter per weight."""

    genome: Words
    back: Words
    counters: NDArray[np.int16]


class BatchErrors:
    """Working space for mini-batches of one size; every call of `count` replaces the errors of the last.

    Args:
        problem: images, layout, threads.
        rule: the rule's numbers.
        size: images per mini-batch.
    """

    def __init__(self, problem: Problem, rule: CreditRule, *, size: int) -> None:
        self._problem, self._rule = problem, rule
        threads = problem.threads.count
        self._spans = problem.threads.spans(size, 64)
        self._share = padded(-(-size // threads), 64)
        self._rooms = [room(problem.layout, self._share, rule.classes) for _ in range(threads)]
        self._errors = Errors(problem.layout.neuron_words, self._share * threads)
        self._words = 0

    def count(self, weights: Weights, picks: NDArray[np.int64]) -> tuple[int, int]:
        """Count the errors of the training images at `picks`.

        Returns:
            correct images, and images that ask for a change.
        """
        samples, network = self._problem.samples, Network(self._problem.layout, weights.genome, weights.back)
        shares = [
            (
                network,
                Batch(samples.rows, picks[start:end], samples.labels[picks[start:end] % samples.count]),
                self._rule,
                (self._rooms[thread], self._share),
                (self._errors, thread * self._share // 64),
            )
            for thread, (start, end) in enumerate(self._spans)
        ]
        hits, asked = np.array(self._problem.threads.run(assign_credit, shares), np.int64).T
        starts = np.arange(len(shares)) * (self._share // 64)
        self._words = kernels.close_gaps(ctypes.byref(self._errors), starts, (asked + 63) // 64, len(shares))
        return int(hits.sum()), int(asked.sum())

    def push(self, weights: Weights, bounds: NDArray[np.int16]) -> int:
        """Push counters by the errors of the last batch and flip the weights whose counter crossed the band.

        Args:
            weights: changed in place.
            bounds: limit and band of the counters.

        Returns:
            number of flips.
        """
        if self._words == 0:
            return 0
        threads, errors = self._problem.threads, (ctypes.byref(self._errors), self._words)
        # threads take inputs at multiples of 64, so that no two share a word
        return sum(
            flips
            for row, inputs in zip(self._problem.layout.table, self._problem.layout.sizes, strict=False)
            for flips in threads.run(
                kernels.move_counters,
                [(row, *weights, *errors, *span, *bounds.tolist()) for span in threads.spans(inputs, 64)],
            )
        )
