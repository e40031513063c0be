"""Choices of numbers as a sampler is to see them: by rank, so that it learns which of them are close.

To Optuna the values of a choice are names: what it has learnt of 0.01 says nothing of 0.02. Their ranks it takes for
whole numbers. The study itself, and all that is read from it, keeps the values.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial

FEWEST = 3
"""Values that have an order worth telling: of two, either is next to the other."""


def ordinal(distribution: BaseDistribution) -> BaseDistribution:
    """The ranks of a choice of numbers, from 0 for the least; any other distribution as it is."""
    numbers = _numbers(distribution)
    return IntDistribution(0, len(numbers) - 1) if numbers else distribution


def from_rank(drawn: Any, distribution: BaseDistribution) -> Any:
    """The value of a parameter that was drawn from its `ordinal`."""
    numbers = _numbers(distribution)
    return numbers[drawn] if numbers else drawn


def ordinals(distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """Each parameter's `ordinal`."""
    return {name: ordinal(each) for name, each in distributions.items()}


def with_ranks(trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution]) -> Sequence[FrozenTrial]:
    """The trials with all their parameters as drawn from their `ordinal`.

    Args:
        trials: of one study.
        distributions: what each of their parameters was drawn from.
    """
    ranks = {
        name: {value: rank for rank, value in enumerate(numbers)}
        for name, each in distributions.items()
        if (numbers := _numbers(each))
    }
    seen_as = ordinals(distributions)
    return [trial if ranks.keys().isdisjoint(trial.params) else _with_ranks(trial, ranks, seen_as) for trial in trials]


def _with_ranks(
    trial: FrozenTrial, ranks: Mapping[str, Mapping[Any, int]], seen_as: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    seen = copy.copy(trial)
    seen.params = {name: ranks[name][value] if name in ranks else value for name, value in trial.params.items()}
    seen.distributions = {name: seen_as[name] for name in trial.distributions}
    return seen


def _numbers(distribution: BaseDistribution) -> list[Any]:
    """The values of a choice of numbers, ascending; empty for any other distribution."""
    if not isinstance(distribution, CategoricalDistribution) or len(distribution.choices) < FEWEST:
        return []
    numbers = [each for each in distribution.choices if isinstance(each, int | float) and not isinstance(each, bool)]
    return sorted(numbers) if len(numbers) == len(distribution.choices) else []
