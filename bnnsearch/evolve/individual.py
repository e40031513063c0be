"""What DEAP handles: a packed genome with an integer fitness."""

from __future__ import annotations

import numpy as np
from deap import base
from numpy.typing import NDArray

from bnnsearch.bits import Words

NO_FLIPS = np.zeros(0, np.int64)


class Fitness(base.Fitness):  # type: ignore[misc]
    """One integer, the higher the better; read from `wvalues`, since DEAP's `values` divides and gives a float."""

    weights = (1,)

    @property
    def score(self) -> int:
        """The integer."""
        return int(self.wvalues[0])


class Individual:
    """A parent's genome and the flips that make this individual of it; both are shared and never changed in place.

    Attributes:
        parent: packed weights before the flips.
        flips: bits of the genome that flip, all different, int64.
        fitness: score of this genome, invalid until it is evaluated.
        hits: training images this genome classified correctly when it was evaluated.
        ancestors: score of the line it comes from, None where it has none.
    """

    __slots__ = ("ancestors", "fitness", "flips", "hits", "parent")

    def __init__(self, parent: Words, flips: NDArray[np.int64] = NO_FLIPS, *, score: int | None = None) -> None:
        self.parent, self.flips = parent, flips
        self.fitness = Fitness() if score is None else Fitness((score,))
        self.hits = 0
        self.ancestors: int | None = None

    @property
    def score(self) -> int | None:
        """The fitness, None where there is none."""
        return self.fitness.score if self.fitness.valid else None

    @property
    def genome(self) -> Words:
        """Packed weights, flips done."""
        if len(self.flips) == 0:
            return self.parent
        genome = self.parent.copy()
        np.bitwise_xor.at(genome, self.flips >> 6, np.left_shift(np.uint64(1), (self.flips & 63).astype(np.uint64)))
        return genome


def clone(individual: Individual) -> Individual:
    """An individual that changes apart from this one."""
    copy = Individual(individual.parent, individual.flips)
    copy.fitness.wvalues = individual.fitness.wvalues  # a tuple; DEAP's way by `values` goes through floats
    copy.hits, copy.ancestors = individual.hits, individual.ancestors
    return copy


def detach(individual: Individual) -> None:
    """Do the flips, so that the individual is nobody's child any more."""
    individual.parent, individual.flips = individual.genome, NO_FLIPS
