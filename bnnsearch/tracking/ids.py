"""Which MLflow run belongs to which trial, kept in the study's folder so that a resume goes on in the same runs."""

from __future__ import annotations

import json
from uuid import uuid4

from bnnsearch.folder import StudyFolder
from bnnsearch.tracking.store import Store

FILE = "mlflow-runs.json"


def trial_run_id(folder: StudyFolder, store: Store, number: int) -> str | None:
    """MLflow's run id of a trial, known without asking MLflow; None where it was not tracked there."""
    return RunIds(folder, store).get(str(number))


def trial_of_run(folder: StudyFolder, run_id: str) -> int | None:
    """The number of the trial whose run, in whatever store, has this id; None where there is none."""
    path = folder.path / FILE
    stores = json.loads(path.read_text())["stores"] if path.exists() else {}
    found = (run for runs in stores.values() for run, known in runs.items() if known == run_id and run.isdigit())
    return next(map(int, found), None)


class RunIds:
    """Run ids of a study in one store, by `report` or trial number.

    Attributes:
        identity: the study's own name, unique in the world: two searches on one server never mix.
    """

    def __init__(self, folder: StudyFolder, store: Store) -> None:
        self._path = folder.path / FILE
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.identity: str = known.get("identity", uuid4().hex)
        self._stores: dict[str, dict[str, str]] = known.get("stores", {})
        self._ids: dict[str, str] = self._stores.setdefault(store.shown, {})

    def get(self, run: str) -> str | None:
        """The run's id, if it was made."""
        return self._ids.get(run)

    def remember(self, run: str, run_id: str) -> None:
        """Keep the id, on disk."""
        self._ids[run] = run_id
        self.save()

    def save(self) -> None:
        """Write the file in one step; before the first run is made, so that its identity is never lost."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps({"identity": self.identity, "stores": self._stores}, indent=1), encoding="utf-8")
        draft.replace(self._path)
