"""Evolution of an elite, appendix .2 of the thesis, after Morse and Stanley's limited evaluation (GECCO 2016).

    every elite network has children with weights flipped at random; the best by score are the next elite
    score = (1 - a) own accuracy + a score of the parent        in fixed point, 16 bits behind the point

The appendix chooses among the children alone (`comma`); with `plus` the parents compete as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from deap import base, tools

from bnnsearch.bits import Words
from bnnsearch.config.evolution import ElitistConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.individual import Individual, detach
from bnnsearch.evolve.perturbation import Perturbation
from bnnsearch.evolve.variation import ONE, as_probability, happens, tournament
from bnnsearch.evolve.words import to_tensor, to_words

_POINT = 16


class Elitist:
    """The elite and its children."""

    def __init__(self, config: ElitistConfig, problem: Problem, *, genomes: Sequence[Words]) -> None:
        self._config = config
        self._ancestor_weight = as_probability(config.ancestor_weight)
        self._crossover = as_probability(config.crossover)
        self._perturbation = Perturbation(config, problem)
        self._elite = [Individual(genome) for genome in genomes]

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """So many generations, all judged on the same images; the elite is judged anew at the start."""
        perturbation, before = self._perturbation, self._elite[0].genome.copy()
        toolbox = perturbation.start_epoch(epoch, generator, self._elite)
        toolbox.register("evaluate", self._mixed, toolbox.evaluate)
        if self._config.tournament:
            toolbox.register("select", tournament, size=self._config.tournament, generator=generator)
        else:
            toolbox.register("select", tools.selBest)
        perturbation.evaluate(self._elite)
        for _ in range(self._config.generations_per_epoch):
            children = self._vary(toolbox, generator)
            perturbation.evaluate(children)
            parents = self._elite if self._config.survivors == "plus" else []
            self._elite = toolbox.select(children + parents, self._config.elite_size)
            for member in self._elite:
                detach(member)
        self._elite.sort(key=lambda member: member.fitness, reverse=True)
        return perturbation.tally(self._elite, before, generations=self._config.generations_per_epoch)

    def candidate(self) -> Words:
        return self._elite[0].genome

    def planned_bit_operations(self) -> int:
        elite, parents = self._config.elite_size, self._config.generations_per_epoch * self._config.elite_size
        return self._perturbation.planned_bit_operations(
            networks=elite + parents * self._config.children, parents=parents
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "genomes": [to_tensor(member.genome) for member in self._elite],
            "ancestors": [member.ancestors for member in self._elite],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._elite = [Individual(to_words(genome)) for genome in state["genomes"]]
        for member, ancestors in zip(self._elite, state["ancestors"], strict=True):
            member.ancestors = ancestors

    def _vary(self, toolbox: base.Toolbox, generator: np.random.Generator) -> list[Individual]:
        """The children of every member, some crossed with another member, all mutated."""
        children = []
        for parent in self._elite:
            for _ in range(self._config.children):
                child = toolbox.clone(parent)
                if happens(generator, self._crossover):
                    other = toolbox.clone(self._elite[generator.integers(len(self._elite))])
                    toolbox.mate(child, other)
                    detach(*toolbox.mutate(child))
                else:
                    toolbox.mutate(child)
                child.ancestors = parent.score
                children.append(child)
        return children

    def _mixed(self, evaluate: Any, individuals: Sequence[Individual]) -> list[int]:
        """Scores that mix each network's own fitness with its ancestors'."""
        weight, scores = self._ancestor_weight, []
        for individual, own in zip(individuals, evaluate(individuals), strict=True):
            fixed = own << _POINT
            ancestors = fixed if individual.ancestors is None else individual.ancestors
            scores.append(((ONE - weight) * fixed + weight * ancestors) // ONE)
        return scores


def build_elitist(config: ElitistConfig, problem: Problem, generator: np.random.Generator) -> Elitist:
    """The algorithm with a new elite."""
    problem.layout.random(generator)  # one more than is used, so that seeds give what they always gave
    genomes = [problem.layout.random(generator) for _ in range(config.elite_size)]
    return Elitist(config, problem, genomes=genomes)
