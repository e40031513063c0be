"""Early stopping as pure functions over the values recorded so far; for one objective or several.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020), in its
stopping form: rungs lie at epochs grace, grace * factor, grace * factor^2, ...; a trial that reaches a rung goes on
only if it is among the best 1/factor of all trials that have reached it so far. With several objectives "best" is the
smaller non-dominated rank, then the greater spread (Schmucker et al., "Multi-objective Asynchronous Successive
Halving", 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from bnnsearch.config.study import AshaConfig, Mode, NoSchedulerConfig, SchedulerConfig
from bnnsearch.pareto import crowding_distance, losses, nondominated_ranks

Rung = Mapping[int, Sequence[float]]
"""Trial number to the objective values it reached the rung with, in the order of arrival."""


def is_rung(config: SchedulerConfig, epoch: int, epochs: int) -> bool:
    """Whether trials of `epochs` epochs are compared after `epoch`; never after the last one."""
    match config:
        case AshaConfig():
            rung = config.grace_epochs
            while rung < epoch:
                rung *= config.reduction_factor
            return rung == epoch < epochs
        case NoSchedulerConfig():
            return False
        case _:
            assert_never(config)


def survives(config: SchedulerConfig, rung: Rung, number: int, modes: Sequence[Mode]) -> bool:
    """Whether trial `number`, which has just reached `rung`, goes on.

    Args:
        config: the scheduler's settings.
        rung: values of every trial that has reached the rung, `number` included.
        number: the trial in question.
        modes: one per objective.
    """
    match config:
        case AshaConfig():
            places = math.ceil(len(rung) / config.reduction_factor)
            return number in ranking(rung, modes)[:places]
        case NoSchedulerConfig():
            return True
        case _:
            assert_never(config)


def ranking(rung: Rung, modes: Sequence[Mode]) -> list[int]:
    """Trial numbers, best first: by non-dominated rank, then spread, then first objective, then arrival."""
    numbers = list(rung)
    values = np.array([rung[number] for number in numbers], dtype=np.float64)
    ranks = nondominated_ranks(values, modes)
    spread = np.zeros(len(numbers))
    for rank in np.unique(ranks):
        spread[ranks == rank] = crowding_distance(values[ranks == rank])
    order = np.lexsort((losses(values, modes)[:, 0], -spread, ranks))
    return [numbers[row] for row in order]
