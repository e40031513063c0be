"""The ledger of a study: its record as trials that can be asked for and told, in an Optuna study in memory.

A trial is asked for, reports at rungs, and is told with its outcome: complete, pruned or failed. Each of these is an
event of the record first; the Optuna study that the sampler looks at is made from the events alone, so that a ledger
that is opened anew suggests what the old one would have. A trial that was running when the driver died has no `ended`
in the record; whoever opens it next continues the same trial under the same number, so that nothing is repeated or
counted twice. Knows no executor.

| event | what it says |
|---|---|
| `queued` | trial `number` will have these `params`; perhaps it repeats `retry_of` with `batch_size` |
| `confirmation` | `trials` will train configurations of the front again, each `confirms` one with another `seed` |
| `asked` | all that was drawn at once: `params`, `config`, what the sampler noted of the trial and of the `study` |
| `restarted` | a trial that an earlier driver left is taken up again |
| `costs`, `epoch` | what the trial reported |
| `rung` | the `values` it reached the rung at its own `epoch` with; with a `standing` it waits there |
| `promoted` | it goes on from the rung at `epoch` |
| `paused` | it has left its worker and waits |
| `ended` | a `TrialResult`; with a `retry`, another trial was queued that repeats it with half the batch |
| `session` | the `first` trials of a new study, and what was `good` in earlier ones; what has `changed` of the space |
| `stopped` | the driver ended, and why |
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._ga import BaseGASampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as OptunaState

from bnnsearch.config.scheduler import Rung
from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import trial_of
from bnnsearch.core.reproducible import derived_seed
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.record import SESSION, Event, Record
from bnnsearch.results import TrialResult, TrialState, result_of
from bnnsearch.space import SearchSpace, Space
from bnnsearch.space.distribution import Range
from bnnsearch.space.prior import Prior
from bnnsearch.study.advised import AdvisedSampler, with_rungs
from bnnsearch.study.allowed import AllowedSampler, Suggesting
from bnnsearch.study.believing import BY_PRIOR, Belief, BelievingSampler
from bnnsearch.study.bounded import Generations, ShownSampler, View
from bnnsearch.study.copies import OptunaCopy
from bnnsearch.study.pretraining import pretraining_key
from bnnsearch.study.samplers import make_sampler
from bnnsearch.study.worker import Assignment
from bnnsearch.verdict import CHANGED, Verdict

RETRY_OF, CONFIRMS = "retry_of", "confirms"
"""Attributes of a trial in Optuna's study."""

_FIXED = "fixed_params"  # under which Optuna looks for the parameters of a trial that was enqueued
_OPTUNA_STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@dataclass(slots=True)
class _Seen:
    """What the record says of one trial."""

    queued: Event | None = None
    asked: Event | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    epoch: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    reports: dict[int, float] = field(default_factory=dict)
    highest_rung: float = -math.inf
    promoted: float = -math.inf
    standing: dict[str, Any] | None = None
    result: TrialResult | None = None
    earlier: bool = False
    """Whether it is of before the last change of the space."""

    @property
    def params(self) -> Mapping[str, Any] | None:
        """What was drawn; None where the record does not tell."""
        if self.result is not None:
            return self.result.params
        return None if self.asked is None else self.asked["params"]

    @property
    def is_waiting_for_worker(self) -> bool:
        return self.queued is not None and self.asked is None and self.result is None

    @property
    def retry_of(self) -> int | None:
        if self.result is not None:
            return self.result.retry_of
        event = self.asked or self.queued
        return None if event is None else event.get("retry_of")

    @property
    def confirms(self) -> int | None:
        if self.result is not None:
            return self.result.confirms
        event = self.asked or self.queued
        return None if event is None else event.get("confirms")

    @property
    def waits_at_rung(self) -> bool:
        return self.result is None and self.standing is not None and self.highest_rung > self.promoted


