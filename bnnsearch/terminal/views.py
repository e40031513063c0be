"""Three views of one search: a live table, a line per trial, or a JSON event per line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.output import OutputProblem, write_event
from bnnsearch.terminal.progress import Running, StudyProgress
from bnnsearch.terminal.text import duration_text, metric_text, params_text, plain, range_text, trials_text

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


def summary_lines(progress: StudyProgress) -> list[str]:
    """Where the search stands, in a few lines."""
    study, counts = progress.study, progress.counts
    states = ", ".join(f"{counts[state]} {state.value}" for state in TrialState if counts[state]) or "none ended"
    waiting = f", {len(progress.waiting)} waiting at rungs" if progress.waiting else ""
    front = progress.front
    best = [
        f"best {objective.metric} {metric_text(objective.metric, pick(column))}"
        for objective, column in zip(study.objectives, front.values.T, strict=True)
        if len(column)
        for pick in [max if objective.mode == "max" else min]
    ]
    return [
        f"{trials_text(progress.results, study.budget.trials)} ({states}), {len(progress.running)} running{waiting}",
        "; ".join([f"front {len(front.results)}, hypervolume {front.hypervolume:.3f}", *best]),
        f"elapsed {duration_text(progress.elapsed)}; left {range_text(progress.remaining())}",
    ]


class LiveView(View):
    """A table that redraws itself four times a second."""

    def __init__(self, progress: StudyProgress, console: Console) -> None:
        self._progress = progress
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def said(self, line: str) -> None:
        print_lines(self._live.console, [line])

    def render(self) -> RenderableType:
        progress = self._progress
        with progress.lock:
            table = Table(box=None, pad_edge=False, header_style="dim")
            table.add_column("trial", justify="right")
            table.add_column("state")
            for objective in progress.study.objectives:
                table.add_column(objective.metric, justify="right")
            table.add_column("parameters", overflow="ellipsis", no_wrap=True)
            for result in progress.results[-8:]:
                table.add_row(*self._ended(result, on_front=result.number in progress.front.numbers))
            for number, running in sorted(progress.running.items()):
                table.add_row(*self._under_way(number, running))
            return Group(table, *(Text(line) for line in summary_lines(progress)))

    def _ended(self, result: TrialResult, *, on_front: bool) -> list[RenderableType]:
        style = {TrialState.COMPLETE: "green", TrialState.PRUNED: "yellow", TrialState.FAILED: "red"}[result.state]
        cells = [
            metric_text(objective.metric, result.metrics[objective.metric])
            if objective.metric in result.metrics
            else ""
            for objective in self._progress.study.objectives
        ]
        state = Text(result.state.value + (" *" if on_front else ""), style=style)
        return [str(result.number), state, *cells, plain(result.reason or params_text(result.params))]

    def _under_way(self, number: int, running: Running) -> list[RenderableType]:
        cells = [
            metric_text("val_acc", running.val_acc)
            if objective.metric == "val_acc" and running.val_acc is not None
            else ""
            for objective in self._progress.study.objectives
        ]
        return [str(number), Text(f"epoch {running.epoch}/{running.epochs or '?'}", style="cyan"), *cells, ""]


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
