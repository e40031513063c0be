"""Deleting what MLflow has of a study.

In the embedded store runs are gone with their files, as by `mlflow gc`. A server keeps what is deleted until its own
`mlflow gc` runs: a client can ask for no more.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder
from bnnsearch.record import original
from bnnsearch.tracking.ids import RunIds, known_identity, study_store
from bnnsearch.tracking.preset import tag_of
from bnnsearch.tracking.store import Store, check_store, import_mlflow, open_client


@dataclass(frozen=True, slots=True)
class Removed:
    """What was deleted: how many runs, and a line to say so."""

    runs: int
    told: str


def remove_runs(study: StudyConfig, folder: StudyFolder) -> Removed:
    """Delete all runs of a study from the store it is recorded in, those that a person has deleted already too.

    Raises:
        EnvironmentProblem: the store cannot be used.
    """
    store = study_store(study, folder)
    if (other := original(folder)) is not None:
        return Removed(0, f"{store.shown}: its runs are those of {other}, and stay")
    if store.database is not None and not store.database.exists():
        return Removed(0, f"{store.shown}: is gone already")
    check_store(store)
    import_mlflow()
    from mlflow.entities import ViewType

    client = open_client(store)
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None or known_identity(folder) is None:
        return Removed(0, f"{store.shown}: has no runs of it")
    from bnnsearch.tracking.runs import StudyRuns

    runs = list(StudyRuns(client, str(experiment.experiment_id), RunIds(folder, store)).all(ViewType.ALL))
    for run in runs:
        if run.info.lifecycle_stage == "active":
            client.delete_run(run.info.run_id)
        if store.database is not None:
            _erase(store, run.info.run_id, run.info.artifact_uri)
    tag = tag_of(folder.search_id)
    if tag in experiment.tags:
        client.delete_experiment_tag(experiment.experiment_id, tag)
    kept = "" if store.database is not None else "; the server keeps them as deleted until its `mlflow gc` runs"
    return Removed(len(runs), f"{store.shown}: {len(runs)} runs deleted{kept}")


def _erase(store: Store, run_id: str, artifact_uri: str | None) -> None:
    """Delete a deleted run for good, as `mlflow gc` does: files first, for the run is what names them."""
    from mlflow.tracking._tracking_service.utils import _get_store

    place = urlsplit(artifact_uri or "")
    if place.scheme in ("", "file") and place.path:
        files = Path(unquote(place.path))
        shutil.rmtree(files.parent if files.name == "artifacts" else files, ignore_errors=True)
    _get_store(store.uri)._hard_delete_run(run_id)  # type: ignore[no-untyped-call]
