"""What DEAP handles: a packed genome with an integer fitness."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from deap import base

from bnnsearch.kernels.popcount import Words


class Fitness(base.Fitness):  # type: ignore[misc]
    """One integer, the higher the better; read from `wvalues`, since DEAP's `values` divides and gives a float."""

    weights = (1,)

    @property
    def score(self) -> int:
        """The integer."""
        return int(self.wvalues[0])


class Individual:
    """A genome, its fitness, and what its ancestors reached.

    Attributes:
        genome: packed weights; an individual owns its array.
        fitness: score of this genome, invalid until it is evaluated.
        ancestors: accumulated score of the line it comes from.
    """

    __slots__ = ("ancestors", "fitness", "genome")

    def __init__(self, genome: Words, *, score: int | None = None, ancestors: int = 0) -> None:
        self.genome = genome
        self.ancestors = ancestors
        self.fitness = Fitness() if score is None else Fitness((score,))

    @property
    def score(self) -> int | None:
        """The fitness, None where there is none."""
        return self.fitness.score if self.fitness.valid else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """DEAP's hall of fame copies so, whatever `toolbox.clone` is."""
        return type(self)(self.genome.copy(), score=self.score, ancestors=self.ancestors)


def clone(individual: Individual) -> Individual:
    """A copy that shares nothing."""
    return Individual(individual.genome.copy(), score=individual.score, ancestors=individual.ancestors)


def same_genome(one: Individual, other: Individual) -> bool:
    """Whether two individuals are the same network."""
    return np.array_equal(one.genome, other.genome)
