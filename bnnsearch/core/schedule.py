"""Where a moment of a run lies on its learning-rate schedule, whose shapes are in `bnnsearch.config.plan`."""

from __future__ import annotations

from collections.abc import Sequence


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
