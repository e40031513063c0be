"""The fitness of whole lists of networks on the same images, every thread taking its part of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.config.evolution import PerturbingConfig
from bnnsearch.evolve.algorithm import Problem
from bnnsearch.evolve.forward import score
from bnnsearch.evolve.incremental import Kept
from bnnsearch.evolve.individual import Individual
from bnnsearch.evolve.network import BLOCK
from bnnsearch.evolve.samples import Blocks
from bnnsearch.evolve.variation import ones_of
from bnnsearch.evolve.words import popcount

COUNT_BITS = 16
"""Width of a kept count: what an update of one counts for in bit-operations."""

FAR = 48
"""Flips from which a forward pass is cheaper than as many updates there and back."""


class Scorer:
    """Scores networks on images that `take` sets.

    Args:
        config: fitness and way of evaluation.
        problem: images and layout.
    """

    def __init__(self, config: PerturbingConfig, problem: Problem) -> None:
        self._config, self._problem = config, problem
        self._parts: list[Blocks] = []
        self._kept: list[Kept] = []
        self._parent: Words | None = None
        self._spent = 0

    @property
    def images(self) -> int:
        """Number of images a network is scored on."""
        return sum(part.count for part in self._parts)

    @property
    def bit_operations(self) -> int:
        """Spent so far."""
        return self._spent + COUNT_BITS * sum(kept.updates for kept in self._kept)

    def take(self, picks: NDArray[np.int64]) -> None:
        """Score on these training images from now on."""
        self._spent, self._kept, self._parent = self.bit_operations, [], None
        samples, layout = self._problem.samples, self._problem.layout
        spans = [(first, last) for first, last in self._problem.threads.spans(len(picks), BLOCK) if last > first]
        self._parts = [samples.blocks(picks[first:last]) for first, last in spans]
        if self._config.evaluation == "incremental":
            self._kept = [Kept(layout, part, samples.classes, self._config.margin) for part in self._parts]

    def evaluate(self, individuals: Sequence[Individual]) -> list[int]:
        """Fitness of each individual, in units of the setting `fitness`; remembers its hits."""
        scores: list[tuple[int, int]] = []
        for _, family in groupby(individuals, key=lambda individual: id(individual.parent)):
            scores.extend(self._score_family(list(family)).tolist())
        for individual, (hits, _) in zip(individuals, scores, strict=True):
            individual.hits = hits
        return [hits if self._config.fitness == "hits" else leads for hits, leads in scores]

    def _score_family(self, family: list[Individual]) -> NDArray[np.int64]:
        """Correct images and summed leads, (n, 2), of individuals that have one parent."""
        parent, most = family[0].parent, max(len(child.flips) for child in family)
        alone = most == 0 and parent is not self._parent  # not worth the counts: it may have no children
        if self._kept and most < FAR and not alone:
            self._adopt(parent)
            return self._score_children(family)
        genomes = np.stack([child.genome for child in family])
        layout, rule = self._problem.layout, (self._problem.samples.classes, self._config.margin)
        self._spent += len(genomes) * self.images * layout.weights
        shares = [(genomes, layout, part.columns, part.labels, rule) for part in self._parts]
        scores: NDArray[np.int64] = np.sum(self._problem.threads.run(score, shares), axis=0)
        return scores

    def _score_children(self, family: list[Individual]) -> NDArray[np.int64]:
        starts = np.cumsum([0, *(len(child.flips) for child in family)], dtype=np.int64)
        children = np.concatenate([child.flips for child in family]), starts
        shares = [(kept, family[0].parent, *children) for kept in self._kept]
        scores: NDArray[np.int64] = np.sum(self._problem.threads.run(Kept.score_children, shares), axis=0)
        return scores

    def _adopt(self, genome: Words) -> None:
        """Make a genome the kept parent: by its differences from the present one, or anew where they are many."""
        if genome is self._parent:
            return
        threads = self._problem.threads
        if self._parent is not None and popcount(self._parent ^ genome) < FAR:
            places = ones_of(self._parent ^ genome)
            threads.run(Kept.adopt_child, [(kept, self._parent, places) for kept in self._kept])
        else:
            threads.run(Kept.rebuild, [(kept, genome) for kept in self._kept])
            self._spent += self.images * self._problem.layout.weights
        self._parent = genome


def hand_over(evaluate: Callable[[Sequence[Individual]], list[int]], individuals: Sequence[Individual]) -> list[int]:
    """DEAP's `map` for an evaluation that takes the whole list at once."""
    return evaluate(individuals)
