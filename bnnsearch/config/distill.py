"""Distillation from a real-valued teacher: the same network with real weights and activations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bnnsearch.config.base import Settings


class DistillConfig(Settings):
    """The teacher's outputs take the place of the labels.

    Attributes:
        teacher_epochs: epochs of the teacher's own training, by the optimizer and plan of the run.
        attention: weight of the attention-matching loss between the outputs of corresponding blocks (Real-to-Binary).
        cache: folder that keeps trained teachers, shared by all runs with the same network and data; None trains anew.
    """

    teacher_epochs: Annotated[int, Field(ge=1)] = 200
    attention: Annotated[float, Field(ge=0)] = 0.0
    cache: str | None = None
