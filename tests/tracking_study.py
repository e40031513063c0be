"""A small study played to a tracker without any training, and the store it is recorded in; for the tracking tests."""

import shutil

import pytest
from record_fixtures import SPACE, record_past

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking.store import import_mlflow

import_mlflow()

from mlflow import MlflowClient  # noqa: E402  # after its imports' deprecations are dealt with

OUTCOMES = [  # val_acc, memory_bytes, state
    (0.80, 100, TrialState.COMPLETE),
    (0.90, 200, TrialState.COMPLETE),
    (0.99, 150, TrialState.PRUNED),
    (0.95, 150, TrialState.COMPLETE),
    (0.70, 50, TrialState.FAILED),
    (0.97, 900, TrialState.COMPLETE),
    (0.80, 100, TrialState.COMPLETE),
]
FRONT = {0, 3, 6}  # 1 is beaten by 3; 5 breaks the constraint; 6 ties with 0


def make_study(**settings):
    objectives = [{"metric": "val_acc", "mode": "max"}, {"metric": "memory_bytes", "mode": "min"}]
    fields = {"version": 1, "name": "tiny", "objectives": objectives, "budget": {"trials": 7}, **settings}
    return StudyConfig.model_validate(fields)


def play(tracker, folder, numbers, epochs=3):
    """Run through trials as the search does, without training: each is recorded, then the tracker is told."""
    for number in numbers:
        accuracy, memory, state = OUTCOMES[number]
        config = {"data": {"name": "digits"}, "model": {"name": "mlp", "hidden": [64, number + 1]}, "seed": number}
        start(tracker, folder, number, config, {"model.hidden": number + 1})
        for epoch in range(1, epochs + 1):
            values = {"val_acc": accuracy / (1 + epochs - epoch), "train_loss": 1.0 / epoch}
            train(tracker, folder, number, EpochMetrics(epoch, epochs, "train", values, {"flip_rate": {"a": 0.5}}))
        result = TrialResult(
            number=number,
            state=state,
            config=config,
            params={"model.hidden": number + 1},
            metrics={"val_acc": accuracy, "train_loss": 1.0 / epochs, "memory_bytes": memory},
            violations={"memory_bytes": memory - 500.0},
            epochs=epochs,
            reason=None if state is TrialState.COMPLETE else "because",
        )
        record_past(folder, [result])
        tracker.trial_finished(result)


def start(tracker, folder, number, config, params):
    """A trial begins, or goes on."""
    with held(folder) as record:
        if record.empty:
            record.begin_session(name="tiny", seed=0, space=SPACE)
        record.append("asked", number=number, config=config, params=params)
    tracker.trial_started(number, config, params)


def train(tracker, folder, number, metrics):
    """A trial has trained an epoch; one that it repeats is not recorded again."""
    known = read_past(folder, epochs=True).history.get(number, ())
    if all(each.epoch < metrics.epoch for each in known):
        record_past(folder, history={number: [metrics]})
    tracker.epoch_finished(number, metrics)


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory):
    """A SQLite store with its tables, which take seconds to make."""
    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, blank_store):
    shutil.copy(blank_store, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return StudyFolder(tmp_path / "runs" / "tiny" / "20260101-000000")


def runs_by_trial(client, experiment="tiny"):
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return {run.data.tags.get("trial", "report"): run for run in found}
