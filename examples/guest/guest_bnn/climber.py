"""A sampler: a point of the front with some parameters drawn anew; any sampler of Optuna's interface will do."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bnnsearch.config.sampler import SamplerSettings

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class ClimberConfig(SamplerSettings):
    """Hill climbing; `anew` is the chance of each parameter to be drawn at random."""

    builder: ClassVar[str] = "build_climber"

    name: Literal["climber"] = "climber"
    anew: Annotated[float, Field(gt=0, le=1)] = 0.3


def build_climber(config: ClimberConfig, seed: int) -> BaseSampler:
    """The sampler for one suggestion: the same trials and `seed` suggest the same."""
    from optuna.samplers import RandomSampler

    class Climber(RandomSampler):
        """Random draws, but for what a trial of the front passes on."""

        def __init__(self) -> None:
            super().__init__(seed=seed)
            self._chance = random.Random(seed)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            drawn = super().sample_independent(study, trial, param_name, param_distribution)
            parents = [each for each in study.best_trials if param_name in each.params]
            if not parents or self._chance.random() < config.anew:
                return drawn
            return self._chance.choice(parents).params[param_name]

    return Climber()
