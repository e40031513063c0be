"""The thread that delivers updates to MLflow, off the training path, in batches, for as long as it takes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, Thread
from typing import TYPE_CHECKING

from bnnsearch.tracking.feed import Feed
from bnnsearch.tracking.updates import Update, merged

if TYPE_CHECKING:
    from bnnsearch.tracking.runs import StudyRuns

logger = logging.getLogger(__name__)

LINGER_SECONDS = 1.0
"""How long updates gather before they are sent together."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a delivery that failed is tried again: the first time, and at most."""

_PERMANENT = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST"})


class Writer:
    """Delivers what is in a feed.

    Attributes:
        refused: how many updates the store does not take, however often they are sent.
    """

    def __init__(self, feed: Feed, open_runs: Callable[[], StudyRuns]) -> None:
        self._feed = feed
        self._open_runs = open_runs
        self._runs: StudyRuns | None = None
        self._wake = Condition()
        self._closing = False
        self._thread = Thread(target=self._work, name="mlflow-writer", daemon=True)
        self._failing = False
        self.refused = 0

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def wake(self, update: Update | None = None) -> None:
        """Take note that the record has something new, or take an update that does not follow from it."""
        if update is not None:
            self._feed.append(update)
        with self._wake:
            self._wake.notify()

    def close(self, timeout: float) -> int:
        """Deliver what is left, trying once more; return how many updates are still undelivered."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout)
        return len(self._feed)

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while self._await_updates():
            closing = self._closing
            try:
                self._deliver_all()
                self._failing, pause = False, FIRST_PAUSE
            except Exception as error:  # whatever a store that died may raise: the updates stay, and are tried again
                if not self._failing:
                    logger.warning("MLflow does not answer; the study's record keeps what it is to get: %s", error)
                self._failing = True
                self._runs = None  # its file may have been moved, mended or made anew
                if closing:
                    return
                self._rest(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _await_updates(self) -> bool:
        """Wait for updates and let some gather; False when closing and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: len(self._feed) or self._closing)
        self._rest(LINGER_SECONDS)
        return len(self._feed) > 0

    def _rest(self, seconds: float) -> None:
        """Wait so long, or until closing."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing, seconds)

    def _deliver_all(self) -> None:
        self._runs = self._runs or self._open_runs()
        updates, mark = self._feed.pending()
        for update in merged(updates):
            self._deliver(self._runs, update)
        self._feed.drop(len(updates), mark)
        if mark is not None:
            self._runs.delivered(mark)

    def _deliver(self, runs: StudyRuns, update: Update) -> None:
        from mlflow.exceptions import MlflowException

        try:
            runs.deliver(update)
        except MlflowException as error:
            if error.error_code not in _PERMANENT:
                raise
            self.refused += 1
            logger.warning("MLflow refused what is new about %s: %s", update.run, error)
        except OSError as error:
            if error.errno is None or isinstance(error, ConnectionError):  # a request that failed
                raise
            logger.warning("a file of %s could not be stored: %s", update.run, error)  # it is in the study's folder
