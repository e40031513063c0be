"""Counting errors, appendix .3 of the thesis: weights that took part in too many errors of a batch may flip.

    mark the weights, from the last layer to the first;   children = clones, marked weights flipped with probability p
    the best child by the fitness on the batch goes on

`votes`, the default, marks a weight when at least a share of the batch votes against it more than for it, the errors
being counted by the integer rule of `bnnsearch.evolve.credit`: these are the weights that fresh counters would flip.
`literal` and `balanced` are in `bnnsearch.evolve.majority_marks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.config.evolution import CountingConfig
from bnnsearch.evolve import forward
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.batch_errors import BatchErrors, Weights, credit_operations
from bnnsearch.evolve.counters import no_counters
from bnnsearch.evolve.credit import CreditRule
from bnnsearch.evolve.individual import Individual, clone, detach
from bnnsearch.evolve.majority_marks import majority_marks, majority_operations
from bnnsearch.evolve.samples import Blocks
from bnnsearch.evolve.scoring import hand_over
from bnnsearch.evolve.variation import as_probability, decayed, flip_sparse, mask_of
from bnnsearch.evolve.words import popcount, to_tensor, to_words

_MOST = np.iinfo(np.int16).max


class Counting:
    """One network whose marked weights flip."""

    def __init__(self, config: CountingConfig, problem: Problem, *, genome: Words) -> None:
        self._config, self._problem = config, problem
        self._batch = min(problem.batch_size, problem.samples.count)
        self._network = Individual(genome.copy())
        self._marked = Weights(genome.copy(), problem.layout.transposed(genome), no_counters(problem.layout))
        self._back = problem.layout.transposed(genome)
        rule = CreditRule(problem.samples.classes, config.margin, config.gate, config.error_threshold)
        self._errors = BatchErrors(problem, rule, size=self._batch)
        self._bounds = np.array([_MOST, min(as_probability(config.share) * self._batch >> 32, _MOST - 1)], np.int16)
        self._toolbox = base.Toolbox()
        self._toolbox.register("generate", problem.samples.mini_batches, self._batch)
        self._toolbox.register("clone", clone)
        self._toolbox.register("select", tools.selBest, k=1)
        self._toolbox.register("map", hand_over)

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """One pass over the training images; what does not fill a mini-batch is left out."""
        config = self._config
        probability = decayed(as_probability(config.flip_probability), as_probability(config.flip_decay), epoch)
        before, hits, judged, marked, operations = self._network.genome.copy(), 0, 0, 0, 0
        for picks in self._toolbox.generate(generator):
            marks, spent = self._marks(picks)
            mask = mask_of(marks)
            self._toolbox.register("mutate", flip_sparse, mask=mask, probability=probability, generator=generator)
            hits += self._step(self._problem.samples.blocks(picks))
            judged += len(picks)
            marked += mask.ones
            operations += spent + self._children_operations()
        flips = popcount(before ^ self._network.genome)
        steps, weights = judged // self._batch, self._problem.layout.weights
        images = judged * (1 + config.children + config.keep_parent)
        more = {"marked": marked / (steps * weights)}
        return EpochTally(hits, judged, images, flips, operations, more)

    def candidate(self) -> Words:
        return self._network.genome

    def planned_bit_operations(self) -> int:
        layout, batch = self._problem.layout, self._batch
        if self._config.credit == "votes":
            marking = credit_operations(layout, batch, batch)
        else:
            marking = majority_operations(layout, batch, layout.sizes[-1])
        steps = self._problem.epochs * (self._problem.samples.count // batch)
        return steps * (marking + self._children_operations())

    def state_dict(self) -> dict[str, Any]:
        return {"genome": to_tensor(self._network.genome)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network = Individual(to_words(state["genome"]))
        self._back = self._problem.layout.transposed(self._network.genome)

    def _marks(self, picks: NDArray[np.int64]) -> tuple[Words, int]:
        """Genome-shaped words with a 1 for every weight that may flip, and the bit-operations it took to find them."""
        genome, samples = self._network.genome, self._problem.samples
        if self._config.credit != "votes":
            rows, labels = samples.rows[picks], samples.labels[picks % samples.count]
            rule = (samples.classes, self._config.credit == "balanced")
            marks, wrong = majority_marks(genome, self._problem.layout, rows, labels, rule)
            return marks, majority_operations(self._problem.layout, len(picks), wrong)
        self._marked.genome[:] = genome
        self._marked.back[:] = self._back
        self._marked.counters[:] = 0
        _, asked = self._errors.count(self._marked, picks)
        self._errors.push(self._marked, self._bounds)
        return self._marked.genome ^ genome, credit_operations(self._problem.layout, len(picks), asked)

    def _step(self, blocks: Blocks) -> int:
        """Breed, judge on the batch, go on with the best; returns its correct images."""
        toolbox = self._toolbox
        toolbox.register("evaluate", self._evaluate, blocks)
        pool = [toolbox.mutate(toolbox.clone(self._network))[0] for _ in range(self._config.children)]
        if self._config.keep_parent:
            pool.append(self._network)
        for individual, score in zip(pool, toolbox.map(toolbox.evaluate, pool), strict=True):
            individual.fitness.values = (score,)
        best: Individual = toolbox.select(pool)[0]
        detach(best)
        self._problem.layout.change_transposed(self._back, self._network.genome, best.genome)
        self._network = best
        return best.hits

    def _evaluate(self, blocks: Blocks, individuals: Sequence[Individual]) -> list[int]:
        threads, rule = self._problem.threads, (self._problem.samples.classes, self._config.margin)
        genomes = np.stack([individual.genome for individual in individuals])
        shares = [
            (genomes, self._problem.layout, blocks.columns[first:last], blocks.labels[first:last], rule)
            for first, last in threads.spans(len(blocks.columns))
        ]
        scores = np.sum(threads.run(forward.score, shares), axis=0).tolist()
        for individual, (hits, _) in zip(individuals, scores, strict=True):
            individual.hits = hits
        return [hits if self._config.fitness == "hits" else leads for hits, leads in scores]

    def _children_operations(self) -> int:
        """Of the forward passes that judge one batch's pool."""
        return (self._config.children + self._config.keep_parent) * self._batch * self._problem.layout.weights


def build_counting(config: CountingConfig, problem: Problem, generator: np.random.Generator) -> Counting:
    """The algorithm with a new network."""
    return Counting(config, problem, genome=problem.layout.random(generator))
