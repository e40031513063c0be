"""A sampler's suggestions without those that the space forbids, whatever the sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from bnnsearch.errors import InputError
from bnnsearch.space import SearchSpace
from bnnsearch.study.delegating import DelegatingSampler

TRIES = 10
"""Suggestions that are thrown away before it is drawn at random."""

DRAWS = 2000
"""Random draws, all forbidden, after which the space is taken for empty."""

Independent = Callable[[str, BaseDistribution], Any]


class AllowedSampler(DelegatingSampler):
    """Draws all of a configuration before any of it is told, so that what is forbidden can be drawn again.

    Args:
        sampler: suggests.
        space: says what is forbidden.
        seed: of the random draws.
    """

    def __init__(self, sampler: BaseSampler, *, space: SearchSpace, seed: int) -> None:
        super().__init__(sampler)
        self._space = space
        self._random = RandomSampler(seed)
        self._drawn: Mapping[str, Any] = {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The joint part of an allowed configuration; the rest is kept for `sample_independent`.

        Raises:
            InputError: nothing allowed is found.
        """
        for attempt in range(TRIES + DRAWS):
            sampler = self._sampler if attempt < TRIES else self._random
            joint = sampler.sample_relative(study, trial, search_space)

            def alone(name: str, distribution: BaseDistribution, sampler: BaseSampler = sampler) -> Any:
                return sampler.sample_independent(study, trial, name, distribution)

            draws = _Draws(joint, alone)
            if self._space.allows(self._space.sample(draws)):
                self._drawn = draws.params
                return {name: value for name, value in draws.params.items() if name in search_space}
        raise InputError(f"forbid: {DRAWS} random configurations were all forbidden; the rules leave too little")

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002  # Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        return self._drawn[param_name]

    def reseed_rng(self) -> None:
        super().reseed_rng()
        self._random.reseed_rng()


class Suggesting:
    """Suggests values by the distribution of Optuna's that each would be drawn from; what is missing is `value`."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self.value(name, FloatDistribution(low, high, log=log, step=step), low))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self.value(name, IntDistribution(low, high, log=log, step=step), low))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self.value(name, CategoricalDistribution(choices), choices[0])

    def value(self, name: str, distribution: BaseDistribution, first: Any) -> Any:
        """The value of a parameter, and where there is but one, `first`: samplers leave that parameter out."""
        raise NotImplementedError


class _Draws(Suggesting):
    """Suggests what was drawn jointly, and each other parameter as it is asked for."""

    def __init__(self, joint: Mapping[str, Any], alone: Independent) -> None:
        self._joint = joint
        self._alone = alone
        self.params: dict[str, Any] = {}

    def value(self, name: str, distribution: BaseDistribution, first: Any) -> Any:
        if distribution.single():
            value = first
        else:
            value = self._joint[name] if name in self._joint else self._alone(name, distribution)
        self.params[name] = value
        return value
