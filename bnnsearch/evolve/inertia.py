"""Integer inertia, after the thesis's counting of errors: counters per weight, pushed by errors, flip weights late.

    H += sum over the mini-batch of delta_j x_i      delta: see `bnnsearch.evolve.credit`
    w  = +1 once H > band, -1 once H < -band         |H| <= limit

A few times late in the run counters, band and limit double, which halves what an error does from then on. No number in
it is real. Kin in the literature: binary error propagation (arXiv 2512.04189), local binary errors (arXiv 2412.00119).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from deap import base
from numpy.typing import NDArray

from bnnsearch.config.evolution import InertiaConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.counters import move_counters, start_counters
from bnnsearch.evolve.credit import CreditRule, assign_credit, close_gaps, errors, planes
from bnnsearch.evolve.layout import INPUTS
from bnnsearch.evolve.words import to_tensor, to_words
from bnnsearch.kernels.popcount import Words, padded

LARGEST_COUNTER = 32767
COUNTER_BITS = 16


class Inertia:
    """Moves one network by mini-batches.

    DEAP's toolbox holds the steps of `eaGenerateUpdate`: generate draws a mini-batch, map spreads it over threads,
    evaluate counts its errors, update moves the counters.
    """

    def __init__(
        self, config: InertiaConfig, problem: Problem, *, genome: Words, generator: np.random.Generator
    ) -> None:
        self._config, self._problem = config, problem
        self._rule = CreditRule(problem.samples.classes, config.margin, config.gate, config.error_threshold)
        self._counters = start_counters(problem.layout, genome, generator, config.start)
        self._decays = 0
        self._set_genome(genome)
        self._batch = min(problem.batch_size * config.voters, problem.samples.count)
        threads, places = problem.threads.count, problem.layout.places
        self._share = padded(-(-self._batch // threads), 64)
        self._blocks = [(planes(places, self._share), planes(places, self._share)) for _ in range(threads)]
        self._errors = errors(places, self._share * threads)
        self.toolbox = base.Toolbox()
        self.toolbox.register("generate", self._mini_batches)
        self.toolbox.register("evaluate", assign_credit)
        self.toolbox.register("map", problem.threads.run)
        self.toolbox.register("update", self._update)

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """One pass over the training images; what does not fill a mini-batch is left out."""
        self._decay(epoch)
        hits = judged = asked = flips = operations = 0
        for shares in self.toolbox.generate(generator):
            results = self.toolbox.map(self.toolbox.evaluate, shares)
            counts = [count for _, count in results]
            flips += self.toolbox.update(counts)
            hits += sum(correct for correct, _ in results)
            judged += self._batch
            asked += sum(counts)
            operations += self._operations(self._batch, sum(counts))
        return EpochTally(hits, judged, judged, flips, operations, {"asked": asked / judged})

    def candidate(self) -> Words:
        return self._genome

    def planned_bit_operations(self) -> int:
        steps = self._problem.epochs * (self._problem.samples.count // self._batch)
        return steps * self._operations(self._batch, self._batch)

    def state_dict(self) -> dict[str, Any]:
        return {
            "genome": to_tensor(self._genome),
            "counters": torch.from_numpy(self._counters.copy()),
            "decays": self._decays,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._set_genome(to_words(state["genome"]))
        self._counters = state["counters"].numpy().copy()
        self._decays = state["decays"]

    def _set_genome(self, genome: Words) -> None:
        self._genome = genome.copy()
        self._back = self._problem.layout.transposed(genome)

    def _mini_batches(self, generator: np.random.Generator) -> Iterator[list[tuple[Any, ...]]]:
        """For each mini-batch the arguments of `assign_credit`, a share of the images for every thread."""
        samples, network = self._problem.samples, (self._genome, self._back, self._problem.layout.table)
        order = samples.draw(generator)
        for first in range(0, len(order) - self._batch + 1, self._batch):
            picks = order[first : first + self._batch]
            yield [
                (
                    network,
                    (samples.rows, picks[start:end], samples.labels[picks[start:end] % samples.count]),
                    self._rule,
                    self._blocks[thread],
                    (self._errors, thread * self._share // 64),
                )
                for thread, (start, end) in enumerate(self._problem.threads.spans(self._batch, 64))
            ]

    def _update(self, counts: list[int]) -> int:
        """Move the counters by the errors of `counts[thread]` images each; returns the number of flips."""
        lengths = (np.array(counts, np.int64) + 63) // 64
        words = close_gaps(self._errors, np.arange(len(counts)) * (self._share // 64), lengths)
        if words == 0:
            return 0
        weights = (self._genome, self._back, self._counters)
        bounds = self._bounds()
        return sum(
            flips
            for row in self._problem.layout.table
            for flips in self._problem.threads.run(
                move_counters,
                [
                    (weights, row, (self._errors, words), span, bounds)
                    for span in self._problem.threads.spans(int(row[INPUTS]), 64)
                ],
            )
        )

    def _bounds(self) -> NDArray[np.int16]:
        """Limit and band after the doublings so far."""
        config = self._config
        return np.array(
            [min(value << self._decays, LARGEST_COUNTER) for value in (config.limit, config.band)], np.int16
        )

    def _decay(self, epoch: int) -> None:
        """Double counters, limit and band as often as the plan has it by this epoch."""
        config, epochs = self._config, self._problem.epochs
        first = round(config.decay_from * epochs)
        due = sum(epoch >= first + k * (epochs - first) // config.decays for k in range(config.decays))
        for _ in range(due - self._decays):
            np.clip(self._counters, -(LARGEST_COUNTER // 2), LARGEST_COUNTER // 2, out=self._counters)
            self._counters *= np.int16(2)
        self._decays = due

    def _operations(self, images: int, asked: int) -> int:
        """Of one mini-batch: forward, then for the images that ask for a change backward and to the counters."""
        layers = [inputs * outputs for inputs, outputs in pairwise(self._problem.layout.sizes)]
        return sum(layers) * (images + asked + COUNTER_BITS) + sum(layers[1:]) * asked
