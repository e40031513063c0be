"""A limit on the time that a trial's own work takes, which ends hangs too."""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HARD_LIMIT_GRACE = 5.0
"""Seconds after the time limit when a worker that Python cannot interrupt is ended from outside Python."""


class TimeLimitError(Exception):
    """A trial took longer than its limit."""


class TimeLimit:
    """Seconds that the work inside `armed` may take in all.

    Args:
        seconds: None is no limit.
        own_process: end the process where Python cannot interrupt what hangs.
    """

    def __init__(self, seconds: float | None, *, own_process: bool) -> None:
        self._seconds = seconds
        self._left = seconds or 0.0
        self._own_process = own_process

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Raise TimeLimitError in the body when the time is up. Takes effect in the main thread only."""
        if self._seconds is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        started = time.monotonic()
        previous = signal.signal(signal.SIGALRM, self._expire)
        signal.setitimer(signal.ITIMER_REAL, max(self._left, 1e-3))
        if self._own_process:  # watches from a C thread: ends a process that holds the interpreter's lock for ever
            faulthandler.dump_traceback_later(self._left + HARD_LIMIT_GRACE, exit=True)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            if self._own_process:
                faulthandler.cancel_dump_traceback_later()
            self._left -= time.monotonic() - started

    def _expire(self, signum: int, frame: object) -> None:  # noqa: ARG002
        raise TimeLimitError(f"the trial took longer than trial_timeout = {self._seconds:g} s")
