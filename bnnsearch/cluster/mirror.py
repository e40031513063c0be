"""A study's folder on the head's own disk, mirrored to an object store, which outlives the head."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Self

from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.study.object_store import ObjectFolder, below

logger = logging.getLogger(__name__)

MARKER = ".bnnsearch"
PUSH_SECONDS = 5.0
"""What a head that is lost takes with it at most; the trials that ended within are trained again from their states."""


class Mirror(StudyObserver):
    """Brings the study here when made, and puts what changes back every few seconds while entered, and when left.

    Make it only while the study here is held.

    Also an observer: drops the states of trials that have ended.

    Args:
        uri: of the study's folder in the object store.
        folder: its copy here.

    Raises:
        InputError: the URI is none.
        EnvironmentProblem: the store cannot be reached or refuses us.
    """

    def __init__(self, uri: str, folder: StudyFolder) -> None:
        self.checkpoints = below(uri, "checkpoints")
        self._path = folder.path
        self._record = folder.record
        self._pushed: dict[str, tuple[int, int]] = {}
        self._ended: list[int] = []
        self._over = threading.Event()
        self._pushing = threading.Thread(target=self._keep_pushing, name="mirror", daemon=True)
        try:
            self._study, self._states = ObjectFolder(uri), ObjectFolder(self.checkpoints)
            self._path.mkdir(parents=True, exist_ok=True)
            for name in self._study.names():
                self._fetch(self._path / name)
            self._study.put(MARKER, b"")  # now, and not when the first results are to be kept
        except ValueError as error:  # what is wrong with the URI
            raise InputError(f"storage: {error}") from error
        except OSError as error:
            raise EnvironmentProblem(f"{uri}: the study's storage cannot be used ({error})") from error

    def _fetch(self, path: Path) -> None:
        if path != self._record:
            self._study.fetch(path)
        elif (content := self._study.get(path.name)) is not None:
            path.touch()
            with path.open("r+b") as file:  # not another file in its place: this one is locked
                file.truncate(0)
                file.write(content)

    def __enter__(self) -> Self:
        self._pushing.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._pushing.join()
        try:
            self._push()
        except OSError as problem:
            raise EnvironmentProblem(
                f"the last of the study is only on the head, in {self._path}: {problem}"
            ) from problem

    def trial_finished(self, result: TrialResult) -> None:
        self._ended.append(result.number)

    def _keep_pushing(self) -> None:
        while not self._over.wait(PUSH_SECONDS):
            try:
                self._push()
            except OSError as error:
                logger.warning("the study is not mirrored for now: %s", error)

    def _push(self) -> None:
        """Put the files that have changed, then drop the states of trials that the store now knows to have ended."""
        ended, self._ended = self._ended, []
        for path in sorted(self._path.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                version = (path.stat().st_mtime_ns, path.stat().st_size)
                if self._pushed.get(path.name) != version:
                    self._study.put(path.name, path.read_bytes())
                    self._pushed[path.name] = version
        for number in ended:
            try:
                self._states.drop(f"{number}.pt")
            except OSError as error:  # it takes room there, and harms nothing
                logger.warning("the state of trial %d stays in the store: %s", number, error)
