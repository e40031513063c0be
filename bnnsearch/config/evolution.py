"""Evolutionary methods: training without floating point (thesis, section 4.1 and appendix).

The thesis gives no numbers for its algorithms; the defaults here are what worked on MNIST. Probabilities and shares are
turned into integer thresholds before a run starts. The integer rule that all but the perturbing methods share, see
`bnnsearch.evolve.credit`, has a `margin` by which the true label should lead, a `gate` around the majority outside
which a neuron is left alone, and an `error_threshold` that an error must exceed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bnnsearch.config.base import Fraction
from bnnsearch.config.families import named
from bnnsearch.config.method import MethodSettings
from bnnsearch.config.metrics import EVOLUTION, Reporter

if TYPE_CHECKING:
    import numpy as np

    from bnnsearch.config.trial import TrialConfig
    from bnnsearch.core.teacher import RunBuilder
    from bnnsearch.core.trainer import Trainer
    from bnnsearch.evolve.algorithm import Algorithm, Problem

MOST_SHIFT = 2
"""Pixels by which images may be shifted: all shifted versions are kept, packed."""

MOST_VOTES = 32_767
"""Images whose errors are summed at once: the largest 16-bit integer."""

Probability = Annotated[float, Field(gt=0, le=0.5)]
Margin = Annotated[int, Field(ge=1, le=4096)]
Share = Annotated[float, Field(gt=0, le=1)]
Generations = Annotated[int, Field(ge=1, le=1_000_000)]


class EvolutionMethod(MethodSettings):
    """What every evolutionary method has."""

    kinds: ClassVar[tuple[str, ...]] = ("bnnsearch.evolve.algorithm:Algorithm",)
    reporter: ClassVar[Reporter] = EVOLUTION

    @property
    def batches_summed(self) -> int:
        """Batches whose votes are summed before anything moves."""
        return 1

    def build(self, problem: Problem, generator: np.random.Generator) -> Algorithm:
        """The algorithm with new networks, drawn from `generator`."""
        algorithm: Algorithm = self._built(problem, generator)
        return algorithm

    def build_trainer(self, config: TrialConfig, runs: RunBuilder) -> Trainer:
        trainer: Trainer = named("bnnsearch.evolve.build:build_evolution_trainer")(config, data=runs.data)
        return trainer  # loaded here alone: DEAP need not be where gradients alone train


class PerturbingConfig(EvolutionMethod):
    """What the methods that score random flips have.

    Attributes:
        flip_probability: chance of each weight to flip in a child.
        flip_decay: factor on the flip probability after each epoch.
        generations_per_epoch: generations that count as one epoch; the scored images change with the epoch.
        samples: training images on which candidates are scored; None is all.
        fitness: `hits` counts correct images (the thesis); `margin` sums the lead of the true label over the best
            other, clipped to +-`margin`, which still tells candidates apart when hits do not.
        margin: where the lead is clipped, in votes.
        evaluation: `incremental` keeps the counts of the last network and updates what the flips touch;
            `plain` does a fresh forward pass.
    """

    flip_probability: Probability = 3e-6
    flip_decay: Share = 1.0
    generations_per_epoch: Generations = 1000
    samples: Annotated[int, Field(ge=1)] | None = 2500
    fitness: Literal["hits", "margin"] = "margin"
    margin: Margin = 32
    evaluation: Literal["incremental", "plain"] = "incremental"


class NaiveConfig(PerturbingConfig):
    """Naive perturbation (appendix .1): a flipped copy replaces the network unless it is worse."""

    builder: ClassVar[str] = "bnnsearch.evolve.naive:build_naive"

    name: Literal["naive"] = "naive"


class ElitistConfig(PerturbingConfig):
    """Evolution of an elite (appendix .2): every member has flipped children; the best by score are the next elite.

    Attributes:
        elite_size: networks that survive a generation.
        children: children of each member.
        ancestor_weight: share of the ancestors' accuracy in the score; the rest is the network's own.
        survivors: `comma` chooses among the children only (the appendix), `plus` among parents and children.
        crossover: chance of a child to take each layer's neurons from two parents.
        tournament: networks that compete for a place in the elite; 0 takes the best.
    """

    builder: ClassVar[str] = "bnnsearch.evolve.elitist:build_elitist"

    name: Literal["elitist"] = "elitist"
    elite_size: Annotated[int, Field(ge=1, le=1024)] = 4
    children: Annotated[int, Field(ge=1, le=4096)] = 8
    ancestor_weight: Annotated[float, Field(ge=0, lt=1)] = 0.5
    survivors: Literal["plus", "comma"] = "plus"
    crossover: Fraction = 0.0
    tournament: Annotated[int, Field(ge=0, le=1024)] = 0
    generations_per_epoch: Generations = 50


class CountingConfig(EvolutionMethod):
    """Counting errors (appendix .3): weights that took part in many errors of a batch flip with a probability.

    Attributes:
        credit: `votes` marks the weights against which at least `share` of the batch votes, by the integer rule.
            `literal` is the appendix: marks by majority, half the batch, layer by layer; it cannot learn, since an
            output bit should be 0 nine times in ten, "wrong in half the batch" ends with all outputs 0, and nothing
            is marked any more. `balanced` is the appendix with the true label counting as much as all others.
        share: share of the batch that marks a weight, for `votes`.
        flip_probability: chance of a marked weight to flip in a child.
        flip_decay: factor on the flip probability after each epoch.
        children: children per batch; the best on the batch goes on.
        keep_parent: let the parent compete with its children.
        fitness: as in the perturbing methods, on the batch.
        margin: lead of the true label that is asked for, in votes.
        gate: distance from the majority up to which a neuron is asked to change.
        error_threshold: errors up to this size ask for nothing.
    """

    builder: ClassVar[str] = "bnnsearch.evolve.counting:build_counting"

    name: Literal["counting"] = "counting"
    credit: Literal["votes", "literal", "balanced"] = "votes"
    share: Share = 0.02
    flip_probability: Probability = 0.01
    flip_decay: Share = 0.95
    children: Annotated[int, Field(ge=1, le=4096)] = 6
    keep_parent: bool = False
    fitness: Literal["hits", "margin"] = "margin"
    margin: Margin = 32
    gate: Annotated[int, Field(ge=0, le=65536)] = 30
    error_threshold: Annotated[int, Field(ge=0, le=65536)] = 3


class InertiaConfig(EvolutionMethod):
    """Integer inertia: an int16 counter per weight sums the counted errors; the weight follows its sign, late.

    Attributes:
        margin: lead of the true label that is asked for, in votes.
        gate: distance from the majority up to which a neuron is asked to change; what decides.
        error_threshold: errors up to this size ask for nothing.
        limit: where counters are clipped.
        band: a weight flips once its counter has crossed zero by this much.
        start: counters start at random magnitudes up to this.
        decays: how often limit, band and counters double, which halves the effect of every error from then on.
        decay_from: share of the epochs after which the first doubling comes; the others follow evenly.
        voters: mini-batches whose votes are summed before the counters move.
    """

    builder: ClassVar[str] = "bnnsearch.evolve.inertia:build_inertia"

    name: Literal["inertia"] = "inertia"
    margin: Margin = 32
    gate: Annotated[int, Field(ge=0, le=65536)] = 20
    error_threshold: Annotated[int, Field(ge=0, le=65536)] = 3
    limit: Annotated[int, Field(ge=1, le=32767)] = 4000
    band: Annotated[int, Field(ge=0, le=32766)] = 100
    start: Annotated[int, Field(ge=1, le=32767)] = 300
    decays: Annotated[int, Field(ge=0, le=12)] = 3
    decay_from: Fraction = 0.5
    voters: Annotated[int, Field(ge=1, le=64)] = 1

    @property
    def batches_summed(self) -> int:
        return self.voters
