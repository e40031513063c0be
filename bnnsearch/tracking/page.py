"""HTML pages that need no network: the frame, sections, tables, pictures. What is given as text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape as html_escape
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
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head><body><main>
<h1>{escape(title)}</h1>
<p class="sub">{escape(about)} · written {written} by bnnsearch {__version__}</p>
{"".join(parts)}
</main></body></html>
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


def paragraph(text: str, kind: str) -> str:
    """A paragraph of the class `kind`; nothing where there is no text."""
    return f"<p class='{kind}'>{escape(text)}</p>" if text else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Figures in a row, each with what it is."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in pairs)
    return f"<div class='facts'>{cells}</div>"


_STYLE = """
:root { color: #1f2937; background: #f8fafc; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
body { margin: 0 } main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px }
h1 { margin: 0; font-size: 30px } h2 { margin: 0 0 2px; font-size: 19px }
.sub, .caption { color: #6b7280; margin: 2px 0 10px; font-size: 14px } .lead { font-size: 16px }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 }
.facts div, section { background: white; border: 1px solid #e5e7eb; border-radius: 10px }
.facts div { padding: 10px 18px; min-width: 84px } .facts b { display: block; font-size: 21px }
.facts span { color: #6b7280; font-size: 13px }
section { padding: 18px 20px; margin: 16px 0 } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 13.5px; width: 100% }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid #e5e7eb; white-space: nowrap }
th { font-weight: 600; color: #6b7280 } td { font-variant-numeric: tabular-nums }
.empty { background: white; border: 1px dashed #cbd5e1; border-radius: 10px; padding: 20px }
code { background: #f1f5f9; padding: 1px 5px; border-radius: 4px }
"""
