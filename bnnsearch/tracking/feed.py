"""What MLflow has not got yet: the updates that follow from the record's events after the last that was delivered.

Nothing is kept on disk but how far MLflow is, so a crash loses nothing, and where even that is lost, or the record is
another one, everything is delivered again: an update delivered twice changes nothing.
"""

from __future__ import annotations

from threading import Lock

from bnnsearch.record import Reader
from bnnsearch.tracking.fold import RunFold
from bnnsearch.tracking.ids import Mark
from bnnsearch.tracking.updates import Update


class Feed:
    """Undelivered updates, oldest first.

    Args:
        reader: of the record, from its beginning.
        fold: makes the updates.
        delivered: the last event that MLflow has; None is before the first.

    Attributes:
        mark: the last event whose updates were dropped, as `delivered` next time.
    """

    def __init__(self, reader: Reader, fold: RunFold, delivered: Mark | None) -> None:
        self._reader = reader
        self._fold = fold
        self._lock = Lock()
        self._updates: list[Update] = []
        self.mark = delivered

    def __len__(self) -> int:
        with self._lock:
            self._pull()
            return len(self._updates)

    def append(self, update: Update) -> None:
        """Add an update that follows from no event, and is made again by the next session."""
        with self._lock:
            self._updates.append(update)

    def pending(self) -> tuple[list[Update], Mark | None]:
        """All updates, oldest first, and the last event that they follow from."""
        with self._lock:
            self._pull()
            return list(self._updates), Mark.of(self._reader)

    def drop(self, count: int, mark: Mark | None) -> None:
        """Forget the oldest `count` updates, which end with those of the event at `mark`: they are delivered."""
        with self._lock:
            del self._updates[:count]
            self.mark = mark

    def _pull(self) -> None:
        done = 0 if self.mark is None else self.mark.n
        for event in self._reader.events():
            if self._reader.last <= done:
                self._fold.note(event)
            else:
                self._updates += self._fold.updates(event)
