"""What a study's folder says of its past, to whoever only reads it: its space, its ended trials, their epochs.

All of it comes from the record. A study of the format before there was one keeps its trials in `results.jsonl` and its
epochs in `epochs.jsonl`, and is read from there until a `resume` makes a record of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnnsearch.config.guests import files_told
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder
from bnnsearch.invocation import command
from bnnsearch.record import Reader, Record
from bnnsearch.results import TrialResult, by_number, result_of
from bnnsearch.space import Space, load_space, space_of
from bnnsearch.verdict import Verdict

History = Mapping[int, tuple[EpochMetrics, ...]]
"""Trial number to its epochs, in order."""

EARLIER_EPOCHS = "epochs.jsonl"

GUESTS = "guests"
"""What a session's event tells of the guests of its space."""


@dataclass(frozen=True, slots=True)
class Past:
    """What has happened in a study.

    Attributes:
        folder: the study's.
        results: the ended trials, by number, with the violations that they have in the space as it is now.
        history: every epoch of every trial, where it was asked for.
        text: the space as the last session had it; None where the record does not tell.
        damage: what is wrong with the record, in one line; None where nothing is.
        guests: content of the files that the space uses, by name.
    """

    folder: StudyFolder
    results: tuple[TrialResult, ...]
    history: History = field(default_factory=dict)
    text: str | None = None
    damage: str | None = None
    guests: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The space as the last session had it.

        Raises:
            SpaceError: there is none, or it is none of this version's.
        """
        path = self.folder.space
        return load_space(path) if self.text is None else space_of(self.text.encode(), path, guests=self.guests)


def read_past(folder: StudyFolder, *, epochs: bool = False) -> Past:
    """Read the past of the study in `folder`; one that has not begun has none.

    Args:
        folder: the study's; a search may run in it.
        epochs: read the history too.

    Raises:
        EnvironmentProblem: the record, or what stood in its place earlier, cannot be read.
    """
    reader = Reader(folder.record)
    text: str | None = None
    guests: dict[str, bytes] = {}
    results: dict[int, TrialResult] = {}
    history: dict[int, dict[int, EpochMetrics]] = {}
    verdict = Verdict()
    for event in reader.events(("ended", "epoch") if epochs else ("ended",)):
        match event["event"]:
            case "session":
                text, guests = event["space"], files_told(event.get(GUESTS, ()))
                verdict = verdict.after(event)
            case "ended":
                results[event["number"]] = result_of(event)
            case "epoch":
                history.setdefault(event["number"], {})[event["epoch"]] = epoch_of(event)
    if reader.last:
        results = {number: verdict.of(result) for number, result in results.items()}
        return Past(folder, _ordered(results), _in_order(history), text, reader.damage, guests)
    if reader.damaged:
        raise EnvironmentProblem(f"{folder.record}: no line of the study's record is whole")
    for number, metrics in earlier_epochs(folder) if epochs else ():
        history.setdefault(number, {})[metrics.epoch] = metrics
    return Past(folder, tuple(earlier_results(folder)), _in_order(history))


def begin_session(record: Record, space: Space, **fields: Any) -> None:
    """Note in the record that a driver takes up the study with this space."""
    told = {GUESTS: [guest.told() for guest in space.guests]} if space.guests else {}
    record.begin_session(name=space.study.name, seed=space.study.seed, space=space.text, **told, **fields)


def epoch_of(fields: Mapping[str, Any]) -> EpochMetrics:
    """The epoch that `asdict` made the fields of; others beside them are ignored.

    Raises:
        TypeError: they are none.
    """
    return EpochMetrics(**{name: fields[name] for name in EpochMetrics.__slots__ if name in fields})


def earlier_epochs(folder: StudyFolder) -> Iterator[tuple[int, EpochMetrics]]:
    """The epochs of a study of the earlier format; lines that are damaged are left out, for they are only drawn."""
    for line in _lines(folder.path / EARLIER_EPOCHS):
        try:
            fields = json.loads(line)
            number, metrics = int(fields["number"]), epoch_of(fields)
            if metrics.epoch < 1:
                continue
        except (ValueError, TypeError, KeyError):
            continue
        yield number, metrics


def earlier_results(folder: StudyFolder) -> list[TrialResult]:
    """The ended trials of a study of the earlier format; a last line without its end is left out.

    Raises:
        EnvironmentProblem: a line is no result.
    """
    results: list[TrialResult] = []
    lines = _lines(folder.results)
    for number, line in enumerate(lines, start=1):
        try:
            results.append(_checked(result_of(json.loads(line))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            again = command("resume", folder.path)
            raise EnvironmentProblem(
                f"{folder.results}:{number}: not a trial result; delete the line, and `{again}` runs it again"
            ) from error
    return list(_ordered(by_number(results)))


def _checked(result: TrialResult) -> TrialResult:
    numbers = (result.number, result.epochs, result.seconds, *result.metrics.values(), *result.violations.values())
    if not all(isinstance(each, int | float) for each in numbers) or not isinstance(result.number, int):
        raise TypeError("a number is none")
    if not isinstance(result.config, dict) or not isinstance(result.params, dict):
        raise TypeError("a mapping is none")
    return result


def _lines(path: Path) -> list[bytes]:
    try:
        return read_regular(path).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be read: {error.strerror}") from error


def _ordered(results: Mapping[int, TrialResult]) -> tuple[TrialResult, ...]:
    return tuple(results[number] for number in sorted(results))


def _in_order(history: Mapping[int, Mapping[int, EpochMetrics]]) -> History:
    return {number: tuple(epochs[epoch] for epoch in sorted(epochs)) for number, epochs in history.items()}
