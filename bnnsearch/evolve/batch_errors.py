"""The errors of a mini-batch, counted by all threads, and the counters they push."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnnsearch.evolve.algorithm import Problem
from bnnsearch.evolve.counters import move_counters
from bnnsearch.evolve.credit import CreditRule, Errors, assign_credit, close_gaps, errors, planes
from bnnsearch.evolve.layout import INPUTS, Layout
from bnnsearch.kernels.popcount import Words, padded

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
        threads, places = problem.threads.count, problem.layout.neuron_words
        self._spans = problem.threads.spans(size, 64)
        self._share = padded(-(-size // threads), 64)
        self._blocks = [(planes(places, self._share), planes(places, self._share)) for _ in range(threads)]
        self._errors = errors(places, self._share * threads)
        self._words = 0

    @property
    def errors(self) -> tuple[Errors, int]:
        """The errors of the last batch, and how many words of 64 images they fill."""
        return self._errors, self._words

    def count(self, weights: Weights, picks: NDArray[np.int64]) -> tuple[int, int]:
        """Count the errors of the training images at `picks`.

        Returns:
            correct images, and images that ask for a change.
        """
        samples, network = self._problem.samples, (weights.genome, weights.back, self._problem.layout.table)
        shares = [
            (
                network,
                (samples.rows, picks[start:end], samples.labels[picks[start:end] % samples.count]),
                self._rule,
                self._blocks[thread],
                (self._errors, thread * self._share // 64),
            )
            for thread, (start, end) in enumerate(self._spans)
        ]
        hits, asked = np.array(self._problem.threads.run(assign_credit, shares), np.int64).T
        starts = np.arange(len(shares)) * (self._share // 64)
        self._words = close_gaps(self._errors, starts, (asked + 63) // 64)
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
        threads = self._problem.threads
        return sum(
            flips
            for row in self._problem.layout.table
            for flips in threads.run(
                move_counters,
                [
                    ((weights.genome, weights.back, weights.counters), row, self.errors, span, bounds)
                    for span in threads.spans(int(row[INPUTS]), 64)
                ],
            )
        )
