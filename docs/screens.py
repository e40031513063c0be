"""The pictures of README and docs/, made of one real run of the quickstart's space.

A terminal of 80 columns (a pty, emulated by pyte) holds the live view halfway and the front at the end; headless
Chromium holds the report, and the page of a network that was trained as docs/device.md says, with a digit drawn on it.
Nothing else is drawn by hand: what a picture shows, a command has printed.

    uv run --with pyte python docs/screens.py [--folder docs/pictures]
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from io import StringIO
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

HERE = Path(__file__).parent
SPACE = HERE.parent / "spaces" / "digits_quickstart.yaml"
COMMAND = (sys.executable, "-m", "bnnsearch")
COLUMNS, ROWS = 80, 40
NAMES = {"brown": "yellow"}  # pyte's name of what rich calls yellow
THREE = ((22, 12), (45, 7), (70, 15), (68, 36), (42, 47), (70, 60), (72, 82), (45, 94), (20, 88))  # of a side of 100
DONE = re.compile(r"\b(\d+) ?/ ?24\b")  # trials that are done, of the space's 24


def style_of(cell: pyte.screens.Char) -> Style:
    """The colours and the weight of a cell, as rich has them."""
    colour = NAMES.get(cell.fg, cell.fg)
    colour = f"#{colour}" if re.fullmatch("[0-9a-f]{6}", colour) else re.sub("^bright", "bright_", colour)
    return Style(color=colour, bold=cell.bold, italic=cell.italics, reverse=cell.reverse)


def text_of(screen: pyte.Screen, rows: list[int]) -> Text:
    """Rows of an emulated terminal with their colours."""
    text = Text()
    for row in rows:
        line = Text()
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        for style, alike in groupby(cells, style_of):  # a run of them is one element of the SVG
            line.append("".join(cell.data for cell in alike), style)
        line.rstrip()
        text.append_text(line).append("\n")
    text.rstrip()
    return text


def save_svg(text: Text, title: str, path: Path) -> None:
    """A terminal's picture, with fonts of the reader's machine: rich names ones on a server."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(text, overflow="ignore", no_wrap=True, crop=True)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title, unique_id=path.stem), flags=re.DOTALL)
    svg = re.sub(r"[ \t]+$", "", svg.replace("&#160;", "\u00a0"), flags=re.MULTILINE)
    path.write_text(svg + "\n", encoding="utf-8")


def record(folder: Path, words: tuple[str, ...], on_screen: Callable[[pyte.HistoryScreen], None]) -> pyte.HistoryScreen:
    """Run a command of bnnsearch in a terminal; `on_screen` sees each change of it.

    Raises:
        RuntimeError: the command has failed.
    """
    screen = pyte.HistoryScreen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    process = subprocess.Popen((*COMMAND, *words), cwd=folder, stdin=its, stdout=its, stderr=its, env=environment)
    os.close(its)
    try:
        while octets := os.read(ours, 1 << 16):
            stream.feed(octets)
            on_screen(screen)
    except OSError:  # Linux: the other side has closed
        pass
    os.close(ours)
    if process.wait():
        raise RuntimeError("\n".join(screen.display))
    return screen


def browser_picture(page: Path, size: str, path: Path) -> None:
    """What a browser without a window shows of a page."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}")
        shown = (f"--window-size={size}", "--virtual-time-budget=20000", f"--screenshot={path}", page.as_uri())
        subprocess.run(("chromium", *flags, *shown), check=True, capture_output=True)


def network_page(folder: Path) -> Path:
    """The page of a network, trained and packed as docs/device.md says, with a digit drawn on it."""
    small = re.search(r"```yaml small.yaml\n(.*?)```", (HERE / "device.md").read_text(encoding="utf-8"), re.DOTALL)
    assert small
    (folder / "small.yaml").write_text(small[1], encoding="utf-8")
    for words in (("train", "small.yaml", "-o", "small"), ("pack", "small", "--wasm", "digits.html")):
        subprocess.run((*COMMAND, *words), cwd=folder, check=True, capture_output=True)
    page = folder / "digits.html"
    script = f"""<script>{{
      const strokes = {json.dumps(THREE)}, side = drawing.width / 100;
      document.getElementById("width").value = 13;
      strokes.forEach(([x, y]) => {{ penTo(x * side, y * side); pen.down = true; }});
      pen.down = false;
      drawn();
    }}</script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    return page


def main() -> None:
    """Search once, train once, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=HERE / "pictures")
    pictures = parser.parse_args().folder.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SPACE.name).write_bytes(SPACE.read_bytes())
        live: list[Text] = []

        def halfway(screen: pyte.HistoryScreen) -> None:
            shown = "\n".join(screen.display)
            done = [int(found) for found in DONE.findall(shown)]
            if not live and done and max(done) >= 12 and "memory" in shown:
                rows = [row for row in range(ROWS) if screen.display[row].strip()]
                live.append(text_of(screen, list(range(rows[0], rows[-1] + 1))))

        last = record(folder, ("run", SPACE.name), halfway)
        first = next(row for row in range(ROWS) if "Pareto front" in last.display[row])
        save_svg(live[0], f"bnnsearch run {SPACE.name}", pictures / "live.svg")
        save_svg(text_of(last, list(range(first, ROWS))), "the front", pictures / "front.svg")
        report = next(folder.rglob("report.html"))
        browser_picture(report, "1200,900", pictures / "report.png")
        browser_picture(network_page(folder), "880,760", pictures / "page.png")


if __name__ == "__main__":
    main()
