"""Integer inertia, after the thesis's counting of errors: counters per weight, pushed by errors, flip weights late.

    H += sum over the mini-batch of delta_j x_i      delta: see `bnnsearch.evolve.credit`
    w  = +1 once H > band, -1 once H < -band         |H| <= limit

A few times late in the run counters, band and limit double, which halves what an error does from then on. No number in
it is real. Kin in the literature: binary error propagation (arXiv 2512.04189), local binary errors (arXiv 2412.00119).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from deap import base
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.config.evolution import InertiaConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.batch_errors import BatchErrors, Weights, credit_operations
from bnnsearch.evolve.counters import start_counters
from bnnsearch.evolve.credit import CreditRule
from bnnsearch.evolve.words import to_tensor, to_words

LARGEST_COUNTER = 32767


class Inertia:
    """Moves one network by mini-batches.

    DEAP's toolbox holds the steps of `eaGenerateUpdate`: generate draws a mini-batch, evaluate counts its errors,
    update moves the counters.
    """

    def __init__(
        self, config: InertiaConfig, problem: Problem, *, genome: Words, generator: np.random.Generator
    ) -> None:
        self._config, self._problem = config, problem
        counters = start_counters(problem.layout, genome, generator, config.start)
        self._weights = Weights(genome.copy(), problem.layout.transposed(genome), counters)
        self._decays = 0
        self._batch = min(problem.batch_size * config.voters, problem.samples.count)
        rule = CreditRule(problem.samples.classes, config.margin, config.gate, config.error_threshold)
        errors = BatchErrors(problem, rule, size=self._batch)
        self._toolbox = base.Toolbox()
        self._toolbox.register("generate", problem.samples.mini_batches, self._batch)
        self._toolbox.register("evaluate", errors.count)
        self._toolbox.register("update", errors.push)

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """One pass over the training images; what does not fill a mini-batch is left out."""
        self._decay(epoch)
        bounds = self._bounds()
        hits = judged = asked = flips = operations = 0
        for picks in self._toolbox.generate(generator):
            correct, asking = self._toolbox.evaluate(self._weights, picks)
            flips += self._toolbox.update(self._weights, bounds)
            hits += correct
            judged += len(picks)
            asked += asking
            operations += credit_operations(self._problem.layout, len(picks), asking)
        return EpochTally(hits, judged, judged, flips, operations, {"asked": asked / judged})

    def candidate(self) -> Words:
        return self._weights.genome

    def planned_bit_operations(self) -> int:
        steps = self._problem.epochs * (self._problem.samples.count // self._batch)
        return steps * credit_operations(self._problem.layout, self._batch, self._batch)

    def state_dict(self) -> dict[str, Any]:
        return {
            "genome": to_tensor(self._weights.genome),
            "counters": torch.from_numpy(self._weights.counters.copy()),
            "decays": self._decays,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        genome = to_words(state["genome"])
        self._weights = Weights(genome, self._problem.layout.transposed(genome), state["counters"].numpy().copy())
        self._decays = state["decays"]

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
            counters = self._weights.counters
            np.clip(counters, -(LARGEST_COUNTER // 2), LARGEST_COUNTER // 2, out=counters)
            np.left_shift(counters, 1, out=counters)
        self._decays = due


def build_inertia(config: InertiaConfig, problem: Problem, generator: np.random.Generator) -> Inertia:
    """The algorithm with a new network and new counters."""
    return Inertia(config, problem, genome=problem.layout.random(generator), generator=generator)
