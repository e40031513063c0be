"""What a production run shows: a bar on a terminal, else a line per epoch, or a JSON event per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.output import write_event
from bnnsearch.terminal.text import metric_text

SHOWN = ("train_loss", "train_acc", "val_acc", "binary_fraction", "images_per_s")


@contextmanager
def epochs_shown(console: Console, *, as_json: bool) -> Iterator[Callable[[EpochMetrics], None]]:
    """A function to call after every epoch."""
    if as_json:
        yield lambda metrics: write_event(
            "epoch", epoch=metrics.epoch, epochs=metrics.epochs, phase=metrics.phase, values=dict(metrics.values)
        )
    elif not console.is_terminal or console.is_dumb_terminal:
        yield lambda metrics: print_lines(
            console, [f"epoch {metrics.epoch}/{metrics.epochs} {metrics.phase} {_values(metrics)}"]
        )
    else:
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("")
            yield lambda metrics: bar.update(
                task, total=metrics.epochs, completed=metrics.epoch, description=f"{metrics.phase} {_values(metrics)}"
            )


def _values(metrics: EpochMetrics) -> str:
    return " ".join(f"{name} {metric_text(name, metrics.values[name])}" for name in SHOWN if name in metrics.values)
