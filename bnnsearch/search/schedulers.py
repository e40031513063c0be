"""Early stopping as pure functions over the values recorded so far; for one objective or several.

Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020): rungs lie at
epochs grace, grace * factor, grace * factor^2, ..., the last of them a factor before the end, for later there is little
to save. A trial that reaches a rung goes on only if it is among the best 1/factor of the trials there: of those that
came before it (stopping), or of all, for which it waits (`promotion`). With several objectives "best" is the smaller
non-dominated rank, then the greater spread (Schmucker et al., "Multi-objective Asynchronous Successive Halving", 2021).
HyperBand is the same in brackets of different grace (Li et al., 2018); the median rule has a rung after every epoch and
keeps the better half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard, assert_never

import numpy as np

from bnnsearch.config.metrics import Mode
from bnnsearch.config.study import AshaConfig, HyperbandConfig, MedianConfig, NoSchedulerConfig, SchedulerConfig
from bnnsearch.pareto import crowding_distance, losses, nondominated_ranks

Rung = Mapping[int, Sequence[float]]
"""Trial number to the objective values it reached the rung with, in the order of arrival."""


def is_rung(config: SchedulerConfig, number: int, *, epoch: int, epochs: int) -> bool:
    """Whether trial `number`, of `epochs` epochs, is compared with others after `epoch`; never after the last one."""
    match config:
        case AshaConfig():
            return _is_power(epoch, config.grace_epochs, config.reduction_factor, last=epochs)
        case HyperbandConfig():
            grace = config.grace_epochs * config.reduction_factor ** _bracket(config, number)
            return _is_power(epoch, grace, config.reduction_factor, last=epochs)
        case MedianConfig():
            return config.grace_epochs <= epoch < epochs
        case NoSchedulerConfig():
            return False
        case _:
            assert_never(config)


def waits(config: SchedulerConfig) -> TypeGuard[AshaConfig | HyperbandConfig]:
    """Whether trials wait at rungs to be promoted, instead of being stopped there."""
    return isinstance(config, AshaConfig | HyperbandConfig) and config.type == "promotion"


def rivals(config: SchedulerConfig, rung: Rung) -> dict[int, Rung]:
    """The trials of a rung that contend with each other, bracket to group."""
    groups: dict[int, dict[int, Sequence[float]]] = {}
    for number, values in rung.items():
        bracket = _bracket(config, number) if isinstance(config, HyperbandConfig) else 0
        groups.setdefault(bracket, {})[number] = values
    return dict(groups)


def survives(config: SchedulerConfig, rung: Rung, number: int, modes: Sequence[Mode]) -> bool:
    """Whether trial `number`, which has just reached `rung`, goes on where trials do not wait.

    Args:
        config: the scheduler's settings.
        rung: values of every trial that has reached the rung, `number` included.
        number: the trial in question.
        modes: one per objective.
    """
    match config:
        case AshaConfig() | HyperbandConfig():
            (group,) = (group for group in rivals(config, rung).values() if number in group)
            return _among_best(group, number, modes, factor=config.reduction_factor)
        case MedianConfig():
            return len(rung) <= config.min_trials or _among_best(rung, number, modes, factor=2)
        case NoSchedulerConfig():
            return True
        case _:
            assert_never(config)


def _among_best(rung: Rung, number: int, modes: Sequence[Mode], *, factor: int) -> bool:
    """Whether `number` is among the best 1/factor, rounded up."""
    return number in ranking(rung, modes)[: math.ceil(len(rung) / factor)]


def _is_power(epoch: int, grace: int, factor: int, *, last: int) -> bool:
    """Whether epoch = grace * factor^k for a whole k >= 0, and `last` is a factor away, or k = 0 and it is later."""
    rung = grace
    while rung < epoch:
        rung *= factor
    return rung == epoch and (epoch * factor <= last or epoch == grace < last)


def _bracket(config: HyperbandConfig, number: int) -> int:
    return number % config.brackets


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
