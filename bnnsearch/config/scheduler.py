"""Schedulers: after which epochs trials are compared, with whom, and who goes on.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020): rungs lie at
epochs grace, grace * factor, grace * factor^2, ..., the last of them a factor before the end, for later there is little
to save. A trial that reaches a rung goes on only if it is among the best 1/factor of the trials there: of those that
came before it (stopping), or of all, for which it waits (`promotion`). HyperBand is the same in brackets of different
grace (Li et al., 2018); the median rule has a rung after every epoch and keeps the better half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from bnnsearch.config.base import Count
from bnnsearch.config.families import SCHEDULERS, Member

Rung = Mapping[int, Sequence[float]]
"""Trial number to the objective values it reached the rung with."""


class SchedulerSettings(Member):
    """Which trials are stopped early.

    Attributes:
        compares: whether there are rungs at all, so that an objective must improve with training.
    """

    compares: ClassVar[bool] = True

    @property
    def grace(self) -> int:
        """Epochs before which no trial is compared."""
        return 1

    @property
    def promotes(self) -> int | None:
        """Trials wait at their rungs, and one of so many is promoted; None where it is decided at once."""
        return None

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:
        """Whether trial `number`, of `epochs` epochs, is compared with others after `epoch`; never after the last."""
        raise NotImplementedError

    def bracket(self, number: int) -> int:  # noqa: ARG002  # one bracket for all
        """The bracket of trial `number`; those of one bracket contend with each other."""
        return 0

    def survives(self, number: int, rivals: Rung) -> bool:
        """Whether trial `number`, which has just reached a rung, goes on where trials do not wait.

        Args:
            number: the trial in question.
            rivals: the trials of its bracket that have reached the rung, `number` included, best first.
        """
        raise NotImplementedError


class HalvingSettings(SchedulerSettings):
    """What forms of successive halving have."""

    name: str
    type: Literal["promotion", "stopping"] = "promotion"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    grace_epochs: Count = 1

    @property
    def grace(self) -> int:
        return self.grace_epochs

    @property
    def promotes(self) -> int | None:
        return self.reduction_factor if self.type == "promotion" else None

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:
        grace = self.grace_epochs * self.reduction_factor ** self.bracket(number)
        return _is_power(epoch, grace, self.reduction_factor, last=epochs)

    def survives(self, number: int, rivals: Rung) -> bool:
        return _among_best(number, rivals, factor=self.reduction_factor)


class AshaConfig(HalvingSettings):
    """Asynchronous successive halving: at epochs grace * factor^k only the best 1/factor of the trials go on.

    With several objectives the best are those of the smaller non-dominated rank, then those in emptier places.

    Attributes:
        type: `promotion` lets a trial wait, its state on disk, until it is among the best of all that have come so far;
            `stopping` compares it once, with those before it, and goes on or stops at once.
        reduction_factor: how many reach a rung for one that leaves it.
        grace_epochs: the first rung; the last one leaves at least a factor of the run.
    """

    name: Literal["asha"] = "asha"


class HyperbandConfig(HalvingSettings):
    """Asynchronous HyperBand: trials take turns in brackets of successive halving, each with a longer grace.

    Attributes:
        type: as in successive halving.
        reduction_factor: as in successive halving.
        grace_epochs: of the first bracket; each next one has `reduction_factor` times as many.
        brackets: how many.
    """

    name: Literal["hyperband"] = "hyperband"
    brackets: Annotated[int, Field(ge=1, le=10)] = 3

    def bracket(self, number: int) -> int:
        return number % self.brackets


class MedianConfig(SchedulerSettings):
    """After every epoch from `grace_epochs` on, only the better half of the trials that came so far goes on.

    Attributes:
        grace_epochs: no trial stops before.
        min_trials: nor before so many trials came as far.
    """

    name: Literal["median"] = "median"
    grace_epochs: Count = 1
    min_trials: Count = 5

    @property
    def grace(self) -> int:
        return self.grace_epochs

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:  # noqa: ARG002  # the same for all
        return self.grace_epochs <= epoch < epochs

    def survives(self, number: int, rivals: Rung) -> bool:
        return len(rivals) <= self.min_trials or _among_best(number, rivals, factor=2)


class NoSchedulerConfig(SchedulerSettings):
    """Every trial runs to its end."""

    compares: ClassVar[bool] = False

    name: Literal["none"] = "none"

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:  # noqa: ARG002
        return False


def _refuse_pbt(value: Any) -> Any:
    if isinstance(value, dict) and value.get("name") == "pbt":
        raise ValueError(
            "scheduler.name pbt is refused: its trials take over one another's weights and settings half-way, "
            f"so that no configuration trains again to what was found; allowed: {', '.join(SCHEDULERS.members)}"
        )
    return value


SchedulerConfig = Annotated[SchedulerSettings, SCHEDULERS, BeforeValidator(_refuse_pbt)]


def _among_best(number: int, rivals: Rung, *, factor: int) -> bool:
    """Whether `number` is among the best 1/factor, rounded up."""
    return number in list(rivals)[: math.ceil(len(rivals) / factor)]


def _is_power(epoch: int, grace: int, factor: int, *, last: int) -> bool:
    """Whether epoch = grace * factor^k for a whole k >= 0, and `last` is a factor away, or k = 0 and it is later."""
    rung = grace
    while rung < epoch:
        rung *= factor
    return rung == epoch and (epoch * factor <= last or epoch == grace < last)
