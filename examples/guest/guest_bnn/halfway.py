"""A scheduler: one look, in the middle of a run; all but the best share of those that came so far are stopped."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.scheduler import Rung, SchedulerSettings


class HalfwayConfig(SchedulerSettings):
    """Trials are compared once, after half of their epochs; `keep` is the share that goes on."""

    name: Literal["halfway"] = "halfway"
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:  # noqa: ARG002
        """Whether trials are compared after `epoch`."""
        return epoch == max(1, epochs // 2) < epochs

    def survives(self, number: int, rivals: Rung) -> bool:
        """Whether trial `number` is among the best, `rivals` being in order."""
        return number in list(rivals)[: math.ceil(len(rivals) * self.keep)]
