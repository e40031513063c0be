"""An evolutionary method: one network, one flipped copy at a time, the better of the two goes on."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from bnnsearch.config.evolution import PerturbingConfig
from bnnsearch.evolve.algorithm import EpochTally, Problem
from bnnsearch.evolve.individual import Individual, detach
from bnnsearch.evolve.perturbation import Perturbation
from bnnsearch.evolve.words import to_tensor, to_words


class OneFlipConfig(PerturbingConfig):
    """A copy must be better to go on; equals are left."""

    builder: ClassVar[str] = "build_one_flip"

    name: Literal["one_flip"] = "one_flip"


class OneFlip:
    """The network that stands."""

    def __init__(self, config: OneFlipConfig, problem: Problem, genome: Any) -> None:
        self._config = config
        self._perturbation = Perturbation(config, problem)
        self._network = Individual(genome)

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """All generations of an epoch, judged on the same images."""
        before = self._network.genome
        toolbox = self._perturbation.start_epoch(epoch, generator, [self._network])
        self._perturbation.evaluate([self._network])
        for _ in range(self._config.generations_per_epoch):
            (child,) = toolbox.mutate(toolbox.clone(self._network))
            self._perturbation.evaluate([child])
            if child.fitness > self._network.fitness:
                detach(child)
                self._network = child
        return self._perturbation.tally([self._network], before, generations=self._config.generations_per_epoch)

    def candidate(self) -> Any:
        """The genome that now stands for the run."""
        return self._network.genome

    def planned_bit_operations(self) -> int:
        """At most so many in a whole run."""
        most = self._config.generations_per_epoch
        return self._perturbation.planned_bit_operations(networks=1 + most, parents=most)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {"genome": to_tensor(self._network.genome)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._network = Individual(to_words(state["genome"]))


def build_one_flip(config: OneFlipConfig, problem: Problem, generator: np.random.Generator) -> OneFlip:
    """The algorithm with a new network."""
    return OneFlip(config, problem, problem.layout.random(generator))
