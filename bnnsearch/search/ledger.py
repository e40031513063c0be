"""The ledger of a study: an Optuna study on disk, the one truth about its trials. Knows no executor.

A trial is asked for, reports at rungs, and is told as what it came to: complete, pruned or failed. A trial that was
running when the driver died is still RUNNING in the ledger; whoever opens it next continues the same trial under the
same number, so that nothing is repeated or counted twice.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as OptunaState

from bnnsearch.config.study import GridConfig, StudyConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.reproducible import derived_seed
from bnnsearch.results import TrialResult, TrialState, by_number
from bnnsearch.search.advised import AdvisedSampler, with_rungs
from bnnsearch.search.grid import grid_points
from bnnsearch.search.pretraining import pretraining_key
from bnnsearch.search.samplers import make_sampler
from bnnsearch.search.schedulers import Rung
from bnnsearch.search.worker import Assignment
from bnnsearch.space import SearchSpace

RUNG, WENT_ON, STANDING, RETRY_OF, BATCH_SIZE = "rung:", "went_on", "standing", "retry_of", "batch_size"
"""Keys of a trial's attributes in the ledger."""

_OPTUNA_STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A trial that nobody has asked for yet, and whether it repeats another."""

    number: int
    repeats: bool


class Ledger:
    """Trials of one study, numbered from 0.

    Args:
        storage: where Optuna keeps them.
        name: the study's name there.
        study: objectives and sampler.
        space: what is searched.
    """

    def __init__(self, storage: BaseStorage, name: str, *, study: StudyConfig, space: SearchSpace) -> None:
        self._config = study
        self._space = space
        self._study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize" if each.mode == "max" else "minimize" for each in study.objectives],
            sampler=make_sampler(study.sampler, seed=study.seed),
            load_if_exists=True,
        )
        self._grid: list[dict[str, Any]] | None = None
        if isinstance(study.sampler, GridConfig):
            self._grid = grid_points(space, points=study.sampler.points, seed=study.seed)
        self._open: dict[int, Trial] = {}
        self._survey()

    def _survey(self) -> None:
        """Count what the ledger holds, once: a decision must not take longer the more trials there are."""
        trials = self._trials()
        self._next = len(trials)
        self._waiting = deque(
            _Waiting(trial.number, repeats=RETRY_OF in trial.user_attrs)
            for trial in trials
            if trial.state is OptunaState.WAITING
        )
        repeating = sum(RETRY_OF in trial.user_attrs for trial in trials if trial.state is not OptunaState.WAITING)
        self._asked = len(trials) - len(self._waiting) - repeating
        self._rungs = _recorded_rungs(trials)
        self._asked_for = {_text(self._space.sample(_Distributions(trial.params))) for trial in trials if trial.params}

    def __len__(self) -> int:
        """Trials asked for so far, in whatever state; one that repeats another is not counted."""
        return self._asked

    @property
    def capacity(self) -> float:
        """How many trials there can be at all: a grid has an end."""
        return math.inf if self._grid is None else len(self._grid)

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Let these parameters, dotted name to value, be those of the next trial that has none yet."""
        self._enqueue(params, {})

    def _enqueue(self, params: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        self._study.enqueue_trial(dict(params), user_attrs=attributes)
        self._waiting.append(_Waiting(self._next, repeats=RETRY_OF in attributes))
        self._next += 1

    def enqueue_half_batch(self, failed: Assignment) -> None:
        """Let the next trial repeat a failed one with half its batch, if that can be halved."""
        half = TrialConfig.model_validate(failed.config).data.batch_size // 2
        if half:
            params = self._study.get_trials(deepcopy=False)[failed.number].params
            self._enqueue(params, {RETRY_OF: failed.number, BATCH_SIZE: half})

    @property
    def retries_waiting(self) -> bool:
        """Whether a trial is to be repeated."""
        return any(trial.repeats for trial in self._waiting)

    def ask(self) -> Assignment:
        """A new trial: what was enqueued, else what the sampler suggests."""
        if self._grid is not None and not self._waiting:
            self.enqueue(self._grid[len(self)])
        if self._waiting:
            trial = self._waiting.popleft()  # as Optuna does
        else:
            trial = _Waiting(self._next, repeats=False)
            self._next += 1
        self._asked += not trial.repeats
        self._seed_sampler(trial.number)
        return self._resolve(self._study.ask())

    def unfinished(self) -> list[Assignment]:
        """The trials that were running when the last driver ended, in order; they are this driver's now."""
        return [self._taken_over(trial) for trial in self._trials(OptunaState.RUNNING) if not _waits(trial)]

    def waiting(self) -> list[tuple[Assignment, dict[str, Any]]]:
        """The trials that waited when the last driver ended, and their standings; this driver's now."""
        trials = [trial for trial in self._trials(OptunaState.RUNNING) if _waits(trial)]
        return [(self._taken_over(trial), trial.user_attrs[STANDING]) for trial in trials]

    def _taken_over(self, frozen: FrozenTrial) -> Assignment:
        self._seed_sampler(frozen.number)
        return self._resolve(Trial(self._study, frozen._trial_id))

    def knows(self, number: int) -> bool:
        """Whether there is a trial of that number that has ended, or runs and can be ended."""
        return any(trial.number == number and trial.state is not OptunaState.WAITING for trial in self._trials())

    def remembered(self, key: str, value: Any) -> Any:
        """What the study remembers under `key`; `value`, from now on, where it remembers nothing yet."""
        if key not in self._study.user_attrs:
            self._study.set_user_attr(key, value)
        return self._study.user_attrs[key]

    def restore(self, results: Sequence[TrialResult]) -> None:
        """Fill an empty ledger with ended trials; numbers that are missing among them become unfinished trials."""
        ended = by_number(results)
        for number in range(max(ended, default=-1) + 1):
            self._study.add_trial(self._recorded(ended[number]) if number in ended else _unfinished_trial())
        self._survey()

    def _recorded(self, result: TrialResult) -> FrozenTrial:
        distributions = _Distributions(result.params)
        self._space.sample(distributions)
        return create_trial(
            state=_OPTUNA_STATES[result.state],
            values=self._values(result),
            params=dict(result.params),
            distributions=distributions.found,
            user_attrs={} if result.retry_of is None else {RETRY_OF: result.retry_of},
            constraints=dict(result.violations),
        )

    def _values(self, result: TrialResult) -> list[float] | None:
        if result.state is not TrialState.COMPLETE:
            return None
        return [result.metrics[objective.metric] for objective in self._config.objectives]

    def params(self, number: int) -> dict[str, Any]:
        """What was sampled for a running trial."""
        return self._open[number].params

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the objective of a running trial after `epoch`; does nothing where there are several objectives."""
        if len(self._config.objectives) == 1:
            self._open[number].report(value, epoch)

    @property
    def rungs(self) -> Mapping[int, Rung]:
        """Epoch to the values of all trials that have reached the rung there."""
        return self._rungs

    def enter_rung(
        self, number: int, epoch: int, values: Sequence[float], *, standing: dict[str, Any] | None = None
    ) -> bool:
        """Record the values a running trial reached the rung at `epoch` with; where it has a `standing`, it waits.

        The standing is what a driver to come is to know of it, until `go_on`.

        Returns:
            Whether it is still to be decided if it goes on; a trial taken up again may have gone on from here before.
        """
        trial = self._open[number]
        if trial.user_attrs.get(WENT_ON, -math.inf) >= epoch:
            return False
        if standing is not None:
            trial.set_user_attr(STANDING, standing)
        trial.set_user_attr(f"{RUNG}{epoch}", list(values))  # last: from here on it waits
        self._rungs.setdefault(epoch, {})[number] = tuple(values)
        return True

    def go_on(self, number: int, epoch: int) -> None:
        """Record that a trial goes on from the rung at `epoch`."""
        self._open[number].set_user_attr(WENT_ON, epoch)

    def tell(self, result: TrialResult) -> None:
        """Close a running trial with what it came to."""
        trial = self._open.pop(result.number)
        for name, violation in result.violations.items():
            trial.set_constraint(name, violation)
        self._study.tell(trial, self._values(result), state=_OPTUNA_STATES[result.state])

    def _trials(self, *states: OptunaState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _seed_sampler(self, number: int) -> None:
        seed = _seed(self._config.seed, number, "sampler")
        sampler = make_sampler(self._config.sampler, seed=seed)
        if isinstance(sampler, TPESampler | GPSampler):
            # with one objective TPE is told of trials that have not ended by their reports
            informed = isinstance(sampler, TPESampler) and len(self._config.objectives) == 1
            seen = self._trials if informed else self._standing
            sampler = AdvisedSampler(sampler, seed=seed, is_known=self._is_known, seen=seen)
        self._study.sampler = sampler

    def _standing(self) -> list[FrozenTrial]:
        return with_rungs(self._trials(), self._rungs)

    def _is_known(self, params: Mapping[str, Any]) -> bool:
        """Whether these parameters, where they are all, have been asked for and would be trained alike again."""
        try:
            config = self._space.sample(_Distributions(params))
        except KeyError:  # some are drawn one by one, later
            return False
        return self._repeatable(config) and _text(config) in self._asked_for

    def _repeatable(self, config: Mapping[str, Any]) -> bool:
        """Whether the configuration says how its trial is seeded; otherwise another trial of it has its own seed."""
        if config.get("seed") is not None:
            return True
        return self._config.share_pretraining and pretraining_key(config) is not None

    def _resolve(self, trial: Trial) -> Assignment:
        config = self._space.sample(trial)
        self._asked_for.add(_text(config))
        retry_of = trial.user_attrs.get(RETRY_OF)
        if retry_of is not None:
            config = {**config, "data": {**config["data"], "batch_size": trial.user_attrs[BATCH_SIZE]}}
        if config.get("seed") is None:
            shared = pretraining_key(config) if self._config.share_pretraining else None
            config = {**config, "seed": _seed(self._config.seed, shared or trial.number, "trial")}
        self._open[trial.number] = trial
        return Assignment(trial.number, config, retry_of)


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _seed(study_seed: int, *path: int | str) -> int:
    return derived_seed(study_seed, *path) % 2**31  # what every generator takes


def _recorded_rungs(trials: Sequence[FrozenTrial]) -> dict[int, dict[int, tuple[float, ...]]]:
    rungs: dict[int, dict[int, tuple[float, ...]]] = {}
    for trial in trials:
        for epoch in _rungs_of(trial):
            rungs.setdefault(epoch, {})[trial.number] = tuple(trial.user_attrs[f"{RUNG}{epoch}"])
    return rungs


def _rungs_of(trial: FrozenTrial) -> list[int]:
    """The epochs of the rungs that a trial has reached."""
    return [int(key.removeprefix(RUNG)) for key in trial.user_attrs if key.startswith(RUNG)]


def _waits(trial: FrozenTrial) -> bool:
    went_on = trial.user_attrs.get(WENT_ON, -math.inf)
    return STANDING in trial.user_attrs and any(epoch > went_on for epoch in _rungs_of(trial))


def _unfinished_trial() -> FrozenTrial:
    trial = create_trial(state=OptunaState.RUNNING)
    trial.datetime_start = datetime.now()
    return trial


class _Distributions:
    """Suggests known values and notes what they would have been drawn from."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.found: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._value(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._value(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._value(name, CategoricalDistribution(choices))

    def _value(self, name: str, distribution: FloatDistribution | IntDistribution | CategoricalDistribution) -> Any:
        self.found[name] = distribution
        if name not in self._params and distribution.single():  # samplers leave it out
            return distribution.choices[0] if isinstance(distribution, CategoricalDistribution) else distribution.low
        return self._params[name]
