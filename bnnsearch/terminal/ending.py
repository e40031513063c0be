"""What is said of a search that has ended, or of where it stands: counts, the front as a table, failures by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bnnsearch.config.metrics import tabled
from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import TrialResult, TrialState, quantisation_notes
from bnnsearch.terminal.output import write_event
from bnnsearch.terminal.text import params_text, plain, spread_text, trials_text


def front_table(front: ParetoFront) -> Table:
    """The trials on the front, the best of the first objective first; the knee is marked, means have a deviation."""
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
        values = [
            spread_text(name, result.metrics[name], front.deviation(result.number, name))
            if name in result.metrics
            else ""
            for name in metrics
        ]
        table.add_row(f"{result.number}{knee}", *values, plain(params_text(result.params)))
    return table


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Lines as they are: no markup, no wrapping, so that commands can be copied; what does not print is escaped."""
    for line in lines:
        console.print(plain(line), soft_wrap=True)


def failure_lines(results: Sequence[TrialResult]) -> list[str]:
    """How many trials failed, by cause."""
    causes = Counter(result.reason or "no reason given" for result in results if result.state is TrialState.FAILED)
    lines = [f"  {count} x {reason}" for reason, count in causes.most_common(10)]
    return [f"{causes.total()} of {len(results)} trials failed:", *lines] if causes else []


def tell_status(
    folder: StudyFolder, study: StudyConfig, results: Sequence[TrialResult], *, as_json: bool, job: str | None = None
) -> None:
    """Say where a search stands; `job` is the state of its job on a cluster."""
    front = ParetoFront.of(results, study.objectives)
    states = Counter(result.state.value for result in results)
    if as_json:
        write_event("status", study=str(folder.path), job=job, budget=study.budget.trials, states=states,
                    front=sorted(front.numbers), hypervolume=front.hypervolume)  # fmt: skip
        return
    console = Console()
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none ended yet"
    where = "" if job is None else f"{job} on its cluster, "
    print_lines(console, [f"{folder.path}: {where}{trials_text(results, study.budget.trials)} ({counts})"])
    if front.results:
        console.print(front_table(front))
    print_lines(console, quantisation_notes(front.results))
    print_lines(console, failure_lines(results))
