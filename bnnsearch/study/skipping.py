"""Which trials need no training, because what costs alone say of them is enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import trial_of
from bnnsearch.pareto import dominates
from bnnsearch.results import TrialResult


def reason_to_skip(study: StudyConfig, costs: Mapping[str, float], results: Iterable[TrialResult]) -> str | None:
    """Why a trial of these costs is not trained, as far as `study.skip` looks; None where it is.

    Args:
        study: objectives, constraints, and how far to look.
        costs: what is known before training.
        results: trials that have ended.
    """
    if study.skip == "none":
        return None
    for constraint in study.constraints:
        if constraint.metric in costs and (excess := constraint.violation(costs[constraint.metric])) > 0:
            return f"not trained: {constraint.metric} is {costs[constraint.metric]:g}, {excess:g} beyond its bound"
    return _dominator(study, costs, results) if study.skip == "dominated" else None


def certain(config: Mapping[str, Any], costs: Mapping[str, float]) -> dict[str, float]:
    """Of the costs of a trial, those that its trainer knows before training as more than a bound.

    A trial may come to less than a bound, so that nothing is to be held against it.
    """
    bounds = trial_of(config).reporter.open_costs
    return {name: value for name, value in costs.items() if name not in bounds}


def _dominator(study: StudyConfig, costs: Mapping[str, float], results: Iterable[TrialResult]) -> str | None:
    modes = [objective.mode for objective in study.objectives]
    finished = {
        result.number: [result.metrics[objective.metric] for objective in study.objectives]
        for result in results
        if result.selectable
    }
    if not finished:
        return None
    columns = zip(*finished.values(), strict=True)
    best = [max(column) if mode == "max" else min(column) for column, mode in zip(columns, modes, strict=True)]
    hoped = [costs.get(objective.metric, value) for objective, value in zip(study.objectives, best, strict=True)]
    for number, values in finished.items():
        if dominates(values, hoped, modes):
            return f"not trained: trial {number} would dominate it even if it equalled the best values seen so far"
    return None
