"""The runs of one study in MLflow: found or made by their tags, told what is new. One process at a time.

A run that a person deleted in MLflow is left alone. One that the store has lost, because its file was damaged or is
gone, is `lost` until all of it is delivered again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, LifecycleStage, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from bnnsearch.tracking.ids import Mark, RunIds
from bnnsearch.tracking.updates import Update

RUN_TAG = "bnnsearch.run"
"""Tag of every run: `<identity of the study>/<report or trial number>`, unique in the world."""

PARAMS, METRICS = 100, 900
"""How many MLflow takes in one call; metrics and tags together at most a thousand."""

MAX_PARAM, MAX_TAG = 6000, 8000

Item = TypeVar("Item")


class StudyRuns:
    """The runs of a study.

    Attributes:
        stored: those that the store has, deleted ones too: `report` or the trial's number.
        lost: those that were made and that it has no more.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, ids: RunIds) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._ids = ids
        ids.save()
        stages = {_name(run): run.info.lifecycle_stage for run in self._search(view=ViewType.ALL)}
        self.stored = frozenset(stages)
        self.lost = ids.names() - self.stored
        self._deleted = {name for name, stage in stages.items() if stage == LifecycleStage.DELETED}

    def find(self, condition: str) -> list[str]:
        """`report` and the trials whose runs fulfil a condition in MLflow's search language."""
        return [_name(run) for run in self._search(f" and {condition}")]

    def all(self, view: int) -> Iterator[Run]:
        """All runs of the study, the deleted ones as `view`, of MLflow's `ViewType`, says."""
        return self._search(view=view)

    def _search(self, condition: str = "", *, view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
        query = f"tags.`{RUN_TAG}` LIKE '{self._ids.identity}/%'{condition}"
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment_id], query, view, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def delivered(self, mark: Mark, *, complete: bool = False) -> None:
        """Take note that the store has what follows from the events up to this one."""
        self._ids.mark(mark, complete=complete)

    def forget_lost(self, name: str) -> None:
        """Make a run anew that was lost, with the next update."""
        self._ids.forget(name)
        self.lost.discard(name)

    def deliver(self, update: Update) -> None:
        """Bring the run up to date, making it where it is missing; nothing where it was deleted or lost.

        Raises:
            MlflowException: the store refused, or did not answer.
        """
        if update.run in self._deleted or update.run in self.lost:
            return
        try:
            self._deliver(update)
        except MlflowException:
            if not self._is_gone(update.run):
                raise

    def _is_gone(self, name: str) -> bool:
        """Find out that a run was deleted or lost since the store was opened."""
        run_id = self._ids.get(name)
        if run_id is None:
            return False
        try:
            if self._client.get_run(run_id).info.lifecycle_stage == LifecycleStage.DELETED:
                self._deleted.add(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                self.lost.add(name)
        return name in self._deleted or name in self.lost

    def _deliver(self, update: Update) -> None:
        run_id = self._ids.get(update.run) or self._found(update) or self._made(update)
        metrics = [Metric(name, value, at, step) for name, value, step, at in update.metrics]
        tags = [RunTag(key, _storable(value)[:MAX_TAG]) for key, value in update.tags.items()]
        for some in _batches(metrics, METRICS) or [[]]:
            self._client.log_batch(run_id, metrics=some, tags=tags)
            tags = []
        for artifact in map(Path, update.artifacts):
            if artifact.is_dir():
                self._client.log_artifacts(run_id, str(artifact))
            elif artifact.exists():
                self._client.log_artifact(run_id, str(artifact))
        if update.ended is not None:
            self._client.set_terminated(run_id, *update.ended)
        elif update.started is not None:
            self._client.update_run(run_id, status="RUNNING")

    def _found(self, update: Update) -> str | None:
        """The run, where it was made by a call whose answer never came."""
        runs = self._client.search_runs([self._experiment_id], f"tags.`{RUN_TAG}` = '{self._tag(update)}'")
        return self._complete(runs[0].info.run_id, update) if runs else None

    def _made(self, update: Update) -> str:
        name = update.tags.get(MLFLOW_RUN_NAME, update.run)
        tags = {RUN_TAG: self._tag(update)}
        run = self._client.create_run(self._experiment_id, update.started, tags, run_name=name)
        return self._complete(run.info.run_id, update)

    def _complete(self, run_id: str, update: Update) -> str:
        """Add what a run is made with, and only then take note of it."""
        params = [Param(key, _storable(value)[:MAX_PARAM]) for key, value in update.params.items()]
        for some in _batches(params, PARAMS):
            self._client.log_batch(run_id, params=some)
        if update.dataset:
            log_data_set(self._client, run_id, update.dataset)
        self._ids.remember(update.run, run_id)
        return run_id

    def _tag(self, update: Update) -> str:
        return f"{self._ids.identity}/{update.run}"


def log_data_set(client: MlflowClient, run_id: str, dataset: Mapping[str, str]) -> None:
    """Record what a run is trained on, given as by `describe.dataset_of`."""
    inputs = [DatasetInput(Dataset(**{name: _storable(value) for name, value in dataset.items()}))]
    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        client.log_inputs(run_id, inputs)  # of two processes that name a new data set at once, one is refused, once


def _name(run: Run) -> str:
    return str(run.data.tags[RUN_TAG].rpartition("/")[2])


def _storable(text: str) -> str:
    """`text` as a database takes it: a name of a file that is not UTF-8 may stand in a reason."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _batches(items: list[Item], size: int) -> list[list[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
