"""HTML pages that need no network: the frame, sections, tables, pictures. What is given as text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape as html_escape
from importlib.resources import files
from typing import TYPE_CHECKING

from bnnsearch import __version__
from bnnsearch.errors import printable

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def escape(text: str) -> str:
    """Text from outside as HTML: no tags, and what does not print is escaped; line ends are white space there."""
    return html_escape("\n".join(map(printable, text.split("\n"))))


def page(title: str, about: str, parts: Sequence[str]) -> str:
    """A whole page, plotly included once; `parts` are HTML."""
    from plotly.offline import get_plotlyjs

    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_file("page.css")}</style>
<script>{get_plotlyjs()}</script>
</head><body><main>
<h1>{escape(title)}</h1>
<p class="sub">{escape(about)} · written {written} by bnnsearch {__version__}</p>
{"".join(parts)}
</main><script>{_file("page.js")}</script></body></html>
"""


def section(title: str, caption: str, body: str) -> str:
    """A titled part of the page; `caption` and `body` are HTML."""
    return f"<section><h2>{escape(title)}</h2><p class='caption'>{caption}</p>{body}</section>"


def picture(title: str, caption: str, figure: Figure | None) -> str:
    """A section with a picture; nothing where there is none."""
    if figure is None:
        return ""
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}, default_width="100%"
    )
    return section(title, caption, drawn)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<div class='scroll'><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table of trials: its text, and the number it is sorted and compared by where it has one."""

    text: str
    number: float | None = None


def trials_table(head: Sequence[str], names: Sequence[str], rows: Sequence[tuple[int, Sequence[Cell]]]) -> str:
    """A table of trials that is sorted by its heads, filtered by words and limits, and linked to the charts.

    Args:
        head: titles of the columns.
        names: what a limit such as `val_acc>0.9` calls each of them.
        rows: trial number and cells.
    """
    titles = "".join(
        f"<th data-name='{escape(name)}'><button type='button'>{escape(title)}</button></th>"
        for title, name in zip(head, names, strict=True)
    )
    body = "".join(
        f"<tr data-trial='{number}' tabindex='0'>{''.join(map(_cell, cells))}</tr>" for number, cells in rows
    )
    return (
        "<p><label>Show <input type='search' id='filter' size='40' "
        "placeholder='words, or limits such as val_acc&gt;0.9'></label> "
        "<output id='shown'></output></p><div class='scroll high'>"
        f"<table id='trials'><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    number = "" if cell.number is None else f" data-value='{cell.number!r}'"
    return f"<td{number}>{escape(cell.text)}</td>"


def paragraph(text: str, kind: str) -> str:
    """A paragraph of the class `kind`; nothing where there is no text."""
    return f"<p class='{kind}'>{escape(text)}</p>" if text else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Figures in a row, each with what it is."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in pairs)
    return f"<div class='facts'>{cells}</div>"


def _file(name: str) -> str:
    """A style or a script, which lie beside this module."""
    return (files("bnnsearch.tracking") / name).read_text(encoding="utf-8")
