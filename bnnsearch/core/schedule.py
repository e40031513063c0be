"""Learning-rate schedules as pure functions: the factor of the base rate at a moment of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

from bnnsearch.config.plan import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig, WarmRestartsConfig


def lr_factor(schedule: ScheduleConfig, epoch: float, epochs: int) -> float:
    """The factor in [0, 1] at `epoch` of a stretch of `epochs`.

    Args:
        schedule: the shape.
        epoch: epochs since the stretch began, in [0, epochs], a step being a fraction of one.
        epochs: length of the stretch; warm restarts have periods of their own and take no heed of it.
    """
    match schedule:
        case LinearConfig():
            return 1 - epoch / epochs
        case CosineConfig():
            return _half_cosine(epoch / epochs)
        case WarmRestartsConfig():
            return _half_cosine(_share_of_period(epoch, schedule.period, schedule.factor))
        case ConstantConfig():
            return 1.0
        case _:
            assert_never(schedule)


def stretch(lengths: Sequence[int], restarts: Sequence[bool], phase: int) -> tuple[int, int]:
    """The stretch of the schedule that a phase belongs to.

    Args:
        lengths: planned epochs of every phase of a run.
        restarts: whether the schedule starts again with each.
        phase: index of the phase.

    Returns:
        Epochs of the stretch before the phase, and of the whole stretch. A phase that ends early counts in full: the
        next goes on where the schedule was planned to be.
    """
    first = max((number for number in range(phase + 1) if restarts[number]), default=0)
    last = next((number for number in range(phase + 1, len(lengths)) if restarts[number]), len(lengths))
    return sum(lengths[first:phase]), sum(lengths[first:last])


def warmup_factor(epoch: float, warmup_epochs: float) -> float:
    """Linear from 0 to 1 over the first `warmup_epochs` of a run; 1 from then on."""
    return min(1.0, epoch / warmup_epochs) if warmup_epochs > 0 else 1.0


def _half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def _share_of_period(epoch: float, period: float, factor: int) -> float:
    while epoch >= period:
        epoch -= period
        period *= factor
    return epoch / period
