"""Mutation and crossover of packed genomes in integers: how many weights flip is drawn first, then which."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.evolve import kernels
from bnnsearch.evolve.individual import NO_FLIPS, Individual, detach
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.words import popcount

ONE = 2**32
"""A probability of 1; probabilities are integers in units of 2^-32."""

_PRECISION = 96
_FEW = 32


def as_probability(value: float) -> int:
    """A probability as an integer; one above 0 never becomes 0."""
    return max(round(value * ONE), 1) if value > 0 else 0


def decayed(probability: int, decay: int, times: int) -> int:
    """`probability` after so many multiplications by `decay`, both in units of 2^-32; never below one unit."""
    for _ in range(times):
        probability = max(probability * decay // ONE, 1)
    return probability


def happens(generator: np.random.Generator, probability: int) -> bool:
    """True with `probability` / 2^32."""
    return probability > 0 and random_word(generator) >> 32 < probability


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Which weights may flip.

    Attributes:
        ones: how many.
        places: from ranks among them, ascending int64, to bits of the genome.
    """

    ones: int
    places: Callable[[NDArray[np.int64]], NDArray[np.int64]]


def mask_of(words: Words) -> Mask:
    """The weights whose bit is 1 in genome-shaped words."""
    return Mask(popcount(words), partial(places_of, words))


@lru_cache(maxsize=64)
def binomial_thresholds(trials: int, probability: int) -> tuple[int, list[int]]:
    """Cumulative binomial distribution in exact integer arithmetic, for drawing by one uniform word.

    The terms follow from the most likely one by the ratio of neighbours, to 2^-96 of it.

    Args:
        trials: number of weights that may flip.
        probability: in units of 2^-32, below 2^32.

    Returns:
        the least number of successes that occurs, and the thresholds, ascending, that a uniform 64-bit word is compared
        with: each one that is not above the word adds a success.
    """
    other = ONE - probability
    mode = (trials + 1) * probability // ONE
    below: list[int] = []
    above = [1 << _PRECISION]
    while above[-1] and mode + len(above) <= trials:
        k = mode + len(above) - 1
        above.append(above[-1] * (trials - k) * probability // ((k + 1) * other))
    while (below[-1] if below else above[0]) and mode - len(below) > 0:
        k = mode - len(below)
        below.append((below[-1] if below else above[0]) * k * other // ((trials - k + 1) * probability))
    terms = [*reversed(below), *above]
    total, reached, thresholds = sum(terms), 0, []
    for term in terms[:-1]:
        reached += term
        thresholds.append((reached << 64) // total)
    return mode - len(below), thresholds


def random_word(generator: np.random.Generator) -> int:
    """A uniform 64-bit integer; far faster than `generator.integers` for a single one."""
    word: int = generator.bit_generator.random_raw()
    return word


def draw_count(generator: np.random.Generator, trials: int, probability: int) -> int:
    """A binomial number of successes, drawn without a real number."""
    if probability == 0 or trials == 0:
        return 0
    least, thresholds = binomial_thresholds(trials, min(probability, ONE - 1))
    return least + bisect_right(thresholds, random_word(generator))


def places_of(mask: Words, ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of the genome that are the ranks-th ones of `mask`; `ranks` ascending, each below the mask's ones."""
    places = np.empty_like(ranks)
    kernels.find_ones(mask, ranks, ranks.size, places)
    return places


def ones_of(words: Words) -> NDArray[np.int64]:
    """Places of all ones."""
    return places_of(words, np.arange(popcount(words)))


def draw_distinct(generator: np.random.Generator, total: int, count: int) -> NDArray[np.int64]:
    """`count` different integers below `total`, each set equally likely, ascending."""
    if count > _FEW or 2 * count > total:
        return np.sort(generator.choice(total, count, replace=False, shuffle=False))
    chosen: set[int] = set()
    while len(chosen) < count:
        chosen.add(random_word(generator) * total >> 64)
    return np.array(sorted(chosen), np.int64)


def flip_sparse(
    individual: Individual, *, mask: Mask, probability: int, generator: np.random.Generator
) -> tuple[Individual]:
    """DEAP's mutation: every weight under `mask` flips with `probability` / 2^32, how many being drawn first."""
    count = draw_count(generator, mask.ones, probability)
    if count:
        detach(individual)
        individual.flips = mask.places(draw_distinct(generator, mask.ones, count))
        del individual.fitness.values
    return (individual,)


def swap_neurons(
    one: Individual, other: Individual, *, layout: Layout, generator: np.random.Generator
) -> tuple[Individual, Individual]:
    """DEAP's crossover: each neuron's weights change sides with an even chance."""
    mine, yours = one.genome.copy(), other.genome.copy()
    for layer in range(len(layout.table)):
        here, there = layout.layer(mine, layer), layout.layer(yours, layer)
        chosen = generator.integers(0, 2, len(here), np.int8).astype(np.bool_)
        here[chosen], there[chosen] = there[chosen], here[chosen]
    for individual, genome in ((one, mine), (other, yours)):
        individual.parent, individual.flips = genome, NO_FLIPS
        del individual.fitness.values
    return one, other


def tournament(
    individuals: list[Individual], count: int, *, size: int, generator: np.random.Generator
) -> list[Individual]:
    """DEAP's selection: `count` times the best of `size` drawn with replacement; of equals the first in the list."""
    rounds = generator.integers(0, len(individuals), (count, size))
    ranks = sorted(range(len(individuals)), key=lambda k: individuals[k].fitness, reverse=True)
    place = {k: rank for rank, k in enumerate(ranks)}
    return [individuals[min(drawn, key=place.__getitem__)] for drawn in rounds.tolist()]
