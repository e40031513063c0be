"""A sampler that knows more than Optuna tells it: what was tried already, what trials that never ended came to, and
which values of a choice are close.

Optuna's Gaussian process learns from complete trials only; its TPE, where there are several objectives, takes every
pruned trial for a bad one and knows nothing of those that wait. With halving these are nearly all trials. Here each of
them stands with what the values of the highest rung it reached are likely to become: raised by what the finished trials
have typically gained from that rung on, as a difference or as a factor, or on their line of least squares.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from bnnsearch.config.scheduler import Rung
from bnnsearch.study.delegating import DelegatingSampler
from bnnsearch.study.ordinal import from_rank, ordinal, ordinals, with_ranks

DEVIATION = "bnnsearch:deviation"
"""Attribute of a trial that stands at a rung: how far each objective may be from its value, as a standard deviation."""

FEW = 5
"""Finished trials without which a rung does not tell by which slope values go on from it."""

Array = NDArray[np.float64]

_Way = Callable[[Array, Array, Array], tuple[float, float, float]]

TRIES = 10
"""Suggestions, then random draws, that are thrown away before a repetition is let through: none may be left to try."""

Seen = Callable[[], Sequence[FrozenTrial]]
"""The trials as a sampler is to see them."""


class AdvisedSampler(DelegatingSampler):
    """Asks a sampler for joint suggestions as long as what it suggests is known, then draws at random.

    Args:
        sampler: suggests.
        seed: of the random draws.
        is_known: whether parameters, dotted name to value, were tried before.
        seen: what the sampler sees instead of the study's trials, asked once for each suggestion.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        *,
        seed: int,
        is_known: Callable[[Mapping[str, Any]], bool],
        seen: Seen,
    ) -> None:
        super().__init__(sampler)
        self._random = RandomSampler(seed)
        self._is_known = is_known
        self._seen = seen
        self._shown: Study  # from when Optuna asks for the search space, which it does first

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        for _ in range(TRIES):
            ranks = self._sampler.sample_relative(self._shown, trial, ordinals(search_space))
            params = {name: from_rank(drawn, search_space[name]) for name, drawn in ranks.items()}
            if not self._is_known(params):
                return params
        for _ in range(TRIES):
            drawn = {
                name: self._random.sample_independent(study, trial, name, search_space[name]) for name in sorted(params)
            }
            if not self._is_known(drawn):
                return drawn
        return params

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        trials = self._seen()
        distributions: dict[str, BaseDistribution] = {}
        for each in trials:
            distributions |= each.distributions
        self._shown = showing(study, with_ranks(trials, distributions))
        return {name: distributions[name] for name in self._sampler.infer_relative_search_space(self._shown, trial)}

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002  # Optuna's signature
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        drawn = self._sampler.sample_independent(self._shown, trial, param_name, ordinal(param_distribution))
        return from_rank(drawn, param_distribution)

    def reseed_rng(self) -> None:
        super().reseed_rng()
        self._random.reseed_rng()


def with_rungs(trials: Sequence[FrozenTrial], rungs: Mapping[int, Rung], *, lines: bool = False) -> list[FrozenTrial]:
    """The trials, those that have not ended but reached a rung standing there as if complete.

    Args:
        trials: of a study, in any state.
        rungs: epoch to the values of all trials that have reached the rung there.
        lines: whether they stand on the line of least squares of those that finished, once these are `FEW`; else all
            have gained alike.
    """
    complete = {trial.number: trial.values for trial in trials if trial.state is TrialState.COMPLETE}
    standing: dict[int, tuple[list[float], list[float]]] = {}
    for epoch in sorted(rungs):  # the highest that a trial has reached stands last
        rung = {number: np.asarray(values, dtype=np.float64) for number, values in rungs[epoch].items()}
        reached = np.array(list(rung.values()))
        both = [number for number in rung if number in complete]
        shape = len(both), reached.shape[1]
        before = np.array([rung[each] for each in both]).reshape(shape)
        after = np.array([complete[each] for each in both]).reshape(shape)
        way = _line if lines and len(both) >= FEW else _typical
        columns = [_goes_on(way, *each) for each in zip(before.T, after.T, reached.T, strict=True)]
        ends, deviations = (np.stack(each, axis=1).tolist() for each in zip(*columns, strict=True))
        standing |= dict(zip(rung, zip(ends, deviations, strict=True), strict=True))
    return [
        _completed(trial, *standing[trial.number])
        if trial.number in standing and trial.state in {TrialState.PRUNED, TrialState.RUNNING}
        else trial
        for trial in trials
    ]


def _goes_on(way: _Way, before: Array, after: Array, reached: Array) -> tuple[Array, Array]:
    """What an objective comes to from a rung, for each trial that reached it, and its deviations, (n,) each.

    What clearly grows by a factor rather than by a difference, as the time of training does, is seen in logarithms.
    """
    positive = len(before) > 1 and min(before.min(), after.min(), reached.min()) > 0
    if positive and 2 * np.std(np.log(after / before)) < np.std(after - before) / np.mean(after):
        slope, gain, deviation = way(np.log(before), np.log(after), np.log(reached))
        ends = np.exp(slope * np.log(reached) + gain)
        return ends, ends * deviation
    slope, gain, deviation = way(before, after, reached)
    return slope * reached + gain, np.full(len(reached), deviation)


def _typical(before: Array, after: Array, reached: Array) -> tuple[float, float, float]:
    """How an objective goes on from a rung: slope, gain, and how far what becomes of it may be from that.

    Args:
        before: values at the rung of trials that finished.
        after: their values in the end.
        reached: values of all that reached the rung.
    """
    return 1.0, float(np.median(after - before)) if len(before) else 0.0, float(np.std(reached))


def _line(before: Array, after: Array, _: Array) -> tuple[float, float, float]:
    """The same on the line of least squares."""
    slope = max(float(np.cov(before, after)[0, 1] / (np.var(before, ddof=1) or np.inf)), 0.0)
    gain = float(np.mean(after) - slope * np.mean(before))
    return slope, gain, float(np.std(after - slope * before - gain, ddof=2))


def _completed(trial: FrozenTrial, values: list[float], deviation: list[float]) -> FrozenTrial:
    seen = copy.copy(trial)
    seen.state, seen.values = TrialState.COMPLETE, values
    seen.user_attrs = {**trial.user_attrs, DEVIATION: deviation}
    return seen


class _Shown(InMemoryStorage):
    """Shows some trials, and hands on what a sampler notes of its own."""

    def __init__(self, study: Study, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._storage = study._storage
        self._of = study._study_id
        self._trials_shown = trials

    def get_all_trials(
        self,
        study_id: int,  # noqa: ARG002
        deepcopy: bool = True,  # noqa: ARG002  # Optuna's signature
        states: Any = None,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials_shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002
        return self._storage.get_study_system_attrs(self._of)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:  # noqa: ARG002
        self._storage.set_study_system_attr(self._of, key, value)


def showing(study: Study, trials: Sequence[FrozenTrial]) -> Study:
    """A study that has these trials."""
    storage = _Shown(study, trials)
    storage.create_new_study(study.directions, study.study_name)
    return Study(study.study_name, storage)
