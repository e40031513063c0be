"""Distillation from a real-valued teacher: the same network with real weights and activations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bnnsearch.config.base import Settings
from bnnsearch.config.optimizer import OptimizerConfig, SgdConfig
from bnnsearch.config.plan import CosineConfig, ScheduleConfig


class TeacherConfig(Settings):
    """How the teacher itself is trained; the defaults are the customary ones of real-valued residual networks."""

    epochs: Annotated[int, Field(ge=1)] = 200
    optimizer: OptimizerConfig = SgdConfig(lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule: ScheduleConfig = CosineConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class DistillConfig(Settings):
    """The teacher's outputs take the place of the labels.

    Attributes:
        teacher: the teacher's own training; it depends on nothing else but data and model, so that trials can share it.
        attention: weight of the attention-matching loss between corresponding units (Real-to-Binary).
        cache: folder of trained teachers, shared by all runs with the same data, model and teacher; None trains anew.
    """

    teacher: TeacherConfig = TeacherConfig()
    attention: Annotated[float, Field(ge=0)] = 0.0
    cache: str | None = None
