"""What methods share that score random flips: images per epoch, the toolbox, the counts of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from deap import base, tools

from bnnsearch.bits import Words
from bnnsearch.config.evolution import PerturbingConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.individual import Individual, clone
from bnnsearch.evolve.scoring import Scorer, hand_over
from bnnsearch.evolve.variation import Mask, as_probability, decayed, flip_sparse, swap_neurons
from bnnsearch.evolve.words import popcount


class Perturbation:
    """Registers DEAP's tools for an epoch and counts what they do."""

    def __init__(self, config: PerturbingConfig, problem: Problem) -> None:
        self._config, self._problem = config, problem
        self._scorer = Scorer(config, problem)
        self._spent = self._scored = 0
        self._statistics = tools.Statistics(lambda individual: individual.score)
        self._statistics.register("best_score", max)
        self._statistics.register("worst_score", min)

    def start_epoch(self, epoch: int, generator: np.random.Generator, population: Sequence[Individual]) -> base.Toolbox:
        """Draw the epoch's images, on which the population is to be judged anew, and register the tools."""
        config, layout = self._config, self._problem.layout
        self._spent, self._scored = self._scorer.bit_operations, 0
        self._scorer.take(self._problem.samples.draw(generator)[: config.samples])
        toolbox = base.Toolbox()
        toolbox.register("clone", clone)
        probability = decayed(as_probability(config.flip_probability), as_probability(config.flip_decay), epoch)
        mask = Mask(layout.weights, layout.places)
        toolbox.register("mutate", flip_sparse, mask=mask, probability=probability, generator=generator)
        toolbox.register("mate", swap_neurons, layout=layout, generator=generator)
        toolbox.register("evaluate", self._scorer.evaluate)
        toolbox.register("map", hand_over)
        self._toolbox = toolbox
        for individual in population:
            del individual.fitness.values
        return toolbox

    def evaluate(self, individuals: Sequence[Individual]) -> None:
        """Give every individual without a fitness its own."""
        invalid = [individual for individual in individuals if not individual.fitness.valid]
        if invalid:
            for individual, score in zip(invalid, self._toolbox.map(self._toolbox.evaluate, invalid), strict=True):
                individual.fitness.values = (score,)
            self._scored += len(invalid)

    def tally(self, population: Sequence[Individual], before: Words, *, generations: int) -> EpochTally:
        """Counts of the epoch that ends with a population, best first, whose first began at the genome `before`."""
        best, scored, images = population[0], self._scored, self._scorer.images
        return EpochTally(
            hits=best.hits,
            judged=images,
            images=images * scored,
            flips=popcount(best.genome ^ before),
            bit_operations=self._scorer.bit_operations - self._spent,
            more={"generations": generations, "candidates": scored, **self._statistics.compile(population)},
        )

    def planned_bit_operations(self, *, networks: int, parents: int) -> int:
        """Of all epochs, by forward passes: at most, where evaluation is `plain`.

        Updates of kept counts are there to cost less, but nothing bounds them by a pass: where a network is small or
        the images are few, they may cost more.

        Args:
            networks: candidates that an epoch scores.
            parents: whose counts an epoch keeps where evaluation is incremental.
        """
        images = min(self._config.samples or self._problem.samples.count, self._problem.samples.count)
        passes = networks + (parents if self._config.evaluation == "incremental" else 0)
        return self._problem.epochs * passes * images * self._problem.layout.weights
