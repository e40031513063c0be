"""Trials as lines of text in any width.

A table would drop what does not fit. Here every metric keeps its column: where the parameters do not fit beside them
they stand below, and where not even the columns fit a trial is told in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from textwrap import TextWrapper

from rich.text import Text

from bnnsearch.errors import printable

_GAP = 2


def cut(text: str, width: int) -> str:
    """The text, or its beginning where it is wider."""
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."[:width]


def wrap(text: str, width: int, *, indent: str = "") -> list[str]:
    """The text in lines of `width` columns, or of one, in a window that has none."""
    return TextWrapper(max(1, width), subsequent_indent=indent, break_on_hyphens=False).wrap(text)


@dataclass(frozen=True, slots=True)
class Row:
    """A trial: its number, what it is, a cell for each metric, what is to be said of it, and where it is the best."""

    number: int
    state: str
    cells: Sequence[str]
    detail: str = ""
    style: str = ""
    best: frozenset[int] = field(default_factory=frozenset)


class Layout:
    """Columns that hold all rows: number, state, the metrics, and the details where there is room beside them.

    Args:
        heads: a metric's header, as lines, for each column.
        rows: all that is to be shown.
        width: columns of the terminal.
        detail: how long the details are that are not to be cut.

    Attributes:
        header: its lines; none where trials are told in words.
    """

    def __init__(self, heads: Sequence[Sequence[str]], rows: Sequence[Row], width: int, *, detail: int) -> None:
        self._names = ["".join(head) for head in heads]
        self._width = width
        cells = [[f"{row.cells[place]} " for row in rows] for place in range(len(heads))]  # and room for a mark
        self._widths = [
            max(map(len, ["trial", *(str(row.number) for row in rows)])),
            max(map(len, ["state", *(row.state for row in rows)])),
            *(max(map(len, [*head, *column])) for head, column in zip(heads, cells, strict=True)),
        ]
        used = sum(self._widths) + _GAP * len(self._widths)
        self._beside = width - used if detail <= width - used else 0
        self._in_words = used - _GAP > width
        depth = max(map(len, heads))
        lines = zip(*([""] * (depth - len(head)) + [*head] for head in heads), strict=True)
        titles = [("", "", "")] * (depth - 1) + [("trial", "state", "parameters" if self._beside else "")]
        self.header = [] if self._in_words else [
            Text(self._line(number, state, [f"{head} " for head in line]) + last, style="dim")
            for (number, state, last), line in zip(titles, lines, strict=True)
        ]  # fmt: skip

    def lines(self, row: Row, *, details: int) -> list[Text]:
        """A trial; what is said of it takes at most `details` lines where it stands below."""
        detail = printable(row.detail)
        marked = [cell + ("*" if place in row.best else " ") for place, cell in enumerate(row.cells)]
        if self._in_words:
            values = [f"{name} {cell}" for name, cell in zip(self._names, marked, strict=True) if cell.strip()]
            words = wrap(f"{row.number} {row.state}  {'  '.join(values)}", self._width, indent=" " * _GAP)
            return [*map(Text, words), *self._below(detail, details, indent=_GAP)]
        begin = self._widths[0] + _GAP
        text = Text(self._line(str(row.number), row.state, marked) + cut(detail, self._beside))
        text.stylize(row.style, begin, begin + self._widths[1])
        text.rstrip()
        return [text] if self._beside else [text, *self._below(detail, details, indent=begin)]

    def _below(self, detail: str, lines: int, *, indent: int) -> list[Text]:
        found = wrap(detail, self._width - indent)
        if lines and len(found) > lines:
            found[lines - 1] = cut(" ".join(found[lines - 1 :]), self._width - indent)
        return [Text(" " * indent + line, style="dim") for line in found[:lines]]

    def _line(self, number: str, state: str, cells: Sequence[str]) -> str:
        head, kind, *columns = self._widths
        padded = [cell.rjust(width) for cell, width in zip(cells, columns, strict=True)]
        return "".join(each + " " * _GAP for each in (number.rjust(head), state.ljust(kind), *padded))


def head_of(metric: str) -> list[str]:
    """A metric's name as lines of a header: `memory_bytes` as two."""
    head, mark, tail = metric.rpartition("_")
    return [head + mark, tail] if len(metric) > 9 and head else [metric]
