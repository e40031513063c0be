"""Three views of one search: a live screen, a line per trial, or a JSON event per line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.live import screen
from bnnsearch.terminal.output import OutputProblem, write_event
from bnnsearch.terminal.progress import StudyProgress, summary_lines
from bnnsearch.terminal.text import duration_text, metric_text, params_text

HEARTBEAT_SECONDS = 60.0


class View(StudyObserver, AbstractContextManager["View"]):
    """An observer with a beginning and an end."""


def view_for(progress: StudyProgress, *, as_json: bool, console: Console) -> View:
    """The view that suits where the output goes."""
    if as_json:
        return JsonView()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveView(progress, console)
    return PlainView(progress, console)


class LiveView(View):
    """A screen that redraws itself four times a second."""

    def __init__(self, progress: StudyProgress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def said(self, line: str) -> None:
        print_lines(self._console, [line])

    def render(self) -> RenderableType:
        size = self._console.size
        return screen(self._progress, width=size.width, height=size.height)


class PlainView(View):
    """One line per ended trial, and one a minute where none ends."""

    def __init__(self, progress: StudyProgress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._over = Event()
        self.spoken = Event()
        self._heartbeat = Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.spoken.set()
        self._heartbeat.join()

    def _beat(self) -> None:
        while not self._over.is_set():
            self.spoken.clear()
            if not self.spoken.wait(HEARTBEAT_SECONDS):
                with suppress(OutputProblem):  # the search hears of it when it speaks itself
                    self._say("; ".join(summary_lines(self._progress)))

    def stage_started(self, stage: str) -> None:
        if stage:
            self._say(f"{stage} ...")

    def said(self, line: str) -> None:
        self._say(line)

    def _say(self, line: str) -> None:
        print_lines(self._console, [line])
        self.spoken.set()

    def trial_finished(self, result: TrialResult) -> None:
        progress = self._progress
        searched = sum(each.confirms is None for each in progress.results)
        again = "" if result.confirms is None else f" (trial {result.confirms} with another seed)"
        head = f"[{searched}/{progress.study.budget.trials}] trial {result.number}{again} {result.state.value}"
        values = [
            f"{objective.metric}={metric_text(objective.metric, result.metrics[objective.metric])}"
            for objective in progress.study.objectives
            if objective.metric in result.metrics
        ]
        parts = [
            " ".join([head, *values, "in", duration_text(result.seconds)]),
            result.reason,
            f"front {len(progress.front.results)}",
            params_text(result.params),
        ]
        self._say("; ".join(part for part in parts if part))


class JsonView(View):
    """One JSON object per event on standard output."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def stage_started(self, stage: str) -> None:
        if stage:
            write_event("stage", stage=stage)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:  # noqa: ARG002
        write_event("trial_started", number=number, params=dict(params))

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        write_event(
            "epoch",
            number=number,
            epoch=metrics.epoch,
            epochs=metrics.epochs,
            phase=metrics.phase,
            values=dict(metrics.values),
        )

    def trial_waits(self, number: int) -> None:
        write_event("trial_waits", number=number)

    def trial_finished(self, result: TrialResult) -> None:
        write_event("trial_finished", **asdict(result))

    def said(self, line: str) -> None:
        write_event("said", line=line)
