"""What a search prints when it ends: the front as a table, and the commands that come next."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bnnsearch.pareto import ParetoFront
from bnnsearch.terminal.text import metric_text


def front_table(front: ParetoFront) -> Table:
    """The trials on the front, the best of the first objective first; the knee is marked."""
    table = Table(
        title=f"Pareto front: {len(front.results)} of {len(front.candidates)} finished trials", title_justify="left"
    )
    table.add_column("trial", justify="right")
    for objective in front.objectives:
        table.add_column(f"{objective.metric} ({objective.mode})", justify="right")
    table.add_column("parameters", overflow="fold")
    for result in front.results:
        knee = " knee" if result is front.knee else ""
        values = [metric_text(objective.metric, result.metrics[objective.metric]) for objective in front.objectives]
        params = " ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in result.params.items()
        )
        table.add_row(f"{result.number}{knee}", *values, params)
    return table


def print_lines(console: Console, lines: list[str]) -> None:
    """Lines as they are: no markup, no wrapping, so that commands can be copied."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
