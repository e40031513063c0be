"""What surrounds a search in its process: the log, the signals. Each is undone on leaving."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from bnnsearch.config.guests import blamed
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder, holds_study, make_way
from bnnsearch.invocation import command
from bnnsearch.logs import PrintableFormatter
from bnnsearch.results import StopReason

if TYPE_CHECKING:
    from bnnsearch.study.coordinator import Coordinator

logger = logging.getLogger(__name__)

LOGGERS = {"bnnsearch": logging.INFO, "mlflow": logging.WARNING, "optuna": logging.WARNING, "ray": logging.WARNING}
"""Whose words go into a search's log, and from which level on: of ours the story of every trial."""

STOP_SIGNALS = {
    signal.SIGINT: StopReason.INTERRUPTED,
    signal.SIGTERM: StopReason.TERMINATED,
    signal.SIGHUP: StopReason.TERMINATED,  # the terminal was closed
}
STOPPING = (
    "stopping: running trials are left where they stand, and everything so far is saved; once more ends it at once"
)


def resumable(problem: str, study: Path) -> EnvironmentProblem:
    """The problem, and the command that goes on once it is mended, where there is a study to go on with."""
    folder = StudyFolder(study)
    if not holds_study(folder) or not folder.checkpoints.exists():  # no search has begun
        return EnvironmentProblem(problem)
    return EnvironmentProblem(f"{problem}; everything so far is saved. To go on:", command("resume", study))


@contextmanager
def to_be_resumed(study: Path) -> Iterator[None]:
    """Say how to go on after what went wrong around the search: nothing that was recorded is lost."""
    try:
        yield
    except OSError as error:
        raise resumable(f"{error.strerror or error}: {error.filename or study}", study) from error
    except EnvironmentProblem as problem:
        if problem.command is not None:
            raise
        raise resumable(str(problem), study) from problem


@contextmanager
def logging_guests() -> Iterator[None]:
    """Log the traceback of what a guest's own code raised in the search itself, such as a sampler's."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if blamed(error) is not None:
            logger.exception("the search ended by the code of a guest")
        raise


def end_at_once(problem: str, study: Path, stopped: StopReason | None) -> NoReturn:
    """End this process from any thread, with the exit code and the words of a search that ended by itself."""
    if study.is_relative_to(Path.cwd()):
        study = study.relative_to(Path.cwd())
    with suppress(OSError, ValueError):
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        sys.stderr.write(show_cursor + "".join(f"{line}\n" for line in resumable(problem, study).lines))
        sys.stderr.flush()
    os._exit({StopReason.INTERRUPTED: 130, StopReason.TERMINATED: 143}.get(stopped or StopReason.FINISHED, 3))


class _Log(logging.FileHandler):
    """A log that cannot be written, for the disk is full or the folder gone, is not worth a word for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the file is opened with its first record
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name is logging's
        pass


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send what the search and its packages log to `path` instead of the terminal."""
    make_way(path, unless=Path.is_file)
    file = _Log(path, encoding="utf-8", delay=True)
    file.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [file], False
        logger.setLevel(max(LOGGERS[logger.name], logger.level))
    try:
        yield
    finally:
        for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        file.close()


@contextmanager
def stop_signals(coordinator: Coordinator) -> Iterator[None]:
    """Stop the search at the first of `STOP_SIGNALS`; the second has its ordinary effect. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        coordinator.stop(STOP_SIGNALS[signal.Signals(number)])
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # by a thread: the signal may have come while this one was writing to the terminal
        threading.Thread(target=coordinator.say, args=[STOPPING], name="stopping", daemon=True).start()

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
