"""What schedulers compare: the trials at a rung, in brackets, best first; for one objective or several.

With several objectives "best" is the smaller non-dominated rank, then the greater spread (Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", 2021). Where rungs lie, and who goes on, settings of schedulers say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import Rung, SchedulerSettings
from bnnsearch.pareto import crowding_distance, losses, nondominated_ranks


def rivals(config: SchedulerSettings, rung: Rung) -> dict[int, Rung]:
    """The trials of a rung that contend with each other, bracket to group."""
    groups: dict[int, dict[int, Sequence[float]]] = {}
    for number, values in rung.items():
        groups.setdefault(config.bracket(number), {})[number] = values
    return dict(groups)


def survives(config: SchedulerSettings, rung: Rung, number: int, modes: Sequence[Mode]) -> bool:
    """Whether trial `number`, which has just reached `rung`, goes on where trials do not wait.

    Args:
        config: the scheduler's settings.
        rung: values of every trial that has reached the rung, `number` included, in the order of arrival.
        number: the trial in question.
        modes: one per objective.
    """
    group = rivals(config, rung)[config.bracket(number)]
    return config.survives(number, {each: group[each] for each in ranking(group, modes)})


def ranking(rung: Rung, modes: Sequence[Mode]) -> list[int]:
    """Trial numbers, best first: by non-dominated rank, then spread, then first objective, then arrival."""
    numbers = list(rung)
    values = np.array([rung[number] for number in numbers], dtype=np.float64)
    if len(modes) == 1:  # each value is a rank of its own, in which nobody is lonelier
        return [numbers[row] for row in np.argsort(losses(values, modes)[:, 0], kind="stable")]
    ranks = nondominated_ranks(values, modes)
    order = np.lexsort((losses(values, modes)[:, 0], -crowding_distance(values, ranks), ranks))
    return [numbers[row] for row in order]
