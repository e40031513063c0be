"""The sampler `auto`: Bayesian optimisation of the hypervolume where all parameters are always there, else TPE.

Each objective is a Gaussian process over the unit cube: numbers on their scale, a choice by one coordinate for each of
its values. Trials that stand at a rung take part with what they will probably come to, and with how unsure that is.
What is suggested is the candidate, of random ones and of neighbours of the front, with the largest expected gain in
hypervolume over the front that the processes believe in, which is not that of the luckiest trials, times the
probability that it keeps the constraints: each of them is a process too, of the trials' violations. Hypervolume is the
mean over random directions u of the positive orthant (Zhang & Golovin, "Random hypervolume scalarizations for provable
multi-objective black box optimization", 2020, lemma 5):

    HV(Y) ~ E_u max_{y in Y} min_i ((r_i - y_i) / u_i)_+^m

The processes are fitted to at most `MOST` trials: half of them the best, by non-dominated rank and spread, the other
half the latest of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from bnnsearch.pareto import nondominated_ranks
from bnnsearch.study.advised import DEVIATION
from bnnsearch.study.delegating import DelegatingSampler
from bnnsearch.study.schedulers import ranking

if TYPE_CHECKING:
    from bnnsearch.study.process import Process

Array = NDArray[np.float64]

MOST = 128
"""Trials that the processes are fitted to."""

_RANDOM, _NEAR = 400, 400  # candidates
_SAMPLES, _DIRECTIONS = 16, 48
_DECADE = 10.0
_LIKELY = 0.5  # probability from which on a trial is taken to be within its bounds
_STEPS = (0.2, 0.05)  # of neighbours


class _Told(NamedTuple):
    """What is known: points (n, d), losses (n, m) on the scale they are modelled on, deviations (n, m) of these."""

    points: Array
    losses: Array
    noise: Array


class AutoSampler(DelegatingSampler):
    """Suggests by the processes where it can, else by `other`.

    Args:
        startup: trials before that.
        other: where parameters depend on one another.
        seed: of all draws.
    """

    def __init__(self, *, startup: int, other: BaseSampler, seed: int) -> None:
        super().__init__(other)
        self._startup = startup
        self._random = RandomSampler(seed)
        self._rng = np.random.default_rng(seed)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        trials = [each for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        complete = [each for each in trials if each.state is TrialState.COMPLETE]
        if not search_space or any(search_space.keys() != _drawn(each) for each in complete):
            return super().sample_relative(study, trial, search_space)
        if len(complete) < self._startup:
            return {
                name: self._random.sample_independent(study, trial, name, search_space[name])
                for name in sorted(search_space)
            }
        whole = [each for each in trials if search_space.keys() == _drawn(each)]
        cube = _Cube(search_space)
        told = _told(_chosen(complete, study.directions), cube, study.directions)
        running = cube.points([each.params for each in whole if each.state is TrialState.RUNNING])
        # for matrices this small more threads wait for one another, and for the trials
        with _threads().limit(limits=1):
            place = self._best(told, cube, running, _bounds(whole, cube))
        return cube.params(place)

    def _best(self, told: _Told, cube: _Cube, running: Array, bounds: Sequence[Process]) -> Array:
        """The candidate of the largest expected gain, times the probability that it is within all bounds."""
        from bnnsearch.study.process import Process  # loads SciPy, which a search that begins need not wait for

        columns = zip(told.losses.T, told.noise.T, strict=True)
        processes = [Process.fit(told.points, losses, noise) for losses, noise in columns]
        known = np.vstack([told.points, running])  # a trial that runs will come to what is expected of it
        within = _probability(known, bounds)
        known = known[within >= min(_LIKELY, within.max())]
        believed = np.column_stack([process.predict(known)[0] for process in processes])
        best = nondominated_ranks(believed, ["min"] * believed.shape[1]) == 0
        front = believed[best]
        candidates = cube.snapped(np.vstack([self._rng.random((_RANDOM, cube.width)), self._near(known[best], cube)]))
        predicted = [process.predict(candidates) for process in processes]
        means, deviations = (np.stack(each, axis=1) for each in zip(*predicted, strict=True))
        draws = self._rng.standard_normal((_SAMPLES, 1, means.shape[1]))
        gain = self._gain(means + deviations * draws, front) * _probability(candidates, bounds)
        return np.asarray(candidates[gain.argmax()])

    def _near(self, front: Array, cube: _Cube) -> Array:
        """Neighbours of the front: some coordinates moved, far or little."""
        chosen = front[self._rng.integers(len(front), size=_NEAR)]
        moved = self._rng.random(chosen.shape) < max(1.5 / cube.width, 0.3)
        step = self._rng.choice(_STEPS, size=(_NEAR, 1)) * self._rng.standard_normal(chosen.shape)
        return np.clip(chosen + moved * step, 0.0, 1.0)

    def _gain(self, drawn: Array, front: Array) -> Array:
        """Mean gain in hypervolume (c,) of losses drawn for candidates, (s, c, m), over a front (k, m)."""
        ideal = np.minimum(front.min(axis=0), drawn.mean(axis=0).min(axis=0))
        span = np.maximum(front.max(axis=0) - ideal, 1e-9)
        reference = ideal + 1.1 * span
        directions = np.abs(self._rng.standard_normal((_DIRECTIONS, front.shape[1]))) + 1e-9
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        rays = 1.0 / (directions * span)

        def heights(losses: Array) -> Array:  # (..., m) to (..., directions)
            lowest = np.full((*losses.shape[:-1], _DIRECTIONS), np.inf)
            for objective in range(losses.shape[-1]):
                room = reference[objective] - losses[..., objective, None]
                np.minimum(lowest, room * rays[:, objective], out=lowest)
            return np.asarray(np.maximum(lowest, 0.0) ** losses.shape[-1])

        return np.asarray(np.maximum(heights(drawn) - heights(front).max(axis=0), 0.0).mean(axis=(0, 2)))

    def reseed_rng(self) -> None:
        super().reseed_rng()
        self._random.reseed_rng()
        self._rng = np.random.default_rng()


@cache
def _threads() -> ThreadpoolController:
    """To find the libraries anew for each suggestion would take as long as half of it."""
    from bnnsearch.study import process  # noqa: F401  # SciPy brings a library of its own, which is not found before

    return ThreadpoolController()


def _drawn(trial: FrozenTrial) -> set[str]:
    """The parameters that could have been otherwise."""
    return {name for name, distribution in trial.distributions.items() if not distribution.single()}


def _bounds(trials: Sequence[FrozenTrial], cube: _Cube) -> list[Process]:
    """A process for each constraint that a trial has broken: of its violation, as a share of what is usual."""
    from bnnsearch.study.process import Process

    names = {name for each in trials for name, violation in (each.constraints or {}).items() if violation > 0}
    processes = []
    for name in sorted(names):
        known = [each for each in trials if name in (each.constraints or {})][-MOST:]
        violations = np.array([(each.constraints or {})[name] for each in known])
        shares = np.arcsinh(violations / (np.median(np.abs(violations)) or 1.0))
        processes.append(Process.fit(cube.points([each.params for each in known]), shares, np.zeros(len(known))))
    return processes


def _probability(places: Array, bounds: Sequence[Process]) -> Array:
    """The probability (n,) that places (n, d) are within all bounds."""
    within = np.ones(len(places))
    for bound in bounds:
        within *= bound.below(places, 0.0)
    return within


def _chosen(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The trials to look at, at most `MOST`."""
    if len(trials) <= MOST:
        return list(trials)
    modes = ["max" if each is StudyDirection.MAXIMIZE else "min" for each in directions]
    order = ranking({row: each.values for row, each in enumerate(trials)}, modes)  # type: ignore[arg-type]
    best = set(order[: MOST // 2])
    rest = [row for row in range(len(trials)) if row not in best]
    return [trials[row] for row in sorted({*best, *rest[-(MOST - len(best)) :]})]


def _told(trials: Sequence[FrozenTrial], cube: _Cube, directions: Sequence[StudyDirection]) -> _Told:
    signs = np.array([-1.0 if each is StudyDirection.MAXIMIZE else 1.0 for each in directions])
    losses = np.array([each.values for each in trials], dtype=np.float64) * signs
    noise = np.array([each.user_attrs.get(DEVIATION, np.zeros(len(signs))) for each in trials], dtype=np.float64)
    for column in range(len(signs)):
        own = losses[:, column]
        if own.min() > 0 and own.max() > _DECADE * own.min():  # a cost that spans decades
            noise[:, column] /= own
            losses[:, column] = own = np.log(own)
        middle = np.median(own)
        losses[:, column] = np.minimum(
            own, middle + 2 * (middle - own.min())
        )  # how bad the worst are is not worth much
    return _Told(cube.points([each.params for each in trials]), losses, noise)


class _Cube:
    """A space of parameters as [0, 1]^width and back."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = dict(sorted(space.items()))
        widths = [
            len(each.choices) if isinstance(each, CategoricalDistribution) else 1 for each in self._space.values()
        ]
        self._starts = np.cumsum([0, *widths])
        self.width = int(self._starts[-1])

    def points(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Points (n, width) of parameters."""
        rows = np.zeros((len(params), self.width))
        for start, (name, each) in zip(self._starts, self._space.items(), strict=False):
            values = [own[name] for own in params]
            if isinstance(each, CategoricalDistribution):
                rows[range(len(values)), [start + each.choices.index(value) for value in values]] = 1.0
            else:
                rows[:, start] = _share(each, values)
        return rows

    def snapped(self, rows: Array) -> Array:
        """The nearest points (n, width) that parameters have."""
        rows = rows.copy()
        for start, end, each in zip(self._starts, self._starts[1:], self._space.values(), strict=False):
            if isinstance(each, CategoricalDistribution):
                rows[:, start:end] = np.eye(end - start)[rows[:, start:end].argmax(axis=1)]
            elif isinstance(each, IntDistribution) or (isinstance(each, FloatDistribution) and each.step):
                rows[:, start] = _share(each, _values(each, rows[:, start]))
        return rows

    def params(self, row: Array) -> dict[str, Any]:
        """The parameters of a point."""
        params: dict[str, Any] = {}
        for start, end, (name, each) in zip(self._starts, self._starts[1:], self._space.items(), strict=False):
            if isinstance(each, CategoricalDistribution):
                params[name] = each.choices[int(row[start:end].argmax())]
            else:
                value = float(_values(each, row[start]))
                params[name] = int(value) if isinstance(each, IntDistribution) else value
        return params


def _share(each: BaseDistribution, values: ArrayLike) -> Array:
    """Where numbers lie between their bounds, on the scale that they are drawn on."""
    assert isinstance(each, IntDistribution | FloatDistribution)
    low, high, inner = (np.log(end) if each.log else np.asarray(end) for end in (each.low, each.high, values))
    return np.asarray((inner - low) / (high - low))


def _values(each: BaseDistribution, shares: ArrayLike) -> Array:
    """The allowed numbers nearest to shares of the way."""
    assert isinstance(each, IntDistribution | FloatDistribution)
    low, high = (np.log(end) if each.log else end for end in (each.low, each.high))
    values = low + np.asarray(shares) * (high - low)
    values = np.exp(values) if each.log else values
    if each.step:
        values = each.low + np.round((values - each.low) / each.step) * each.step
    return np.clip(values, each.low, each.high)
