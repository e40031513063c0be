"""Mutation, crossover and selection: integers only, and the distribution they promise."""

from __future__ import annotations

from fractions import Fraction
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnsearch.evolve.individual import Individual, clone, detach
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.variation import (
    ONE,
    Mask,
    as_probability,
    binomial_thresholds,
    decayed,
    draw_count,
    draw_distinct,
    flip_sparse,
    happens,
    mask_of,
    ones_of,
    swap_neurons,
    tournament,
)

LAYOUT = Layout((70, 33, 20))


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, ONE // 2))
def test_thresholds_are_the_binomial_distribution(trials: int, probability: int) -> None:
    least, thresholds = binomial_thresholds(trials, probability)
    p, reached, missed = Fraction(probability, ONE), Fraction(0), Fraction(0)
    for k in range(least):
        missed += comb(trials, k) * p**k * (1 - p) ** (trials - k)
    assert missed < Fraction(1, 2**60)
    for k, threshold in enumerate(thresholds, start=least):
        reached += comb(trials, k) * p**k * (1 - p) ** (trials - k)
        assert abs(Fraction(threshold, 2**64) - reached) < Fraction(1, 2**50)


@pytest.mark.parametrize(("trials", "p"), [(700_000, 1e-6), (700_000, 1e-3), (50_000, 0.4)])
def test_flip_counts_have_mean_and_spread_of_the_binomial(trials: int, p: float) -> None:
    generator = np.random.default_rng(1)
    counts = np.array([draw_count(generator, trials, as_probability(p)) for _ in range(4000)])
    deviation = sqrt(trials * p * (1 - p))
    assert abs(counts.mean() - trials * p) < 4 * deviation / sqrt(4000) + 1e-3 * trials * p
    assert abs(counts.std() / deviation - 1) < 0.1


def test_every_weight_flips_as_often_as_the_probability_says_and_no_other_bit() -> None:
    generator, p = np.random.default_rng(0), 0.01
    parent = LAYOUT.random(generator)
    flips = np.zeros(len(parent) * 64, np.int64)
    rounds = 4000
    for _ in range(rounds):
        child = Individual(parent, score=7)
        flip_sparse(child, mask=Mask(LAYOUT.weights, LAYOUT.places), probability=as_probability(p), generator=generator)
        flips[ones_of(child.genome ^ parent)] += 1
    weights = np.zeros(len(flips), np.bool_)
    weights[ones_of(LAYOUT.mask)] = True
    assert not flips[~weights].any()
    share = flips[weights] / rounds
    assert abs(share.mean() / p - 1) < 0.01
    assert (abs(share - p) < 5 * sqrt(p / rounds)).mean() > 0.999


def test_only_masked_weights_flip() -> None:
    generator = np.random.default_rng(0)
    mask = LAYOUT.random(generator) & LAYOUT.random(generator)
    child = Individual(LAYOUT.random(generator), score=1)
    parent = child.genome
    flip_sparse(child, mask=mask_of(mask), probability=ONE - 1, generator=generator)
    assert ((child.genome ^ parent) == mask).all()
    assert not child.fitness.valid


def test_without_a_flip_the_fitness_stays() -> None:
    child = Individual(LAYOUT.mask.copy(), score=3)
    flip_sparse(child, mask=Mask(LAYOUT.weights, LAYOUT.places), probability=0, generator=np.random.default_rng(0))
    assert child.score == 3
    assert len(child.flips) == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_drawn_ranks_are_distinct_ascending_and_in_range(seed: int, total: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(0, total + 1))
    drawn = draw_distinct(generator, total, count)
    assert len(drawn) == count
    assert (np.diff(drawn) > 0).all()
    assert count == 0 or (drawn[0] >= 0 and drawn[-1] < total)


def test_clones_share_nothing_that_changes() -> None:
    original = Individual(LAYOUT.mask.copy(), score=5)
    original.ancestors, original.hits = 9, 4
    before = original.genome.copy()
    copy = clone(original)
    assert (copy.score, copy.ancestors, copy.hits) == (5, 9, 4)
    flip_sparse(
        copy, mask=Mask(LAYOUT.weights, LAYOUT.places), probability=ONE // 2, generator=np.random.default_rng(0)
    )
    detach(copy)
    assert not (copy.genome == original.genome).all()
    assert original.score == 5
    assert (original.genome == before).all()


def test_the_fitness_stays_an_integer() -> None:
    big = 2**60 + 1  # not a float
    assert Individual(LAYOUT.mask, score=big).score == big
    assert Individual(LAYOUT.mask, score=big).fitness > Individual(LAYOUT.mask, score=big - 1).fitness


def test_crossover_exchanges_whole_neurons() -> None:
    generator = np.random.default_rng(0)
    one, other = Individual(LAYOUT.random(generator), score=1), Individual(LAYOUT.random(generator), score=2)
    before = one.genome.copy(), other.genome.copy()
    swap_neurons(one, other, layout=LAYOUT, generator=generator)
    swapped = 0
    for layer in range(2):
        mine, yours = LAYOUT.layer(one.genome, layer), LAYOUT.layer(other.genome, layer)
        old_mine, old_yours = (LAYOUT.layer(genome, layer) for genome in before)
        for row in range(len(mine)):
            kept = (mine[row] == old_mine[row]).all() and (yours[row] == old_yours[row]).all()
            crossed = (mine[row] == old_yours[row]).all() and (yours[row] == old_mine[row]).all()
            assert kept or crossed
            swapped += crossed and not kept
    assert 10 < swapped < 43  # of 53 neurons, each with an even chance
    assert not one.fitness.valid
    assert not other.fitness.valid


def test_tournament_prefers_the_better_and_of_all_takes_the_best() -> None:
    generator = np.random.default_rng(0)
    individuals = [Individual(LAYOUT.mask, score=score) for score in (3, 9, 1, 7)]
    chosen = [member.score for member in tournament(individuals, 4000, size=2, generator=generator)]
    # the best of two drawn with replacement is the k-th best of n with chance ((n-k+1)^2 - (n-k)^2) / n^2
    for score, chance in ((9, 7 / 16), (7, 5 / 16), (3, 3 / 16), (1, 1 / 16)):
        assert abs(chosen.count(score) / 4000 - chance) < 0.03
    assert {member.score for member in tournament(individuals, 50, size=40, generator=generator)} == {9}


def test_probabilities_decay_and_happen() -> None:
    half = as_probability(0.5)
    assert decayed(half, half, 3) == ONE // 16
    assert decayed(1, half, 5) == 1
    generator = np.random.default_rng(0)
    assert abs(sum(happens(generator, ONE // 4) for _ in range(8000)) / 8000 - 0.25) < 0.02
    assert not any(happens(generator, 0) for _ in range(10))
