"""Standard output and standard error: lines, events, and one `EnvironmentProblem` when they cannot be written.

A reader that left (`| head -1`), a full disk below a redirection and a terminal that was closed look the same to the
commands: the work ends in good order, with exit code 3.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from bnnsearch.errors import EnvironmentProblem, printable


def say(*lines: str, err: bool = False) -> None:
    """Lines as they are, so that commands can be copied; what does not print is escaped."""
    for line in lines:
        _write(sys.stderr if err else sys.stdout, printable(line))


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
