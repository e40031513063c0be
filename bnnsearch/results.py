"""What a search hands on: one `TrialResult` per trial, and the observers that are told as it goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean, stdev
from typing import Any

from bnnsearch.core.trainer import EpochMetrics, quantisation_note


class TrialState(StrEnum):
    """How a trial ended. Only `complete` trials stand on the front."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class StopReason(StrEnum):
    """Why a search ended."""

    FINISHED = "finished"
    WALL_TIME = "wall_time"
    GPU_HOURS = "gpu_hours"
    FAILURES = "max_failed_trials"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    DETACHED = "detached"
    """It has not: it goes on on a cluster, and only whoever watched it has left."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """One ended trial.

    Attributes:
        number: position in the study, from 0.
        state: how it ended.
        config: the resolved `TrialConfig` tree, plain values.
        params: what was sampled: dotted name to value.
        metrics: last values of every metric, objectives included.
        violations: constraint metric to violation; feasible where all are <= 0.
        epochs: epochs trained.
        seconds: wall time.
        reason: why it was pruned or failed, one line.
        retry_of: number of the trial this one repeats with a smaller batch.
        confirms: number of the trial whose configuration this one trains with another seed.
    """

    number: int
    state: TrialState
    config: Mapping[str, Any]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    violations: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str | None = None
    retry_of: int | None = None
    confirms: int | None = None

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def selectable(self) -> bool:
        """Whether the trial may stand on the front."""
        return self.state is TrialState.COMPLETE and self.feasible and self.confirms is None


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over several seeds: its mean, and its standard deviation where there are two values or more."""

    mean: float
    deviation: float | None

    @classmethod
    def over(cls, runs: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
        """The spread of every metric that all of `runs`, at least one, have."""
        columns = {name: [run[name] for run in runs] for name in runs[0] if all(name in run for run in runs)}
        return {
            name: cls(fmean(values), stdev(values) if len(values) > 1 else None) for name, values in columns.items()
        }


class StudyObserver:
    """Told what happens in a search, on the driver, in order; a subclass takes what it needs. Must return at once."""

    def stage_started(self, stage: str) -> None:
        """The search is busy with something beside its trials, such as starting Ray; empty where that is over."""

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        """A trial begins, or goes on after it waited or was cut off."""

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        """A running trial has trained one more epoch."""

    def trial_waits(self, number: int) -> None:
        """A trial has left its worker and waits at a rung: it will be started again or finished."""

    def trial_finished(self, result: TrialResult) -> None:
        """A trial has ended, whether it was running or waiting."""

    def said(self, line: str) -> None:
        """The search has something to tell whoever watches it, such as that it is stopping; from any thread."""


def result_of(fields: Mapping[str, Any]) -> TrialResult:
    """The result that `asdict` made the fields of; others beside them are ignored.

    Raises:
        KeyError, TypeError, ValueError: they are none.
    """
    known = {name: fields[name] for name in TrialResult.__slots__ if name in fields}
    return TrialResult(**{**known, "state": TrialState(fields["state"])})


def quantisation_notes(results: Iterable[TrialResult]) -> list[str]:
    """What is to be said of how the trials' weights became binary, a line for each of which there is something."""
    notes = {result.number: quantisation_note(result.metrics) for result in results}
    return [f"trial {number}: {note}" for number, note in sorted(notes.items()) if note]


def by_number(results: Iterable[TrialResult]) -> dict[int, TrialResult]:
    """The results, found by their trial's number."""
    return {result.number: result for result in results}
