"""The search around a trial: objectives, constraints, sampler, scheduler, budget, resources."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from bnnsearch.config.base import Count, PositiveFloat, Settings
from bnnsearch.config.families import SAMPLERS, SCHEDULERS, Family
from bnnsearch.config.metrics import MEASURED, METRICS, Mode, ObjectiveName
from bnnsearch.config.sampler import AutoConfig, SamplerConfig
from bnnsearch.config.scheduler import NoSchedulerConfig, SchedulerConfig

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(value: Any) -> Any:
    """Seconds of a duration such as `90m`, `1h30m` or a plain number of seconds.

    Raises:
        ValueError: the text is not a duration.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"(\d+(\.\d+)?[smhd])+", value):
        raise ValueError(f"a duration is a number with s, m, h or d, such as 90m or 1h30m, but got {value!r}")
    return sum(float(number) * _UNITS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([smhd])", value))


_SECONDS_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^(\d+(\.\d+)?[smhd])+$"}]
}
Seconds = Annotated[float, Field(ge=0), BeforeValidator(parse_duration), WithJsonSchema(_SECONDS_SCHEMA)]
"""Seconds; read from text such as `90m`."""

Duration = Annotated[Seconds, Field(gt=0)]
"""More than 0 seconds."""

_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_AMOUNT = rf"(\d+(?:\.\d+)?) ?({'|'.join(_BYTES)})"


def parse_bytes(value: Any) -> Any:
    """Bytes of an amount such as `4GB`, `1.5 GiB` or a plain number of bytes.

    Raises:
        ValueError: the text is not an amount.
    """
    if not isinstance(value, str):
        return value
    amount = re.fullmatch(_AMOUNT, value)
    if amount is None:
        raise ValueError(f"an amount of memory is a number with {', '.join(_BYTES)}, such as 4GB, but got {value!r}")
    return round(float(amount[1]) * _BYTES[amount[2]])


_BYTES_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_AMOUNT}$"}]}
Bytes = Annotated[int, Field(ge=1), BeforeValidator(parse_bytes), WithJsonSchema(_BYTES_SCHEMA)]
"""Bytes of memory; read from text such as `4GB`."""


class Objective(Settings):
    """A metric to maximise or minimise; the order in the list breaks ties."""

    metric: ObjectiveName
    mode: Mode


class Constraint(Settings):
    """A bound on a metric; exactly one of `max` and `min`, inclusive."""

    metric: ObjectiveName
    max: float | None = None
    min: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.max is None) == (self.min is None):
            got = "neither" if self.max is None else "both"
            raise ValueError(f"a constraint has exactly one of max and min, but {self.metric} has {got}")
        return self

    def violation(self, value: float) -> float:
        """How far `value` lies outside the bound: feasible where <= 0."""
        return value - self.max if self.max is not None else (self.min or 0.0) - value


class StagnationConfig(Settings):
    """When a search has found what it will: no new trials begin, and those under way come to their end.

    Attributes:
        trials: the last of those that finished within the constraints.
        gain: the share of the hypervolume (with one objective, of the way from the worst to the best) that they must
            have added for the search to go on.
    """

    trials: Count
    gain: Annotated[float, Field(ge=0, lt=1)] = 0.0


class BudgetConfig(Settings):
    """When the search ends: whichever bound is met first.

    Attributes:
        trials: in whatever state they end; repetitions after running out of memory, or to confirm the front, are not
            counted.
        wall_time: seconds of one `run` or `resume`.
        max_failed_trials: so many failures end the search.
        gpu_hours: what the study's trials may hold in all, its resumed parts together; half a GPU for two hours is one.
            A trial that is cut off counts from where it is taken up again.
        stagnation: none begin once the last ones have added nothing; None does not look.
    """

    trials: Count
    wall_time: Duration | None = None
    max_failed_trials: Count | None = None
    gpu_hours: PositiveFloat | None = None
    stagnation: StagnationConfig | None = None


