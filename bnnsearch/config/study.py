"""The search around a trial: objectives, constraints, sampler, scheduler, budget, resources."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bnnsearch.config.base import PositiveFloat, Settings

Metric = Literal[
    "val_acc", "memory_bytes", "bops", "flops", "ops", "train_bitops", "energy", "latency_ms", "packed_bytes", "params"
]
Mode = Literal["max", "min"]
Count = Annotated[int, Field(ge=1)]

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


Duration = Annotated[float, Field(gt=0), BeforeValidator(parse_duration)]
"""Seconds; read from text such as `90m`."""


class Objective(Settings):
    """A metric to maximise or minimise; the order in the list breaks ties."""

    metric: Metric
    mode: Mode


class Constraint(Settings):
    """A bound on a metric; exactly one of `max` and `min`, inclusive."""

    metric: Metric
    max: float | None = None
    min: float | None = None

    def model_post_init(self, context: Any) -> None:
        if (self.max is None) == (self.min is None):
            raise ValueError(
                f"a constraint has exactly one of max and min, but {self.metric} has "
                f"{'neither' if self.max is None else 'both'}"
            )

    def violation(self, value: float) -> float:
        """How far `value` lies outside the bound: feasible where <= 0."""
        return value - self.max if self.max is not None else (self.min or 0.0) - value


class TpeConfig(Settings):
    """Tree-structured Parzen estimator, several objectives allowed."""

    name: Literal["tpe"] = "tpe"
    startup_trials: Annotated[int, Field(ge=0)] = 10


class Nsga2Config(Settings):
    """NSGA-II."""

    name: Literal["nsga2"] = "nsga2"
    population: Annotated[int, Field(ge=2)] = 50


class RandomConfig(Settings):
    """Independent random draws."""

    name: Literal["random"] = "random"


SamplerConfig = Annotated[TpeConfig | Nsga2Config | RandomConfig, Field(discriminator="name")]


class AshaConfig(Settings):
    """Asynchronous successive halving: at epochs grace * factor^k only the best 1/factor of the trials go on."""

    name: Literal["asha"] = "asha"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    grace_epochs: Count = 1


class NoSchedulerConfig(Settings):
    """Every trial runs to its end."""

    name: Literal["none"] = "none"


SchedulerConfig = Annotated[AshaConfig | NoSchedulerConfig, Field(discriminator="name")]


class BudgetConfig(Settings):
    """When the search ends: whichever bound is met first."""

    trials: Count
    wall_time: Duration | None = None
    max_failed_trials: Count | None = None


class PerTrial(Settings):
    """What one running trial holds; `cpu` is also its number of threads."""

    cpu: PositiveFloat = 1
    gpu: Annotated[float, Field(ge=0)] = 0


class ResourcesConfig(Settings):
    """Resources of a trial and how many run at once; None is as many as fit."""

    per_trial: PerTrial = PerTrial()
    max_concurrent: Count | None = None
    trial_timeout: Duration | None = None


class TrackingConfig(Settings):
    """Where MLflow records: None is MLFLOW_TRACKING_URI, else the embedded SQLite store."""

    uri: str | None = None
    experiment: str | None = None


class SelectConfig(Settings):
    """What `export` takes when nothing is said: the knee of the front, or the best of one metric."""

    by: Literal["knee", "best"] = "knee"
    metric: Metric | None = None


class StudyConfig(Settings):
    """Everything of a space file but its `trial` tree."""

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=4)]
    constraints: tuple[Constraint, ...] = ()
    sampler: SamplerConfig = TpeConfig()
    scheduler: SchedulerConfig = NoSchedulerConfig()
    budget: BudgetConfig
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()
    select: SelectConfig = SelectConfig()
