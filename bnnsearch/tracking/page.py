"""HTML pages that need no network: the frame, sections, tables, pictures. What is given as text is escaped here."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from html import escape as html_escape
from importlib.resources import files
from math import isfinite
from typing import TYPE_CHECKING

from bnnsearch import __version__
from bnnsearch.errors import printable
from bnnsearch.tracking.view import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def escape(text: str) -> str:
    """Text from outside as HTML: no tags, and what does not print is escaped; line ends are white space there."""
    return html_escape(_shown(text))


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


@dataclass(frozen=True, slots=True)
class Frame:
    """A page within a page: what it is for, as plain text, and its HTML, of which one script runs, WebAssembly too."""

    title: str
    html: str

    @property
    def part(self) -> str:
        """It as HTML."""
        return f"<iframe title='{escape(self.title)}' srcdoc='{html_escape(self.html)}'></iframe>"

    @property
    def policy(self) -> str:
        """What the page around it must allow."""
        script = self.html.rpartition("<script>")[2].partition("</script>")[0]
        return f" {_digest(script)} 'wasm-unsafe-eval'"


def _digest(script: str) -> str:
    """A script as a policy names it."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def page(title: str, about: str, parts: Sequence[str], frame: Frame | None = None) -> str:
    """A whole page, whose policy lets a browser run its own script alone, and that of a `frame` which one of the
    `parts` of HTML has, and fetch nothing.
    """
    script = _file("page.js")
    allowed = _digest(script) + (frame.policy if frame else "")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>{_file("page.css")}</style>
</head><body><main>
<h1>{escape(title)}</h1>
<p class="sub">{escape(about)} · written {written} by bnnsearch {__version__}</p>
{"".join(parts)}
</main><script>{script}</script></body></html>
"""


def section(title: str, caption: str, body: str) -> str:
    """A titled part of the page; `caption` and `body` are HTML."""
    return f"<section><h2>{escape(title)}</h2><p class='caption'>{caption}</p>{body}</section>"


def picture(name: str, title: str, caption: str, figures: Mapping[str, Figure]) -> str:
    """A section with a picture, or with a menu of several by what they show; nothing where there is none.

    Args:
        name: differs from that of every other picture in the page.
        title: plain text.
        caption: HTML.
        figures: by what each shows.
    """
    from bnnsearch.tracking.figures import svg

    drawn = [
        f"<div class='picture scroll' role='region' aria-label='{escape(f'{title} {shown}'.strip())}'"
        f"{' hidden' if index else ''}>{svg(figure, f'{name}{index}', f'{title} {shown}'.strip())}</div>"
        for index, (shown, figure) in enumerate(figures.items())
    ]
    options = "".join(f"<option>{escape(shown)}</option>" for shown in figures)
    menu = f"<p><label>Show <select class='menu'>{options}</select></label></p>" if len(drawn) > 1 else ""
    return section(title, caption, menu + "".join(drawn)) if drawn else ""


def table(what: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; `what` it shows differs from that of every other table in the page."""
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in head)
    opened = f"<div class='scroll' tabindex='0' role='region' aria-label='{escape(what)}'><table>"
    return f"{opened}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table of trials: its text, and the number it is sorted and compared by where it has one."""

    text: str
    number: float | None = None

    def told(self) -> object:
        """The cell as the page's script reads it: text, a number that is its own text, or both."""
        if self.number is None or not isfinite(self.number):
            return _shown(self.text)
        number = short(self.number, 6)
        return number if self.text == json.dumps(number) else [number, self.text]


def trials_table(head: Sequence[str], names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table of trials that is sorted by its heads, filtered by words and limits, and linked to the charts.

    Args:
        head: titles of the columns.
        names: what a limit such as `val_acc>0.9` calls each of them.
        rows: cells, the first that of the trial's number; the page's script makes the table of them.
    """
    titles = "".join(
        f"<th scope='col' data-name='{escape(name)}'><button type='button'>{escape(title)}</button></th>"
        for title, name in zip(head, names, strict=True)
    )
    told = json.dumps([[cell.told() for cell in row] for row in rows], separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<p><label>Show <input type='search' id='filter' size='40' "
        "placeholder='words, or limits such as val_acc&gt;0.9'></label> "
        "<button type='button' id='all'>all</button> <output id='shown'></output></p>"
        "<div class='scroll high' tabindex='0' role='region' aria-label='all trials'>"
        f"<table id='trials'><thead><tr>{titles}</tr></thead><tbody></tbody></table></div>"
        f"<script type='application/json' id='cells'>{told}</script>"
    )


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
