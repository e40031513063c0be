"""A sampler that draws some trials by beliefs, as long as these do well: the `prior:` of the space's leaves, and the
good trials of earlier studies, each of which is a belief in all that it was drawn with.

With priors the first trial is what is believed to be best. Of the others, one in two is drawn by a belief at first;
later as many as their success allows: p = a^2 / (a^2 + b^2), at most a half, where a and b are the shares of the trials
that beliefs led to, and of the others, that are among the best third so far. A good belief is kept up by what it finds,
which the sampler learns from too; a bad one costs a few trials, most of them stopped at the first rung. What was
queued, such as the front of an earlier study, is drawn by nobody and counts among the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import Rung
from bnnsearch.space.prior import Prior
from bnnsearch.study.delegating import DelegatingSampler
from bnnsearch.study.schedulers import ranking

BY_PRIOR = "bnnsearch:by_prior"
"""Attribute of a trial that a belief led to."""

MOST, BEST = 0.5, 1 / 3

Belief = Mapping[str, Prior]
"""What is believed of some parameters together, by name."""

Standing = Callable[[], Sequence[FrozenTrial]]


class BelievingSampler(DelegatingSampler):
    """Asks a sampler, and now and then a belief.

    Args:
        sampler: suggests otherwise, and what a belief is not about.
        priors: the space's own; empty where it has none.
        earlier: the beliefs of earlier studies, each as likely as the other; with priors, these are as likely as all of
            them together. There are priors, or some of these.
        modes: of the objectives.
        seen: the trials with what is known of their objectives, asked once for each suggestion.
        seed: of the draws.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        *,
        priors: Belief,
        earlier: Sequence[Belief],
        modes: Sequence[Mode],
        seen: Standing,
        seed: int,
    ) -> None:
        super().__init__(sampler)
        self._priors = priors
        self._earlier = earlier
        self._modes = modes
        self._seen = seen
        self._generator = random.Random(seed)
        self._exact = False
        self._belief: Belief | None = None  # None until it is decided by what the trial is drawn

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        joint = self._sampler.sample_relative(study, trial, search_space)
        if self._belief is None:
            self._belief = self._decided(study, trial)
        return joint | {name: self._draw(name, each) for name, each in search_space.items() if name in self._belief}

    def _decided(self, study: Study, trial: FrozenTrial) -> Belief:
        """By what the trial is drawn; nothing is the sampler's own."""
        others = [each for each in self._seen() if each.number != trial.number]
        self._exact = bool(self._priors) and not any(each.params for each in others)
        if not (self._exact or self._generator.random() < chance(others, self._modes)):
            return {}
        study._storage.set_trial_system_attr(trial._trial_id, BY_PRIOR, True)
        if self._priors and (self._exact or not self._earlier or self._generator.random() < 1 / 2):
            return self._priors
        return self._generator.choice(self._earlier)

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        assert self._belief is not None
        prior = self._belief[name]
        if self._exact:
            return prior.at
        match distribution:
            case CategoricalDistribution():
                return prior.choice(self._generator, distribution.choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                drawn = prior.number(self._generator, low, high, log=log)
                return int(low + round((drawn - low) / step) * step)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                drawn = prior.number(self._generator, low, high, log=log)
                return drawn if step is None else min(low + round((drawn - low) / step) * step, high)
        raise AssertionError(distribution)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        if self._belief and param_name in self._belief:
            return self._draw(param_name, param_distribution)
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def chance(trials: Sequence[FrozenTrial], modes: Sequence[Mode]) -> float:
    """The probability with which the next trial is drawn by a belief.

    Args:
        trials: those so far; those that have values count.
        modes: of the objectives.
    """
    values: Rung = {each.number: each.values for each in trials if each.state is TrialState.COMPLETE and each.values}
    if not values:
        return MOST
    believed = {each.number for each in trials if BY_PRIOR in each.system_attrs} & values.keys()
    best = set(ranking(values, modes)[: max(1, round(BEST * len(values)))])

    def success(own: set[int]) -> float:
        return (len(own & best) + 1) / (len(own) + 2)  # by Laplace's rule of succession

    own, others = success(believed) ** 2, success(set(values) - believed) ** 2
    return min(MOST, own / (own + others))
