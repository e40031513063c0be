"""Log lines that hold words from outside: one line each, safe to show on a terminal."""

from __future__ import annotations

import logging
from types import TracebackType

from bnnsearch.errors import printable

_Error = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PrintableFormatter(logging.Formatter):
    """Escapes what does not print, a line end in a message too; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        return printable(super().formatMessage(record))

    def formatException(self, ei: _Error) -> str:  # noqa: N802  # the name is logging's
        return "\n".join(map(printable, super().formatException(ei).split("\n")))
