"""A search as lines of JSON: the driver prints them, whoever is attached replays them to the same observers.

All results of a search travel in its output, so no file is copied and one transport, a job's log, is enough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import Record
from bnnsearch.results import StopReason, StudyObserver, TrialResult, TrialState, by_number

_HEAD = '{"event": '


class EventWriter(StudyObserver):
    """An observer that prints one line for each event."""

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        write_event("trial_started", number=number, config=config, params=params)

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        write_event("epoch", number=number, **asdict(metrics))

    def trial_waits(self, number: int) -> None:
        write_event("trial_waits", number=number)

    def trial_finished(self, result: TrialResult) -> None:
        write_event("trial_finished", **asdict(result))

    def said(self, line: str) -> None:
        write_event("said", line=line)


def write_event(event: str, **fields: Any) -> None:
    """One line of JSON on standard output, written at once."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def is_event(line: str) -> bool:
    """Whether a line of a job's output is an event."""
    return line.startswith(_HEAD)


def write_past(folder: StudyFolder) -> None:
    """Print the results of earlier drivers of the study, for those who were not attached then."""
    past = read_past(folder, epochs=True)
    for number, epochs in past.history.items():
        for metrics in epochs:
            write_event("epoch", number=number, **asdict(metrics))
    for result in past.results:
        write_event("trial_finished", **asdict(result))


class Replay:
    """Events of one study, each recorded and told to the observers once however often it is heard.

    Args:
        folder: the study's on this machine, with what was heard before.
        observers: told what is new.
        record: of the study on this machine; None records nothing.

    Attributes:
        results: ended trials by number, those in the folder at the start included.
        stopped: why the search ended, once it has.
        problem: exit code and message with which the driver gave up, if it did.
        words: what the job printed besides events, the last lines of it.
    """

    def __init__(
        self, folder: StudyFolder, observers: Sequence[StudyObserver] = (), *, record: Record | None = None
    ) -> None:
        past = read_past(folder, epochs=True)
        self.results = by_number(past.results)
        self.stopped: StopReason | None = None
        self.problem: tuple[int, str] | None = None
        self.words: list[str] = []
        self._observers = observers
        self._record = record
        self._epochs = {number: epochs[-1].epoch for number, epochs in past.history.items()}

    def by_number(self) -> tuple[TrialResult, ...]:
        """The ended trials, in order."""
        return tuple(self.results[number] for number in sorted(self.results))

    def hear(self, line: str) -> None:
        """Take in one line of the job's output."""
        if not is_event(line):
            self.words = [*self.words[-19:], line]
            return
        try:
            fields = json.loads(line)
        except ValueError:  # two processes wrote at once: the event comes again when the log is read again
            return
        match fields.pop("event"):
            case "trial_started":
                self._started(**fields)
            case "epoch":
                self._epoch(fields.pop("number"), EpochMetrics(**fields))
            case "trial_waits":
                self._waits(fields["number"])
            case "trial_finished":
                self._finished(TrialResult(**{**fields, "state": TrialState(fields["state"])}))
            case "said":
                for observer in self._observers:
                    observer.said(fields["line"])
            case "study_finished":
                self.stopped = StopReason(fields["stopped"])
            case "problem":
                self.problem = (fields["code"], fields["message"])

    def _started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        if number not in self.results:
            self._note("asked", number=number, config=config, params=params, retry_of=None, attributes={}, study={})
            for observer in self._observers:
                observer.trial_started(number, config, params)

    def _epoch(self, number: int, metrics: EpochMetrics) -> None:
        if metrics.epoch > self._epochs.get(number, 0):
            self._epochs[number] = metrics.epoch
            self._note("epoch", number=number, **asdict(metrics))
            for observer in self._observers:
                observer.epoch_finished(number, metrics)

    def _waits(self, number: int) -> None:
        if number not in self.results:
            self._note("paused", number=number)
            for observer in self._observers:
                observer.trial_waits(number)

    def _finished(self, result: TrialResult) -> None:
        if result.number in self.results:
            return
        self.results[result.number] = result
        self._note("ended", **asdict(result))
        for observer in self._observers:
            observer.trial_finished(result)

    def _note(self, event: str, **fields: Any) -> None:
        if self._record is not None:
            self._record.append(event, **fields)
