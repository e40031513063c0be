"""Naive perturbation, appendix .1 of the thesis: flip weights at random, keep the copy unless it is worse.

    New = clone(N), every weight flipped with probability p;   N if evaluate(N) > evaluate(New) else New

Counting correct images alone, as the thesis does, it soon finds no better copy; the summed lead still tells them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnnsearch.bits import Words
from bnnsearch.config.evolution import NaiveConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.individual import Individual, detach
from bnnsearch.evolve.perturbation import Perturbation
from bnnsearch.evolve.words import to_tensor, to_words

_LEAST_LOT, _LARGEST_LOT = 4, 256


class Naive:
    """One network and its flipped copies."""

    def __init__(self, config: NaiveConfig, problem: Problem, *, genome: Words) -> None:
        self._config = config
        self._perturbation = Perturbation(config, problem)
        self._network = Individual(genome)

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """As many generations of one copy each, all judged on the same images.

        Copies of the present network are judged in lots; those after the first that replaces it are as if never drawn.
        """
        perturbation, before = self._perturbation, self._network.genome
        toolbox = perturbation.start_epoch(epoch, generator, [self._network])
        perturbation.evaluate([self._network])
        left, lot = self._config.generations_per_epoch, _LEAST_LOT
        while left:
            children = [toolbox.mutate(toolbox.clone(self._network))[0] for _ in range(min(lot, left))]
            perturbation.evaluate(children)
            for child in children:
                left -= 1
                if not self._network.fitness > child.fitness and len(child.flips):
                    detach(child)
                    self._network = child
                    lot = max(lot // 2, _LEAST_LOT)
                    break
            else:
                lot = min(lot * 2, _LARGEST_LOT)
        return perturbation.tally([self._network], before, generations=self._config.generations_per_epoch)

    def candidate(self) -> Words:
        return self._network.genome

    def planned_bit_operations(self) -> int:
        """At most: where the first copy of every lot replaces the network, all others of the least lot are in vain.

        Larger lots waste no more than that: a lot of L grew out of L - 4 copies that were all of use.
        """
        most = self._config.generations_per_epoch
        return self._perturbation.planned_bit_operations(networks=1 + most * _LEAST_LOT, parents=most)

    def state_dict(self) -> dict[str, Any]:
        return {"genome": to_tensor(self._network.genome)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network = Individual(to_words(state["genome"]))


def build_naive(config: NaiveConfig, problem: Problem, generator: np.random.Generator) -> Naive:
    """The algorithm with a new network."""
    return Naive(config, problem, genome=problem.layout.random(generator))
