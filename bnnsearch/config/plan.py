"""The training plan: how long, under which schedule, on which arithmetic."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import PositiveFloat, Settings


class LinearConfig(Settings):
    """The learning rate falls linearly to 0 over each phase."""

    name: Literal["linear"] = "linear"


class CosineConfig(Settings):
    """The learning rate falls to 0 along half a cosine over each phase."""

    name: Literal["cosine"] = "cosine"


class ConstantConfig(Settings):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


ScheduleConfig = Annotated[LinearConfig | CosineConfig | ConstantConfig, Field(discriminator="name")]


class PlanConfig(Settings):
    """Epochs, schedule and arithmetic of one training run.

    Attributes:
        epochs: epochs of the whole run, all phases together.
        schedule: shape of the learning rate; restarts when the phase changes.
        warmup_epochs: epochs over which the learning rate rises linearly at the very start.
        label_smoothing: share of the target spread over all classes.
        dtype: arithmetic of the forward and backward pass; parameters stay float32.
        compile: compile the training step (slow start, worth it over many epochs).
        deterministic: refuse kernels whose result depends on timing.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    schedule: ScheduleConfig = LinearConfig()
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    deterministic: bool = True


__all__ = ["ConstantConfig", "CosineConfig", "LinearConfig", "PlanConfig", "PositiveFloat", "ScheduleConfig"]