class ConfirmConfig(Settings):
    """Training again, with other seeds, what the front would else owe to one lucky seed.

    Once all else has ended, every configuration on the front is trained with further seeds, those that follow its own,
    and stands there with the means over these: its own seed, by which it was selected, does not count. What comes onto
    the front in its place is trained again likewise, until each point of the front is a mean. These trials are beyond
    `budget.trials`; the other bounds of the budget hold for them too.

    Attributes:
        seeds: of each configuration, its own included: the means are over one less, and have a deviation from 3 on.
        on: what is confirmed: the `front`.
    """

    seeds: Annotated[int, Field(ge=2, le=100)]
    on: Literal["front"] = "front"


class PerTrial(Settings):
    """What one running trial holds.

    Attributes:
        cpu: cores; also its number of threads.
        gpu: GPUs, or a share of one.
        memory: bytes, such as `4GB`, that are free on a node before a trial starts there; None does not look.
    """

    cpu: PositiveFloat = 1
    gpu: Annotated[float, Field(ge=0)] = 0
    memory: Bytes | None = None


class ResourcesConfig(Settings):
    """Resources of a trial and how many run at once.

    Attributes:
        per_trial: what each holds.
        max_concurrent: None is as many as fit.
        trial_timeout: seconds that an attempt at a trial may take; the training of a network that it learns or starts
            from, which it does for all others that need the same, is left out. None is no limit.
    """

    per_trial: PerTrial = PerTrial()
    max_concurrent: Count | None = None
    trial_timeout: Duration | None = None


class CheckpointConfig(Settings):
    """How often a running trial's state is saved: a killed trial repeats at most `interval` seconds and one epoch."""

    interval: Seconds = 10.0


class StorageConfig(Settings):
    """Where Optuna's copy of the study lies: None is `study.journal` in its folder, else the URI of a database."""

    uri: str | None = None


class TrackingConfig(Settings):
    """How MLflow records.

    Attributes:
        uri: the store; None is MLFLOW_TRACKING_URI, else the embedded SQLite store.
        experiment: its name there; None is the study's.
        system_metrics: with every epoch, what the trial's node does: processors, memory, disk, network, GPUs.
    """

    uri: str | None = None
    experiment: str | None = None
    system_metrics: bool = False


class SelectConfig(Settings):
    """What `export` takes when nothing is said: the knee of the front, or the best of one metric.

    Attributes:
        by: `knee` or `best`.
        metric: the objective that `best` looks at; None is the first one.
    """

    by: Literal["knee", "best"] = "knee"
    metric: ObjectiveName | None = None

    @model_validator(mode="after")
    def _metric_is_used(self) -> Self:
        if self.by == "knee" and self.metric is not None:
            raise ValueError(f"a metric is for by: best, but got metric {self.metric} with by: knee")
        return self


