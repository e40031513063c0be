"""What a search prints when it ends: the front as a table, and the commands that come next."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bnnsearch.config.metrics import tabled
from bnnsearch.pareto import ParetoFront
from bnnsearch.terminal.text import metric_text, params_text, plain


def front_table(front: ParetoFront) -> Table:
    """The trials on the front, the best of the first objective first; the knee is marked."""
    table = Table(
        title=f"Pareto front: {len(front.results)} of {len(front.candidates)} finished trials",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("trial", no_wrap=True)
    modes: dict[str, str] = {objective.metric: objective.mode for objective in front.objectives}
    metrics = tabled(modes, (result.metrics for result in front.results))
    for metric in metrics:
        table.add_column(f"{metric}\n({modes.get(metric, 'beside')})", justify="right", no_wrap=True)
    table.add_column("parameters", overflow="fold")
    for result in front.results:
        knee = " knee" if result is front.knee else ""
        values = [metric_text(name, result.metrics[name]) if name in result.metrics else "" for name in metrics]
        table.add_row(f"{result.number}{knee}", *values, plain(params_text(result.params)))
    return table


def print_lines(console: Console, lines: list[str]) -> None:
    """Lines as they are: no markup, no wrapping, so that commands can be copied; what does not print is escaped."""
    for line in lines:
        console.print(plain(line), soft_wrap=True)
