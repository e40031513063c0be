"""What a study knows of MLflow, in its folder: the store that it began in, and which run belongs to which trial.

So a resume, wherever it is called from, goes on in the same runs.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.tracking.database import database_uri
from bnnsearch.tracking.store import Store, store_of

FILE = "mlflow-runs.json"


def study_store(study: StudyConfig, folder: StudyFolder) -> Store:
    """The store that the study began in, or will begin in.

    A SQLite file that is gone is looked for where it lies from the study's folder: both may have been moved.

    Raises:
        EnvironmentProblem: the store is reached with credentials that the environment does not have.
    """
    asked = store_of(study)
    begun = _begun(folder)
    if begun is None or begun["uri"] == asked.shown:
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


def remember_store(folder: StudyFolder, store: Store) -> None:
    """Take note, once, of where the study is recorded."""
    if _begun(folder) is None:
        path = None if store.database is None else os.path.relpath(store.database, folder.path.resolve())
        _write(folder, {**_read(folder), "begun": {"uri": store.shown, "path": path}})


def _begun(folder: StudyFolder) -> dict[str, Any] | None:
    begun: dict[str, Any] | None = _read(folder).get("begun")
    return begun


def _read(folder: StudyFolder) -> dict[str, Any]:
    path = folder.path / FILE
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return known


def _write(folder: StudyFolder, known: dict[str, Any]) -> None:
    """In one step, so that a reader sees the old or the new file."""
    path = folder.path / FILE
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(known, indent=1), encoding="utf-8")
    draft.replace(path)


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
        known = _read(folder)
        self.identity: str = known.get("identity", uuid4().hex)
        self._stores: dict[str, dict[str, str]] = known.get("stores", {})
        self._ids: dict[str, str] = self._stores.setdefault(store.shown, {})

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
        _write(self._folder, {**_read(self._folder), "identity": self.identity, "stores": self._stores})