@dataclass(frozen=True, slots=True)
class _Queued:
    """A trial that nobody has asked for yet, and whether it repeats another, and with what batch or seed."""

    number: int
    retry_of: int | None = None
    batch_size: int | None = None
    confirms: int | None = None
    seed: int | None = None

    @property
    def repeats(self) -> bool:
        """Whether it is not counted among the trials of the budget."""
        return self.retry_of is not None or self.confirms is not None

    @classmethod
    def of(cls, event: Event) -> _Queued:
        return cls(**{name: event[name] for name in cls.__slots__ if name in event})


@dataclass(slots=True)
class _Open:
    """A trial that was asked for and has not ended; `epoch` is the last in the record, `stands` is at a rung."""

    params: Mapping[str, Any]
    epoch: int = 0
    promoted: float = -math.inf
    stands: bool = False


class Ledger:
    """Trials of one study, numbered from 0.

    Args:
        record: of the study; its events are what has happened so far.
        study: objectives and sampler.
        space: what is searched.
        sampler: the study's, where it is made already.

    Attributes:
        results: ended trials by number.
        copy: follows Optuna's view of the trials, where there is one.
        trials: Optuna's view of all trials, in order; those outside a space that was changed have failed there and have
            no parameters.
        verdict: what a change of the space says of earlier trials.

    Raises:
        EnvironmentProblem: a trial of the record does not lie in the space.
    """

    def __init__(
        self, record: Record, *, study: StudyConfig, space: SearchSpace, sampler: BaseSampler | None = None
    ) -> None:
        self._record = record
        self._config = study
        self._space = space
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=study.name,
            directions=["maximize" if each.mode == "max" else "minimize" for each in study.objectives],
            sampler=sampler or make_sampler(study.sampler, seed=study.seed),
        )
        beliefs = {each.name: each.distribution for each in space.parameters()}
        self._priors = {
            name: each.prior for name, each in beliefs.items() if not isinstance(each, Range) and each.prior is not None
        }
        self._beliefs: list[Belief] = []  # of earlier studies
        self._listed = study.sampler.listed(space, study.seed) if study.sampler.enumerates else None
        self.results: dict[int, TrialResult] = {}
        self.copy: OptunaCopy | None = None
        self._open: dict[int, _Open] = {}
        self._rungs: dict[int, dict[int, tuple[float, ...]]] = {}
        self._asked_for: set[str] = set()
        self._waiting: deque[_Queued] = deque()
        self._asked = 0
        self._left: list[tuple[int, _Seen]] = []
        self._modes = [each.mode for each in study.objectives]
        self._view = View(self._modes)
        genetic = self._study.sampler
        self._generations = Generations(genetic) if isinstance(genetic, BaseGASampler) else None
        self.verdict = Verdict()
        self._changes = 0  # of the space, that are still to come as the record is read
        self._earlier: list[str] = []  # configurations of the trials before the last one
        self._left_outside: list[tuple[int, _Seen]] = []
        self._fold()

    def _fold(self) -> None:
        """Count what the record holds, once: a decision must not take longer the more trials there are."""
        seen: dict[int, _Seen] = {}
        for event in self._record.events((SESSION,)):
            self.verdict = self.verdict.after(event)
            self._changes += CHANGED in event
            self._beliefs += [{name: Prior(at) for name, at in params.items()} for params in event.get("good", ())]
        for event in self._record.events():
            self._changes -= event["event"] == SESSION and CHANGED in event
            for queued in queued_by(event):
                trial = seen.setdefault(queued["number"], _Seen())
                trial.queued, trial.earlier = queued, self._changes > 0
            if (number := event.get("number")) is not None:
                self._note(seen.setdefault(number, _Seen()), number, event)
        for number in range(max(seen, default=-1) + 1):
            trial = seen.get(number, _Seen())
            if trial.asked is None and trial.result is None:  # what was drawn is lost: it begins anew, at no rung
                trial = _Seen(queued=trial.queued)
                self._leave_rungs(number)
            if number in self.verdict.outside:
                self._leave_out(number, trial)
            else:
                self._take_in(number, trial)
        self._next = len(self._trials())
        if self._listed is not None and self._earlier:
            known = set(self._earlier)
            new = [each for each in self._listed if _text(self._space.config_of(each)) not in known]
            self._listed = [{}] * len(self._earlier) + new

    def _note(self, trial: _Seen, number: int, event: Event) -> None:
        match event["event"]:
            case "queued":
                trial.queued, trial.earlier = event, self._changes > 0
            case "asked":
                if self._record.damaged:  # what samplers noted may name trials that are lost: they begin anew
                    event = {**event, "attributes": {}, "study": {}}
                elif self._changes:
                    event = self._still_true(event)
                trial.asked, trial.earlier = event, self._changes > 0
                self._remember(event["study"])
            case "costs":
                trial.costs = event["values"]
            case "epoch":
                trial.epoch, trial.values = event["epoch"], event["values"]
                known = {**event["values"], **trial.costs}
                if len(self._config.objectives) == 1 and (metric := self._config.objectives[0].metric) in known:
                    trial.reports[event["epoch"]] = known[metric]
            case "rung":
                trial.highest_rung = max(trial.highest_rung, event["epoch"])
                trial.standing = event["standing"]
                self._rungs.setdefault(event["epoch"], {})[number] = tuple(event["values"])
                self._view.stands(number)
            case "promoted":
                trial.promoted = max(trial.promoted, event["epoch"])
            case "ended":
                trial.result = self.verdict.of(result_of(event))
                if number not in self.verdict.outside:
                    with suppress(KeyError):  # an objective is missing: `_take_in` says so
                        self._view.ended(trial.result, self._objectives(trial.result))

    def _still_true(self, asked: Event) -> Event:
        """A trial of before the last change of the space, with what holds of all that samplers noted then."""
        attributes = {name: value for name, value in asked["attributes"].items() if name == BY_PRIOR}
        study: dict[str, Any] = {}
        if self._generations is not None:
            attributes |= self._generations.own(asked["attributes"])
            study = self._generations.within(asked["study"], self.verdict.outside)
        return {**asked, "attributes": attributes, "study": study}

    def _leave_rungs(self, number: int) -> None:
        self._view.forget(number)
        for epoch, values in list(self._rungs.items()):
            values.pop(number, None)
            if not values:
                del self._rungs[epoch]

    def _remember(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self._storage.set_study_system_attr(self._study._study_id, key, value)

    def _leave_out(self, number: int, trial: _Seen) -> None:
        """A trial of the record lies outside the space; one that nobody has asked for is dropped."""
        self._leave_rungs(number)
        self._storage.create_new_trial(self._study._study_id, create_trial(state=OptunaState.FAIL))
        if trial.is_waiting_for_worker:
            return
        if trial.retry_of is None and trial.confirms is None:
            self._asked += 1
            self._earlier.append("")
        if trial.result is not None:
            self.results[number] = trial.result
        else:
            self._left_outside.append((number, trial))

    def _take_in(self, number: int, trial: _Seen) -> None:
        """Make a trial of the record one of Optuna's study."""
        counts = trial.retry_of is None and trial.confirms is None
        self._asked += counts and not trial.is_waiting_for_worker
        try:
            found = Distributions(trial.params or {})
            if trial.params is not None:
                self._asked_for.add(_text(self._space.sample(found)))
            if trial.earlier and counts and self._listed is not None:
                drawn = (trial.queued or {}).get("params") if trial.params is None else trial.params
                self._earlier.append("" if drawn is None else _text(self._space.config_of(drawn)))
            self._storage.create_new_trial(self._study._study_id, _frozen(trial, found.found, self._values(trial)))
        except (KeyError, ValueError, TypeError) as error:
            raise EnvironmentProblem(
                f"{self._record.path}: trial {number} does not lie in the study's space ({error})"
            ) from error
        if trial.result is not None:
            self.results[number] = trial.result
            self._note_generation(number)
        elif trial.is_waiting_for_worker:
            assert trial.queued is not None
            self._waiting.append(_Queued.of({**trial.queued, "number": number}))
        else:
            self._left.append((number, trial))

    def _values(self, trial: _Seen) -> list[float] | None:
        if trial.result is None:
            return None
        if trial.result.state is TrialState.PRUNED and trial.reports:  # as Optuna does when it is told
            return [trial.reports[max(trial.reports)]]
        return self._objectives(trial.result)

    def _objectives(self, result: TrialResult) -> list[float] | None:
        if result.state is not TrialState.COMPLETE:
            return None
        return [result.metrics[objective.metric] for objective in self._config.objectives]

    def __len__(self) -> int:
        """Trials asked for so far, in whatever state; those that repeat others are not counted."""
        return self._asked

    @property
    def capacity(self) -> float:
        """How many trials there can be at all: a list has an end."""
        return math.inf if self._listed is None else len(self._listed)

    @property
    def trials(self) -> list[FrozenTrial]:
        """Optuna's view of all trials, in order."""
        return self._trials()

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Let these parameters, dotted name to value, be those of the next trial that has none yet."""
        self._record.append("queued", number=self._next, params=dict(params), retry_of=None, batch_size=None)
        self._enqueue(params, _Queued(self._next))

    def confirm(self, runs: Sequence[tuple[int, int]]) -> None:
        """Let the next trials train what complete trials did, each with another seed.

        Args:
            runs: number of a trial, and the seed.
        """
        queued = [
            _Queued(number, confirms=confirmed, seed=seed) for number, (confirmed, seed) in enumerate(runs, self._next)
        ]
        params = [dict(self.results[confirmed].params) for confirmed, _ in runs]
        trials = [asdict(each) | {"params": own} for each, own in zip(queued, params, strict=True)]
        self._record.append("confirmation", trials=trials)
        for own, each in zip(params, queued, strict=True):
            self._enqueue(own, each)

    def _enqueue(self, params: Mapping[str, Any], queued: _Queued) -> None:
        self._study.enqueue_trial(dict(params), user_attrs=_notes(queued.retry_of, queued.confirms))
        self._waiting.append(queued)
        self._follow(queued.number)
        self._next += 1

    def _follow(self, number: int) -> None:
        if self.copy is not None:
            self.copy.follow(self._storage.get_trial(self._id(number)))

    @property
    def repetitions_waiting(self) -> int:
        """How many trials are to be repeated, with a smaller batch or another seed."""
        return sum(trial.repeats for trial in self._waiting)

    def ask(self) -> Assignment:
        """A new trial: what was enqueued, else what the sampler suggests."""
        if self._listed is not None and not self._waiting:
            self.enqueue(self._listed[len(self)])
        if self._waiting:
            trial = self._waiting.popleft()  # as Optuna does
        else:
            trial = _Queued(self._next)
            self._next += 1
        self._asked += not trial.repeats
        noted = self._study_attributes()
        self._seed_sampler(trial.number)
        return self._resolve(self._study.ask(), trial, noted)

    def _study_attributes(self) -> dict[str, Any]:
        return self._storage.get_study_system_attrs(self._study._study_id)

    def unfinished(self) -> list[Assignment]:
        """The trials that were running when the last driver ended, in order; they are this driver's now."""
        return [self._taken_over(number, trial) for number, trial in self._left if not trial.waits_at_rung]

    def waiting(self) -> list[tuple[Assignment, dict[str, Any]]]:
        """The trials that waited when the last driver ended, and their standings; this driver's now."""
        return [
            (self._taken_over(number, trial), trial.standing)
            for number, trial in self._left
            if trial.waits_at_rung and trial.standing is not None
        ]

    def left_outside(self) -> list[tuple[Assignment, dict[str, Any]]]:
        """Of the trials that had not ended those outside the space, and what is known of each; they are to end."""
        return [
            (
                self._taken_over(number, trial),
                trial.standing
                if trial.waits_at_rung and trial.standing is not None
                else {"epoch": trial.epoch, "costs": trial.costs, "values": trial.values},
            )
            for number, trial in self._left_outside
        ]

    def _taken_over(self, number: int, trial: _Seen) -> Assignment:
        if trial.asked is None:  # the record lost what was drawn for it
            self._seed_sampler(number)
            drawn = Trial(self._study, self._id(number))
            return self._resolve(drawn, _Queued(number), self._study_attributes())
        self._open[number] = _Open(trial.asked["params"], trial.epoch, trial.promoted, trial.waits_at_rung)
        return Assignment(number, trial.asked["config"], trial.retry_of, trial.confirms)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def restart(self, number: int) -> None:
        """Record that a trial that an earlier driver left runs again."""
        self._record.append("restarted", number=number)

    def params(self, number: int) -> Mapping[str, Any]:
        """What was sampled for a running trial."""
        return self._open[number].params

    def costs(self, number: int, values: Mapping[str, float]) -> None:
        """Record what a running trial costs."""
        self._record.append("costs", number=number, values=dict(values))

    def report(self, number: int, metrics: EpochMetrics, value: float) -> None:
        """Record an epoch of a running trial, and the first objective after it for a sampler that can use it.

        What was recorded before, and is repeated from a checkpoint, is left as it is.
        """
        trial = self._open[number]
        if metrics.epoch <= trial.epoch:
            return
        self._record.append("epoch", number=number, **_fields(metrics))
        trial.epoch = metrics.epoch
        if len(self._config.objectives) == 1:
            self._storage.set_trial_intermediate_value(self._id(number), metrics.epoch, value)
            if self.copy is not None:
                self.copy.report(number, metrics.epoch, value)

    @property
    def rungs(self) -> Mapping[int, Rung]:
        """Epoch to the values of all trials that have reached the rung there."""
        return self._rungs

    def enter_rung(
        self, number: int, epoch: int, values: Sequence[float], *, standing: dict[str, Any] | None = None
    ) -> bool:
        """Record the values a running trial reached the rung at `epoch` with; where it has a `standing`, it waits.

        The standing is what a driver to come is to know of it, until it is promoted.

        Returns:
            Whether it is still to be decided if it goes on; a trial taken up again may have gone on from here before.
        """
        if self._open[number].promoted >= epoch:
            return False
        if self._rungs.get(epoch, {}).get(number) != tuple(values):  # else it is decided again after a resume
            self._record.append("rung", number=number, epoch=epoch, values=list(values), standing=standing)
            self._view.stands(number)
        self._open[number].stands = True
        self._rungs.setdefault(epoch, {})[number] = tuple(values)
        return True

    def promote(self, number: int, epoch: int) -> None:
        """Record that a trial goes on from the rung at `epoch`."""
        self._record.append("promoted", number=number, epoch=epoch)
        self._open[number].promoted = epoch
        self._open[number].stands = False

    def pause(self, number: int) -> None:
        """Record that a trial has left its worker and waits at its rung."""
        self._record.append("paused", number=number)

    def tell(self, result: TrialResult, *, with_half_batch: bool = False) -> None:
        """Close a running trial with its outcome; if so, the next trial repeats it with half its batch.

        Where the batch cannot be halved, none does.
        """
        half = (trial_of(result.config).batch_size or 0) // 2 if with_half_batch else 0
        retry = {"retry": {"number": self._next, "batch_size": half}} if half else {}
        self._record.append("ended", **_fields(result), **retry)
        self._record.sync()
        del self._open[result.number]
        self.results[result.number] = result
        if result.number in self.verdict.outside:
            return
        for key, violation in _constraint_attributes(result).items():
            self._storage.set_trial_system_attr(self._id(result.number), key, violation)
        self._study.tell(result.number, self._objectives(result), state=_OPTUNA_STATES[result.state])
        self._view.ended(result, self._objectives(result))
        self._note_generation(result.number)
        self._follow(result.number)
        if half:
            self._enqueue(result.params, _Queued(self._next, result.number, half))

    def stop(self, reason: str) -> None:
        """Record that the driver ends."""
        self._record.append("stopped", reason=reason)
        self._record.sync()

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _seed_sampler(self, number: int) -> None:
        seed = _seed(self._config.seed, number, "sampler")
        sampler = make_sampler(self._config.sampler, seed=seed)
        if self._config.sampler.advised:
            informed = self._config.sampler.reads_reports and len(self._config.objectives) == 1
            seen = self._looked_at if informed else self._standing
            sampler = AdvisedSampler(sampler, seed=seed, is_known=self._is_known, seen=seen)
        elif self._generations is not None:
            sampler = ShownSampler(sampler, seen=self._last_generations)
        if (self._priors or self._beliefs) and not self._config.sampler.enumerates:
            sampler = BelievingSampler(
                sampler,
                priors=self._priors,
                earlier=self._beliefs,
                modes=self._modes,
                seen=self._standing,
                seed=seed,
            )
        if self._space.forbidden:
            sampler = AllowedSampler(sampler, space=self._space, seed=seed)
        self._study.sampler = sampler

    def _looked_at(self) -> list[FrozenTrial]:
        """The trials that a sampler looks at."""
        trials = self._trials()
        if self._view.whole:
            return trials
        running = (number for number, trial in self._open.items() if not trial.stands)
        return [trials[number] for number in self._view.numbers(running)]

    def _standing(self) -> list[FrozenTrial]:
        """The same, those at a rung standing with what they will probably come to."""
        trials = self._looked_at()
        rungs: Mapping[int, Rung] = self._rungs
        if not self._view.whole:
            numbers = [each.number for each in trials]
            known = {at: {each: rung[each] for each in numbers if each in rung} for at, rung in rungs.items()}
            rungs = {at: rung for at, rung in known.items() if rung}
        return with_rungs(trials, rungs, lines=self._config.sampler.weighs)

    def _last_generations(self) -> list[FrozenTrial]:
        assert self._generations is not None
        return self._generations.trials(self._study_attributes(), self._storage.get_trial)

    def _note_generation(self, number: int) -> None:
        if self._generations is not None:
            self._generations.ended(self._storage.get_trial(self._id(number)))

    def _is_known(self, params: Mapping[str, Any]) -> bool:
        """Whether these parameters, where they are all, have been asked for and would be trained alike again."""
        try:
            config = self._space.sample(Distributions(params))
        except KeyError:  # some are drawn one by one, later
            return False
        return self._repeatable(config) and _text(config) in self._asked_for

    def _repeatable(self, config: Mapping[str, Any]) -> bool:
        """Whether the configuration says how its trial is seeded; otherwise another trial of it has its own seed."""
        if config.get("seed") is not None:
            return True
        return self._config.share_pretraining and pretraining_key(config) is not None

    def _resolve(self, trial: Trial, queued: _Queued, noted: Mapping[str, Any]) -> Assignment:
        """Draw the trial's parameters and record them in one event, with what the sampler noted meanwhile."""
        config = self._space.sample(trial)
        self._check_inside(trial)
        text = _text(config)
        if queued.confirms is None:
            config = _completed(config, self._config, trial.number, queued.batch_size)
        else:
            config = {**self.results[queued.confirms].config, "seed": queued.seed}
        attributes = {key: value for key, value in self._study_attributes().items() if noted.get(key) != value}
        self._record.append(
            "asked",
            number=trial.number,
            params=trial.params,
            config=config,
            retry_of=queued.retry_of,
            confirms=queued.confirms,
            attributes=self._storage.get_trial_system_attrs(trial._trial_id),
            study=attributes,
        )
        self._asked_for.add(text)
        self._open[trial.number] = _Open(trial.params)
        self._follow(trial.number)
        return Assignment(trial.number, config, queued.retry_of, queued.confirms)

    def _check_inside(self, trial: Trial) -> None:
        """See that a sampler, which may be a guest, has suggested what the space allows.

        Raises:
            InputError: it has not.
        """
        if _FIXED in self._storage.get_trial_system_attrs(trial._trial_id):
            return  # nobody's suggestion
        for name, distribution in trial.distributions.items():
            value = trial.params[name]
            if distribution._contains(distribution.to_internal_repr(value)):
                continue
            allowed: list[Any] = []
            if isinstance(distribution, IntDistribution | FloatDistribution):
                allowed = [distribution.low, distribution.high]
            elif isinstance(distribution, CategoricalDistribution):
                allowed = list(distribution.choices)
            who = f"sampler {self._config.sampler.name}"
            raise InputError(f"{who} suggests {name} = {value}, which is outside of {allowed}")


def queued_by(event: Event) -> Iterator[Event]:
    """The trials that an event of another kind queues."""
    if event["event"] == "session":
        for number, params in enumerate(event.get("first", ())):
            yield {"number": number, "params": params, "retry_of": None, "batch_size": None}
    elif event["event"] == "confirmation":
        yield from event["trials"]
    elif event["event"] == "ended" and "retry" in event:
        yield {"params": event["params"], "retry_of": event["number"], **event["retry"]}


def config_of(
    space: Space, params: Mapping[str, Any], number: int, batch_size: int | None = None
) -> dict[str, Any] | None:
    """What trial `number` of these parameters trains; None where some of them are missing or do not fit."""
    try:
        return _completed(space.trial.sample(Distributions(params)), space.study, number, batch_size)
    except (KeyError, ValueError, TypeError):
        return None


def _completed(config: dict[str, Any], study: StudyConfig, number: int, batch_size: int | None) -> dict[str, Any]:
    """A configuration as it was drawn, with the batch of a repetition, and with a seed."""
    if batch_size is not None:
        config = {**config, "data": {**config["data"], "batch_size": batch_size}}
    if config.get("seed") is not None:
        return config
    shared = pretraining_key(config) if study.share_pretraining else None
    return {**config, "seed": _seed(study.seed, shared or number, "trial")}


def _fields(told: EpochMetrics | TrialResult) -> dict[str, Any]:
    """What `asdict` gives, but for the copies that it makes of all that is in them."""
    return {name: getattr(told, name) for name in told.__slots__}


def _text(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _seed(study_seed: int, *path: int | str) -> int:
    return derived_seed(study_seed, *path) % 2**31  # what every generator takes


def _constraint_attributes(result: TrialResult) -> dict[str, Any]:
    """How Optuna notes the violations."""
    return create_trial(state=OptunaState.FAIL, constraints=dict(result.violations)).system_attrs


def _notes(retry_of: int | None, confirms: int | None) -> dict[str, int]:
    """How Optuna's study is told that a trial repeats another."""
    told = {RETRY_OF: retry_of, CONFIRMS: confirms}
    return {name: number for name, number in told.items() if number is not None}


def _frozen(trial: _Seen, distributions: dict[str, BaseDistribution], values: list[float] | None) -> FrozenTrial:
    """The trial as Optuna would have it, had it watched; one that the record lost runs, without parameters."""
    params = dict(trial.params or {})
    attributes: dict[str, Any] = {} if trial.asked is None else dict(trial.asked["attributes"])
    if trial.result is not None:
        attributes |= _constraint_attributes(trial.result)
    elif trial.is_waiting_for_worker and trial.queued is not None:
        attributes[_FIXED] = trial.queued["params"]
    state = OptunaState.WAITING if trial.is_waiting_for_worker else OptunaState.RUNNING
    return create_trial(
        state=state if trial.result is None else _OPTUNA_STATES[trial.result.state],
        values=values,
        params=params,
        distributions={name: each for name, each in distributions.items() if name in params},
        user_attrs=_notes(trial.retry_of, trial.confirms),
        system_attrs=attributes,
        intermediate_values=dict(trial.reports),
    )


class Distributions(Suggesting):
    """Suggests known values and notes what they would have been drawn from."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self.found: dict[str, BaseDistribution] = {}

    def value(self, name: str, distribution: BaseDistribution, first: Any) -> Any:
        self.found[name] = distribution
        return first if name not in self._params and distribution.single() else self._params[name]
