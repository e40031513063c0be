"""The record's events as updates of MLflow's runs: what each of them makes new about a trial's run or the report's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import epoch_of
from bnnsearch.record import Event
from bnnsearch.results import TrialResult, TrialState, result_of
from bnnsearch.tracking.describe import Describer
from bnnsearch.tracking.updates import Update
from bnnsearch.verdict import Verdict


class RunFold:
    """Takes every event of a study, in order.

    Attributes:
        results: of the trials that have ended, by number.
    """

    def __init__(self, study: StudyConfig, describe: Describer) -> None:
        self._study = study
        self._describe = describe
        self.results: dict[int, TrialResult] = {}
        self._front: ParetoFront | None = None
        self._verdict = Verdict()
        self._started: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self._values: dict[int, Mapping[str, float]] = {}

    @property
    def front(self) -> ParetoFront:
        """Of the trials that have ended."""
        if self._front is None:
            self._front = ParetoFront.of(list(self.results.values()), self._study.objectives)
        return self._front

    def note(self, event: Event) -> None:
        """Take an event that MLflow has already."""
        match event["event"]:
            case "session":
                self._judge(event)
            case "asked":
                self._started[event["number"]] = event["config"], event["params"]
            case "epoch":
                self._values[event["number"]] = event["values"]
            case "ended":
                self._end(self._verdict.of(result_of(event)))

    def updates(self, event: Event) -> list[Update]:
        """What an event makes new."""
        number, at = event.get("number", -1), event["at"]
        match event["event"]:
            case "session":
                return [self._describe.report_started(at), *self._judged(event, at)]
            case "asked" | "restarted" | "promoted":
                self.note(event)
                return self._start(number, at)
            case "epoch":
                self.note(event)
                return [self._describe.epoch(number, epoch_of(event), at)]
            case "paused":
                return [self._describe.trial_waits(number)]
            case "ended":
                return self._ended(self._verdict.of(result_of(event)), at)
        return []

    def _judge(self, session: Event) -> dict[int, TrialResult]:
        """Take a change of the space; the results that it changes as they were."""
        self._verdict = self._verdict.after(session)
        judged = {number: self._verdict.of(result) for number, result in self.results.items()}
        before = {number: result for number, result in self.results.items() if judged[number] is not result}
        self.results = judged
        self._front = None if before else self._front
        return before

    def _judged(self, session: Event, at: int) -> list[Update]:
        on_front = self.front.numbers
        before = self._judge(session)
        if not before:
            return []
        moved = sorted((on_front ^ self.front.numbers) - before.keys())
        return [
            *(
                self._describe.judged(
                    self.results[number], earlier.violations, on_front=number in self.front.numbers, at=at
                )
                for number, earlier in sorted(before.items())
            ),
            *(self._describe.moved(each, on_front=each in self.front.numbers) for each in moved),
            self._describe.progress(self.front, ended=len(self.results), at=at),
        ]

    def _start(self, number: int, at: int) -> list[Update]:
        if number not in self._started:
            return []
        config, params = self._started[number]
        return [self._describe.trial_started(number, config, params, at)]

    def _ended(self, result: TrialResult, at: int) -> list[Update]:
        number, before = result.number, self.front.numbers
        known = self._values.get(number, {})
        started = number in self._started
        self._end(result)
        after = self.front.numbers
        first = [] if started else [self._describe.trial_started(number, result.config, result.params, at)]
        return [
            *first,
            self._describe.trial_ended(result, on_front=number in after, known=known, at=at),
            *(self._describe.moved(each, on_front=each in after) for each in sorted((before ^ after) - {number})),
            self._describe.progress(self.front, ended=len(self.results), at=at),
        ]

    def _end(self, result: TrialResult) -> None:
        alone = result.confirms is None and result.number not in self.results
        self.results[result.number] = result
        if self._front is not None and result.state is TrialState.COMPLETE:  # no other changes the front
            self._front = self._front.grown(result) if alone else None
        self._started.pop(result.number, None)
        self._values.pop(result.number, None)