DeviceName = Literal["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "riscv32"]
"""The processors whose flash, RAM and instructions are known before training."""


class StudyConfig(Settings):
    """Everything of a space file but its `trial` tree.

    Attributes:
        target: the processor that `flash_bytes`, `ram_bytes` and `device_cycles` are of.
        retries: how often a trial that crashed is taken up again from its checkpoint.
        share_pretraining: trials that agree in all that their pretraining depends on share it, and their seed.
        skip: trials recorded as pruned instead of trained because of costs that are known before: `infeasible` ones
            break a constraint; `dominated` ones as well, or would be dominated even if they equalled the best seen
            so far in every other objective.
        confirm: how often the configurations on the front are trained, each time with another seed; None is once.
        forbid: combinations of settings that are never drawn, each by their dotted paths below `trial`: a value, a list
            of values, or `min` and `max`; see `bnnsearch.space.forbid`.
        warm_start: what to try first: paths of configurations such as best.yaml, or of earlier studies' folders, or
            `mlflow:EXPERIMENT/SEARCH_ID`; of an earlier study its front, as far as what was drawn lies in this space.
            Near its good trials others are drawn later, for as long as that does well.
        use: the guests that the space names: modules that can be imported, and files beside it, such as
            `./own_method.py`; see `bnnsearch.config.guests`. Their code is run.
    """

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)]
    constraints: tuple[Constraint, ...] = ()
    sampler: SamplerConfig = AutoConfig()
    scheduler: SchedulerConfig = NoSchedulerConfig()
    budget: BudgetConfig
    resources: ResourcesConfig = ResourcesConfig()
    target: DeviceName = "cortex-m4"
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    checkpoint: CheckpointConfig = CheckpointConfig()
    storage: StorageConfig = StorageConfig()
    share_pretraining: bool = True
    skip: Literal["none", "infeasible", "dominated"] = "infeasible"
    confirm: ConfirmConfig | None = None
    tracking: TrackingConfig = TrackingConfig()
    select: SelectConfig = SelectConfig()
    forbid: tuple[Annotated[dict[str, Any], Field(min_length=1)], ...] = ()
    warm_start: tuple[str, ...] = ()
    use: tuple[str, ...] = ()

    @property
    def watched(self) -> frozenset[str]:
        """The metrics that the search needs: its objectives and constraints."""
        return frozenset([each.metric for each in self.objectives] + [each.metric for each in self.constraints])

    @property
    def measured(self) -> frozenset[str]:
        """Those of them that are known of the packed network."""
        return MEASURED & self.watched

    @model_validator(mode="after")
    def _metrics_differ(self) -> Self:
        objectives = [objective.metric for objective in self.objectives]
        bounds = [(constraint.metric, "min" if constraint.max is None else "max") for constraint in self.constraints]
        for place, metric in enumerate(objectives):
            if metric in objectives[:place]:
                raise ValueError(f"objectives.{place}.metric must be used once, but got {metric} again")
        for place, (metric, side) in enumerate(bounds):
            if (metric, side) in bounds[:place]:
                raise ValueError(f"constraints.{place}.metric must have one {side}, but got {metric} again")
        return self

    @model_validator(mode="after")
    def _selects_an_objective(self) -> Self:
        objectives = [objective.metric for objective in self.objectives]
        if self.select.metric is not None and self.select.metric not in objectives:
            known = ", ".join(objectives)
            raise ValueError(f"select.metric must be an objective, but got {self.select.metric}; allowed: {known}")
        return self

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        name, got = self.sampler.name, len(self.objectives)
        if not self.sampler.several_objectives and got > 1:
            allowed = _names(SAMPLERS, lambda each: each.several_objectives)
            raise ValueError(f"sampler.name {name} takes one objective, but got {got}; allowed: {allowed}")
        if self.sampler.enumerates and self.warm_start:
            raise ValueError(f"warm_start has no sense with sampler.name {name}, which tries every configuration")
        return self

    @model_validator(mode="after")
    def _gpu_hours_can_be_spent(self) -> Self:
        if self.budget.gpu_hours is not None and self.resources.per_trial.gpu == 0:
            raise ValueError("budget.gpu_hours needs resources.per_trial.gpu > 0, but got 0")
        return self

    @model_validator(mode="after")
    def _scheduler_fits(self) -> Self:
        """A scheduler compares trials as they train; costs alone would decide without any training seen."""
        objectives = [objective.metric for objective in self.objectives]
        if self.scheduler.compares and not any(METRICS[metric].known == "after" for metric in objectives):
            raise ValueError(
                f"scheduler.name {self.scheduler.name} needs an objective that training improves, val_acc, "
                f"but got {', '.join(objectives)}; allowed: {_names(SCHEDULERS, lambda each: not each.compares)}"
            )
        return self


def _names(family: Family, fits: Callable[[Any], bool]) -> str:
    """The members of a family whose settings' class fits."""
    return ", ".join(member.model_fields["name"].default for member in family.all() if fits(member))
