"""Standard output and standard error: lines, events, and one `EnvironmentProblem` when they cannot be written.

A reader that left (`| head -1`), a full disk below a redirection and a terminal that was closed look the same to the
commands: the work ends in good order, with exit code 3.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from shutil import get_terminal_size
from typing import Any, TextIO

from bnnsearch.errors import EnvironmentProblem, printable
from bnnsearch.invocation import command


def say(*lines: str, err: bool = False, whole: bool = False) -> None:
    """Lines, broken between words on a terminal, as `wrapped` does; what does not print is escaped.

    Args:
        lines: without line ends.
        err: on standard error.
        whole: they are code or data, and never broken.
    """
    stream = sys.stderr if err else sys.stdout
    width = None if whole or stream is None or not stream.isatty() else get_terminal_size().columns
    for line in lines:
        _write(stream, wrapped(printable(line), width))


def wrapped(line: str, width: int | None) -> str:
    """A line as a terminal shows it: broken between words, what follows indented, below its column in a table.

    A command of ours, what stands in backticks, a path or any other word is never broken, so that it can be pasted. A
    terminal that moves no cursor gets the line as it is.
    """
    if width is None or len(line) <= width or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return line
    columns = re.match(r" *(.*\S  +)?", line)
    assert columns is not None
    start = columns.end()
    if start > width // 2:
        return line
    broken, under = line[:start], start if columns[1] else start + 2
    room, first = width - start, True
    for piece in re.findall(rf"{re.escape(command())} [a-z].*|[^\s`]*`[^`]*`\S*|\S+", line[start:]):
        if not first and len(piece) + 1 > room:
            broken, room = f"{broken}\n{' ' * under}", width - under
        elif not first:
            broken, room = f"{broken} ", room - 1
        broken, room, first = broken + piece, room - len(piece), False
    return broken


def write_event(event: str, **fields: Any) -> None:
    """One line of JSON on standard output, flushed."""
    _write(sys.stdout, json.dumps({"event": event, **fields}))


def _write(stream: TextIO | None, line: str) -> None:
    if stream is not None:  # whoever called may have closed it
        stream.write(f"{line}\n")
        stream.flush()


class OutputProblem(EnvironmentProblem):
    """Standard output or standard error cannot be written."""


class _Output:
    """A text stream whose failure is one `OutputProblem`, told to everyone who writes from then on."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._problem: str | None = None

    def write(self, text: str) -> int:
        with self._checked():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._checked():
            self._stream.flush()

    @contextmanager
    def _checked(self) -> Iterator[None]:
        if self._problem is not None:
            raise OutputProblem(self._problem)
        try:
            yield
        except OSError as error:
            self._problem = f"{self._name} cannot be written: {error.strerror or error}"
            self._abandon()
            raise OutputProblem(self._problem) from error

    def _abandon(self) -> None:
        """What Python still holds goes nowhere, or it would fail once more when the process ends."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def checked_output() -> Iterator[None]:
    """Both streams of this process are checked until leaving; one that is not open is left so."""
    before = sys.stdout, sys.stderr
    for attribute, name in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, attribute)
        if stream is not None:
            setattr(sys, attribute, _Output(stream, name))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
