"""What is said of a search that has ended, or of where it stands: counts, the front as a table, failures by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from bnnsearch.config.metrics import tabled
from bnnsearch.errors import printable
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import Past
from bnnsearch.results import TrialResult, TrialState, quantisation_notes
from bnnsearch.study.state import read_state
from bnnsearch.terminal.layout import Layout, Row, head_of
from bnnsearch.terminal.output import wrapped, write_event
from bnnsearch.terminal.text import params_text, spread_text, trials_text


def front_lines(front: ParetoFront, width: int) -> list[Text]:
    """The trials on the front, the best of the first objective first; the knee is marked, means have a deviation."""
    modes: dict[str, str] = {objective.metric: objective.mode for objective in front.objectives}
    metrics = tabled(modes, (result.metrics for result in front.results))
    rows = []
    for result in front.results:
        cells = [
            spread_text(name, result.metrics[name], front.deviation(result.number, name))
            if name in result.metrics
            else ""
            for name in metrics
        ]
        state = "knee" if result is front.knee else "front"
        rows.append(Row(result.number, state, cells, params_text(result.params)))
    heads = [[*head_of(name), f"({modes.get(name, 'beside')})"] for name in metrics]
    layout = Layout(heads, rows, width, detail=max((len(row.detail) for row in rows), default=0))
    title = f"Pareto front: {len(front.results)} of {len(front.candidates)} finished trials"
    return [Text(title, style="bold"), *layout.header, *(line for row in rows for line in layout.lines(row, details=9))]


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Lines without markup, broken on a terminal as `wrapped` does; what does not print is escaped."""
    width = console.width if console.is_terminal else None
    for line in lines:
        console.print(Text(wrapped(printable(line), width)), soft_wrap=True)


def failure_lines(results: Sequence[TrialResult]) -> list[str]:
    """How many trials failed, by cause."""
    causes = Counter(result.reason or "no reason given" for result in results if result.state is TrialState.FAILED)
    lines = [f"  {count} x {reason}" for reason, count in causes.most_common(10)]
    return [f"{causes.total()} of {len(results)} trials failed:", *lines] if causes else []


def tell_status(
    past: Past, *, as_json: bool, results: Sequence[TrialResult] | None = None, job: str | None = None
) -> None:
    """Say where a search stands.

    Args:
        past: what its folder here says.
        as_json: in one event.
        results: ended trials, where more of them are known than here.
        job: the state of its job on a cluster.
    """
    folder, study = past.folder, past.space.study
    results = past.results if results is None else results
    state = read_state(folder, results)
    front = ParetoFront.of(results, study.objectives)
    states = Counter(result.state.value for result in results)
    if as_json:
        standing = (
            {"state": state.standing, "why": state.why, "host": state.host, "pid": state.pid} if job is None else {}
        )
        write_event("status", study=str(folder.path), job=job, **standing, budget=study.budget.trials, states=states,
                    front=sorted(front.numbers), hypervolume=front.hypervolume)  # fmt: skip
        return
    console = Console()
    counts = ", ".join(f"{count} {each}" for each, count in states.items()) or "none ended yet"
    where = str(state) if job is None else f"{job} on its cluster"
    print_lines(console, [f"{folder.path}: {where}", f"{trials_text(results, study.budget.trials)} ({counts})"])
    if front.results:
        console.print(*front_lines(front, console.width), sep="\n", soft_wrap=True)
    print_lines(console, [*front.noise, *quantisation_notes(front.results)])
    print_lines(console, failure_lines(results))
