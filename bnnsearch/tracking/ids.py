"""What a study knows of MLflow, in its folder: the store that it began in, and which run belongs to which trial.

So a resume, wherever it is called from, goes on in the same runs.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder, replace_file
from bnnsearch.record import COPY_OF, Event, Reader, Record, last_session
from bnnsearch.tracking.database import database_uri
from bnnsearch.tracking.store import Store, store_of, without_secrets

logger = logging.getLogger(__name__)

FILE = "mlflow-runs.json"

CHECK = "check"
"""Its key of the CRC-32 of all others."""

EARLIER_SPOOL = "mlflow-spool.jsonl"
"""Where a study of the format before the record kept what MLflow had not got."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An event of a record: its number, and its length and checksum, to tell it from another record's."""

    n: int
    line: str

    @classmethod
    def of(cls, reader: Reader) -> Self | None:
        """The last event that was read; None before the first."""
        return cls(reader.last, b" ".join(reader.line.split(b" ", 3)[1:3]).decode()) if reader.last else None


def study_store(study: StudyConfig, folder: StudyFolder) -> Store:
    """The store that the study began in, or will begin in, or that `tracking.uri` of its space was edited to name.

    A SQLite file that is gone is looked for where it lies from the study's folder: both may have been moved.

    Raises:
        EnvironmentProblem: the store is reached with credentials that the environment does not have.
    """
    asked = store_of(study)
    begun = _begun(folder)
    if begun is None or begun["uri"] == asked.shown or begun.get("named", _named(study)) != _named(study):
        return asked
    if "//***@" in begun["uri"]:
        raise EnvironmentProblem(
            f"{folder.path}: this study is recorded in {begun['uri']}, which needs credentials; "
            "set MLFLOW_TRACKING_URI to it, with them"
        )
    if begun.get("path") is None:
        return replace(asked, uri=begun["uri"])
    path, beside = Path(begun["uri"].removeprefix("sqlite:///")), folder.path / begun["path"]
    moved = not path.exists() and beside.exists()
    return replace(asked, uri=database_uri(beside.resolve() if moved else path))


def remember_store(study: StudyConfig, folder: StudyFolder, store: Store, record: Record | None = None) -> None:
    """Take note of where the study is recorded from now on: in its record, where there is one, else beside the runs."""
    begun, named = _begun(folder), _named(study)
    if begun is None or begun.get("named", named) != named:
        path = None if store.database is None else os.path.relpath(store.database, folder.path.resolve())
        if record is not None:
            record.append("tracked", uri=store.shown, path=path, named=named)
        else:
            _write(folder, {**_read(folder), "begun": {"uri": store.shown, "path": path, "named": named}})


def _named(study: StudyConfig) -> str | None:
    """`tracking.uri` as it may be remembered; unlike a working directory or a variable, an edit names another store."""
    return None if study.tracking.uri is None else without_secrets(study.tracking.uri)


def _begun(folder: StudyFolder) -> dict[str, Any] | None:
    tracked = [event for event in Reader(folder.record).events(("tracked",)) if event["event"] == "tracked"]
    begun: dict[str, Any] | None = tracked[-1] if tracked else _read(folder).get("begun")
    return begun


def _read(folder: StudyFolder) -> dict[str, Any]:
    path = folder.path / FILE
    try:
        known: dict[str, Any] = json.loads(read_regular(path))
        if known.get(CHECK, _check(known)) != _check(known):
            raise ValueError("its checksum is another")
        for key in ("stores", "marks"):
            if not all(isinstance(each, dict) for each in known.get(key, {}).values()):
                raise ValueError(f"{key} is damaged")
        return known
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:  # all of it is found again in MLflow and in the record
        logger.warning("%s is not used: %s", path, error)
        return {}


def _check(known: dict[str, Any]) -> str:
    told = {key: value for key, value in known.items() if key != CHECK}
    return f"{zlib.crc32(json.dumps(told, sort_keys=True).encode()):08x}"


def _write(folder: StudyFolder, known: dict[str, Any]) -> None:
    """In one step, so that a reader sees the old or the new file."""
    replace_file(folder.path / FILE, json.dumps({**known, CHECK: _check(known)}, indent=1))


def known_identity(folder: StudyFolder) -> str | None:
    """What tells the study from all others in MLflow; None where it has told nobody yet."""
    return _identity(last_session(folder.record), _read(folder))


def _identity(session: Event | None, known: dict[str, Any]) -> str | None:
    identity: str | None = known.get("identity") if session is None else session["identity"]
    return identity


def trial_run_id(folder: StudyFolder, store: Store, number: int) -> str | None:
    """MLflow's run id of a trial, known without asking MLflow; None where it was not tracked there."""
    return RunIds(folder, store).get(str(number))


def trial_of_run(folder: StudyFolder, run_id: str) -> int | None:
    """The number of the trial whose run, in whatever store, has this id; None where there is none."""
    stores = _read(folder).get("stores", {})
    found = (run for runs in stores.values() for run, known in runs.items() if known == run_id and run.isdigit())
    return next(map(int, found), None)


class RunIds:
    """Run ids of a study in one store, by `report` or trial number.

    Attributes:
        identity: the study's own name, unique in the world: two searches on one server never mix.
    """

    def __init__(self, folder: StudyFolder, store: Store) -> None:
        self._folder = folder
        known, session = _read(folder), last_session(folder.record)
        self.identity: str = _identity(session, known) or uuid4().hex
        if known.get("identity", "") == (session or {}).get(COPY_OF):  # the runs are the other's
            known = {}
        self._store = store.shown
        self._stores: dict[str, dict[str, str]] = known.get("stores", {})
        self._ids: dict[str, str] = self._stores.setdefault(store.shown, {})
        self._marks: dict[str, dict[str, Any]] = known.get("marks", {})

    @property
    def delivered(self) -> Mark | None:
        """The last event of the record that this store has; None where it has none, or nobody knows."""
        known = self._marks.get(self._store)
        return None if known is None else Mark(known["n"], known["line"])

    @property
    def complete(self) -> bool:
        """Whether all runs were as that event left them when it was delivered."""
        return bool(self._marks.get(self._store, {}).get("settled"))

    def mark(self, delivered: Mark, *, complete: bool) -> None:
        """Keep how far the store is."""
        self._marks[self._store] = {**asdict(delivered), "settled": complete}
        self.save()

    def names(self) -> set[str]:
        """The runs that were made."""
        return set(self._ids)

    def values(self) -> set[str]:
        """Their ids."""
        return set(self._ids.values())

    def get(self, run: str) -> str | None:
        """The run's id, if it was made."""
        return self._ids.get(run)

    def remember(self, run: str, run_id: str) -> None:
        """Keep the id, on disk."""
        self._ids[run] = run_id
        self.save()

    def forget(self, run: str) -> None:
        """Make the run anew when there is something to tell of it."""
        if self._ids.pop(run, None) is not None:
            self.save()

    def save(self) -> None:
        """Keep all, on disk; before the first run is made, so that its identity is never lost."""
        own = {"identity": self.identity, "stores": self._stores, "marks": self._marks}
        _write(self._folder, {**_read(self._folder), **own})
