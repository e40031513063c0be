"""The screen of a running search: what it does, how far it is, and its front with parameters, in any width."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnnsearch.config.metrics import METRICS
from bnnsearch.errors import printable
from bnnsearch.pareto import losses
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.terminal.layout import Layout, Row, cut, head_of, wrap
from bnnsearch.terminal.progress import Running, StudyProgress, summary_lines
from bnnsearch.terminal.text import metric_text, params_text

STYLES = {TrialState.COMPLETE: "green", TrialState.PRUNED: "yellow", TrialState.FAILED: "red"}
RECENT = 3
"""Ended trials that are shown though they are not on the front."""


def screen(progress: StudyProgress, *, width: int, height: int) -> Group:
    """The state of a search on `width` columns and at most `height` lines."""
    with progress.lock:
        running = [_under_way(progress, *each) for each in sorted(progress.running.items())]
        ended = [each for each in progress.results if each.number not in progress.front.numbers]
        recent = [_ended(progress, each) for each in ended[-RECENT:]]
        front = _front(progress)
        head = _head(progress, width)
    names = [objective.metric for objective in progress.study.objectives]
    longest = max((len(row.detail) for row in front or running), default=0)
    table = Layout([head_of(name) for name in names], [*front, *running, *recent], width, detail=longest)
    lines = height - len(head) - len(table.header) - 1
    under_way = _fitting([table.lines(row, details=0) for row in running], max(2, lines // 3), "running")
    latest = [line for row in recent for line in table.lines(row, details=row.state == TrialState.FAILED)]
    latest = latest[: max(0, lines - len(under_way) - 6)]
    left = lines - len(under_way) - len(latest)
    pinned = _pinned(table, front, left)
    body = [*pinned, *under_way, *latest]
    return Group(*head, *(table.header if body else []), *body)


def _pinned(table: Layout, front: Sequence[Row], lines: int) -> list[Text]:
    """The front on so many lines: whole, with as much of the parameters as fits, or at least those that are chief."""
    for details in (2, 1):
        blocks = [table.lines(row, details=details) for row in front]
        if sum(map(len, blocks)) <= lines:
            return _fitting(blocks, lines)
    chief = sum(len(block) for block, row in zip(blocks, front, strict=True) if _is_chief(row))
    if chief >= lines:
        blocks = [block[:1] for block in blocks]
    return _fitting(blocks, lines, "on the front")


def _head(progress: StudyProgress, width: int) -> list[Text | Table]:
    done, expected = progress.epochs()
    bar = Table.grid(padding=(0, 1))
    told = f"{done} epochs" if expected is None else f"{done} of about {expected} epochs"
    bar.add_row(ProgressBar(total=expected or 1, completed=done, width=max(10, width - len(told) - 2)), told)
    lines: list[Text | Table] = [bar]
    if progress.stage:
        lines.append(Text(cut(f"{printable(progress.stage)} ...", width), style="cyan"))
    counts, _, times = summary_lines(progress)
    front = progress.front
    found = f"front {len(front.results)}, hypervolume {front.hypervolume:.3f}; * is the best of a column"
    told_of = [counts, times, found] if front.results else [counts, times]
    return [*lines, *(Text(line) for each in told_of for line in wrap(each, width))]


def _front(progress: StudyProgress) -> list[Row]:
    """The front: the best of each objective and the knee first, then the others in the order of the first objective."""
    front = progress.front
    if not front.results:
        return []
    table = losses(front.values, front.modes)
    best = table == table.min(axis=0)
    rows = []
    for place, result in enumerate(front.results):
        state = "knee" if result is front.knee else "front"
        columns = frozenset(int(column) for column in best[place].nonzero()[0])
        rows.append(Row(result.number, state, _cells(progress, result), params_text(result.params), "green", columns))
    return sorted(rows, key=lambda row: (not row.best, not _is_chief(row)))  # stable


def _is_chief(row: Row) -> bool:
    return bool(row.best) or row.state == "knee"


def _ended(progress: StudyProgress, result: TrialResult) -> Row:
    said = result.reason or params_text(result.params)
    return Row(result.number, result.state.value, _cells(progress, result), said, STYLES[result.state])


def _under_way(progress: StudyProgress, number: int, running: Running) -> Row:
    state = f"epoch {running.epoch}/{running.epochs}" if running.epochs else "starts"
    cells = [
        metric_text(name, running.values[name]) if METRICS[name].known == "after" and name in running.values else ""
        for name in (objective.metric for objective in progress.study.objectives)
    ]
    return Row(number, state, cells, params_text(running.params), "cyan")


def _cells(progress: StudyProgress, result: TrialResult) -> list[str]:
    names = [objective.metric for objective in progress.study.objectives]
    return [metric_text(name, result.metrics[name]) if name in result.metrics else "" for name in names]


def _fitting(blocks: Sequence[list[Text]], lines: int, what: str = "") -> list[Text]:
    """As many blocks, in their order, as fit into so many lines, and how many do not."""
    if sum(map(len, blocks)) <= lines:
        return [line for block in blocks for line in block]
    kept: list[Text] = []
    for place, block in enumerate(blocks):
        if place and len(kept) + len(block) >= lines:
            return [*kept, Text(f"and {len(blocks) - place} more {what}", style="dim")]
        kept += block
    return kept
