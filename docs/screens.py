"""The pictures of README and docs/, made of one real run of the quickstart's space.

A terminal of 80 columns (a pty, emulated by pyte) holds the live view halfway and the front at the end; headless
Chromium holds the report. Nothing is drawn by hand: what a picture shows, a command has printed.

    uv run --with pyte python docs/screens.py [--folder docs/pictures]
"""

from __future__ import annotations

import argparse
import fcntl
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


def main() -> None:
    """Search once, and write the three pictures."""
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
        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
        )
        size = ("--window-size=1200,900", "--virtual-time-budget=20000", f"--screenshot={pictures / 'report.png'}")
        subprocess.run(("chromium", *flags, *size, report.as_uri()), check=True, capture_output=True)


if __name__ == "__main__":
    main()
