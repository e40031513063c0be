"""The report while a search runs: written anew now and then, by a thread of its own, and once more at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread

from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder
from bnnsearch.tracking.report import write_report

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = 30.0
"""Seconds between two reports, at least."""

SHARE = 0.05
"""Of the time, at most so much goes into writing reports."""


class LiveReport:
    """Keeps the report in `folder` up to date."""

    def __init__(self, folder: StudyFolder, study: StudyConfig, written: Callable[[Path], None]) -> None:
        self._folder = folder
        self._study = study
        self._written = written
        self._wake = Condition()
        self._stale = False
        self._closing = False
        self._thread = Thread(target=self._work, name="live-report", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def refresh(self) -> None:
        """Take note that there is something new."""
        with self._wake:
            self._stale = True

    def close(self) -> None:
        """Write the last report."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        self._write()

    def _work(self) -> None:
        pause = SHORTEST_PAUSE
        while not self._closing:
            with self._wake:
                self._wake.wait_for(lambda: self._closing, pause)
                due, self._stale = self._stale and not self._closing, False
            if due:
                began = time.monotonic()
                self._write()
                pause = max(SHORTEST_PAUSE, (time.monotonic() - began) / SHARE)

    def _write(self) -> None:
        try:
            self._written(write_report(self._folder, self._study))
        except OSError as error:  # a full disk ends the search where it matters
            logger.warning("the report could not be written: %s", error.strerror or error)
        except Exception:  # a picture that cannot be drawn must not end a search
            logger.exception("the report could not be written")
