"""A schedule: the learning rate falls as a power of what is left of the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.plan import ScheduleSettings


class PolynomialConfig(ScheduleSettings):
    """The factor (1 - epoch / epochs)^power.

    Attributes:
        power: 1 is linear; larger ones fall sooner.
    """

    name: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Field(gt=0, le=10)] = 2.0

    def at(self, epoch: float, epochs: int) -> float:
        """The factor of the base rate."""
        return float((1 - epoch / epochs) ** self.power)
