"""What a search hands on: one `TrialResult` per trial, and the observers that are told as it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO

from bnnsearch.core.trainer import EpochMetrics, quantisation_note


class TrialState(StrEnum):
    """How a trial ended. Only `complete` trials stand on the front."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


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
        retry_of: number of the trial this one repeats.
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

    @property
    def feasible(self) -> bool:
        """Whether every constraint holds."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def selectable(self) -> bool:
        """Whether the trial may stand on the front."""
        return self.state is TrialState.COMPLETE and self.feasible


class StudyObserver:
    """Told what happens in a search, on the driver, in order; a subclass takes what it needs. Must return at once."""

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


def append_result(path: Path, result: TrialResult) -> None:
    """Append one line of JSON; a line that a crash cut short is taken off first."""
    line = json.dumps(asdict(result), allow_nan=False) + "\n"
    with path.open("a+b") as lines:
        lines.truncate(_whole_lines(lines))
        lines.write(line.encode())


def _whole_lines(lines: BinaryIO) -> int:
    """Bytes up to and including the last line break."""
    end = lines.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        lines.seek(start)
        found = lines.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_results(path: Path) -> list[TrialResult]:
    """The results in `path`, the last line of each number winning; a line without its end is left out.

    Raises:
        ValueError: a line is not a result.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    results: dict[int, TrialResult] = {}
    for place, line in enumerate(lines, start=1):
        try:
            fields = json.loads(line)
            results[fields["number"]] = TrialResult(**{**fields, "state": TrialState(fields["state"])})
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path}:{place}: not a trial result ({error})") from error
    return sorted(results.values(), key=lambda result: result.number)


def quantisation_notes(results: Iterable[TrialResult]) -> list[str]:
    """What is to be said of how the trials' weights became binary, a line for each of which there is something."""
    notes = {result.number: quantisation_note(result.metrics) for result in results}
    return [f"trial {number}: {note}" for number, note in sorted(notes.items()) if note]


def by_number(results: Iterable[TrialResult]) -> dict[int, TrialResult]:
    """The results, found by their trial's number."""
    return {result.number: result for result in results}
