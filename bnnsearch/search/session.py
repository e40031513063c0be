"""What surrounds a search in its process: the folder's lock, the log, the signals. Each is undone on leaving."""

from __future__ import annotations

import fcntl
import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bnnsearch.errors import InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.search.coordinator import Coordinator, StopReason

LOCK = ".lock"
LOGGERS = ("bnnsearch", "optuna", "ray")
STOP_SIGNALS = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}


@contextmanager
def sole_driver(folder: StudyFolder) -> Iterator[None]:
    """Hold the study's folder; the lock goes with the process, however it ends.

    Raises:
        InputError: another process holds it.
    """
    with (folder.path / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder.path}: another process is working on this study") from None
        yield


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what the search, Optuna and Ray log to `path` instead of the terminal."""
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [file], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        file.close()


@contextmanager
def stop_signals(coordinator: Coordinator) -> Iterator[None]:
    """Stop the search at the first SIGINT or SIGTERM; the second has its ordinary effect. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        coordinator.stop(STOP_SIGNALS[signal.Signals(number)])
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
