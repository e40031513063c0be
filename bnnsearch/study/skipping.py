"""Which trials need no training, because what costs alone say of them is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import trial_of
from bnnsearch.pareto import GrowingFront


def reason_to_skip(study: StudyConfig, costs: Mapping[str, float], front: GrowingFront) -> str | None:
    """Why a trial of these costs is not trained, as far as `study.skip` looks; None where it is.

    Args:
        study: objectives, constraints, and how far to look.
        costs: what is known before training.
        front: of the trials that have finished.
    """
    if study.skip == "none":
        return None
    for constraint in study.constraints:
        if constraint.metric in costs and (excess := constraint.violation(costs[constraint.metric])) > 0:
            return f"not trained: {constraint.metric} is {costs[constraint.metric]:g}, {excess:g} beyond its bound"
    return _dominated(study, costs, front) if study.skip == "dominated" else None


def certain(config: Mapping[str, Any], costs: Mapping[str, float]) -> dict[str, float]:
    """Of the costs of a trial, those that its trainer knows before training as more than a bound.

    A trial may come to less than a bound, so that nothing is to be held against it.
    """
    bounds = trial_of(config).reporter.open_costs
    return {name: value for name, value in costs.items() if name not in bounds}


def _dominated(study: StudyConfig, costs: Mapping[str, float], front: GrowingFront) -> str | None:
    if not front.best:
        return None
    hoped = [costs.get(objective.metric, value) for objective, value in zip(study.objectives, front.best, strict=True)]
    if (number := front.dominator(hoped)) is None:
        return None
    return f"not trained: trial {number} would dominate it even if it equalled the best values seen so far"
