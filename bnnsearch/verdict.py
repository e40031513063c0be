"""What a change of the space says of the trials before it: those outside leave the front, new constraints hold of all.

A driver that takes a study up with another space notes both in the event of its session, under `changed`: `outside`,
the numbers of the trials that do not lie in it, and its `constraints`. The last such event holds of all trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from bnnsearch.config.study import Constraint
from bnnsearch.results import TrialResult

CHANGED = "changed"
"""What a session's event tells of a change of the space."""

SPACE = "space"
"""Name of the violation of a trial outside the space."""


def change(outside: Sequence[int], constraints: Sequence[Constraint]) -> dict[str, Any]:
    """What a session's event tells, so that it can be read before the space is."""
    bounds = [{"metric": each.metric, "max": each.max, "min": each.min} for each in constraints]
    return {CHANGED: {"outside": list(outside), "constraints": bounds}}


def violations(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> dict[str, float]:
    """How far metrics lie beyond their bounds; feasible where <= 0."""
    found: dict[str, float] = {}
    for constraint in constraints:
        if constraint.metric in metrics:
            violation = constraint.violation(metrics[constraint.metric])
            found[constraint.metric] = max(violation, found.get(constraint.metric, violation))
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the trials of a study stand to its space.

    Attributes:
        outside: numbers of those that do not lie in it.
        constraints: that hold of all; None where they are those that every trial ended under.
    """

    outside: frozenset[int] = frozenset()
    constraints: tuple[Constraint, ...] | None = None

    def after(self, session: Mapping[str, Any]) -> Self:
        """The verdict once a session has begun, by its event."""
        told = session.get(CHANGED)
        if told is None:
            return self
        # not checked: a metric may be a guest's, which is loaded with the space
        constraints = tuple(Constraint.model_construct(**each) for each in told["constraints"])
        return type(self)(frozenset(told["outside"]), constraints)

    def of(self, result: TrialResult) -> TrialResult:
        """The result with the violations that it has in the space as it is now."""
        if self.constraints is None:
            return result
        found = violations(self.constraints, result.metrics)
        if not self.outside.isdisjoint({result.number, result.confirms}):
            found[SPACE] = 1.0
        return result if found == result.violations else replace(result, violations=found)
