# ruff: noqa: F811  # fixtures are imported by name
"""A packed network in MLflow: logged, registered under an alias, loaded by pyfunc, predicting what it did before."""

import json

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from torch import nn
from tracking_study import blank_store, folder, make_study  # noqa: F401  # two are fixtures

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.export import Provenance
from bnnsearch.packed.model import PackedModel
from bnnsearch.tracking.production import Production, log_production
from bnnsearch.tracking.store import import_mlflow, store_of

import_mlflow("mlflow.pyfunc")

CONFIG = TrialConfig.model_validate(
    {"data": {"name": "digits"}, "model": {"name": "mlp"}, "method": {"name": "ste"}, "seed": 1}
)


@pytest.fixture
def packed(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    path = tmp_path / "model.bnn"
    PackedModel.from_module(network, shape=(1, 8, 8), mean=[0.5], std=[0.5]).save(path)
    return path


def production(**fields):
    epochs = [EpochMetrics(epoch, 2, "train", {"val_acc": 0.4 * epoch}) for epoch in (1, 2)]
    return Production(CONFIG, epochs, {"test_acc": 0.81, "memory_bytes": 640.0}, **fields)


def test_a_registered_network_predicts_the_same(folder, packed, capfd, monkeypatch):
    store = store_of(make_study())
    provenance = Provenance(study="tiny", search_id="20260101-000000", trial=3, selected="knee of the front")
    logged = log_production(production(packed=packed, provenance=provenance), store, register_as="digits")
    assert capfd.readouterr() == ("", "")
    images = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    wanted = PackedModel.load(packed).predict(images)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    for uri in (logged.model_uri, "models:/digits@champion"):
        loaded = mlflow.pyfunc.load_model(uri)
        assert loaded.predict(images).tolist() == wanted.tolist()
        with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
            loaded.predict(images[:, :, :4])


def test_the_run_tells_where_the_network_came_from(folder, packed, tmp_path):
    store = store_of(make_study())
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"test": 1}))
    provenance = Provenance(study="tiny", search_id="s", trial=3, run_id="abc")
    logged = log_production(production(files=[result], provenance=provenance), store)
    run = MlflowClient(store.uri).get_run(logged.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"val_acc": 0.8, "test_acc": 0.81, "memory_bytes": 640}
    assert (run.data.tags["kind"], run.data.tags["trial"], run.data.tags["trial_run_id"]) == ("production", "3", "abc")
    assert run.data.params["method.name"] == "ste"
    assert (logged.model_uri, logged.version) == (None, None)


def test_two_trainings_that_name_a_new_data_set_at_once_are_both_recorded(folder, monkeypatch):
    """MLflow looks a data set up and inserts it: the second finds nothing, waits, and meets the row of the first."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store, named, looked = store_of(make_study()), SqlAlchemyStore.log_inputs, []

    def late(self, run_id, datasets=None, models=None):
        if not looked:
            looked.append(run_id)
            log_production(production(), store)
            raise MlflowException("UNIQUE constraint failed: datasets.name", error_code=BAD_REQUEST)
        named(self, run_id, datasets, models)

    monkeypatch.setattr(SqlAlchemyStore, "log_inputs", late)
    logged = log_production(production(), store)
    client = MlflowClient(store.uri)
    runs = client.search_runs([client.get_run(logged.run_id).info.experiment_id])
    assert [[each.dataset.name for each in run.inputs.dataset_inputs] for run in runs] == [["digits"], ["digits"]]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_the_alias_moves_to_the_newest_version(folder, packed):
    store = store_of(make_study())
    versions = [log_production(production(packed=packed), store, register_as="digits").version for _ in range(2)]
    assert versions == ["1", "2"]
    assert MlflowClient(store.uri, store.uri).get_model_version_by_alias("digits", "champion").version == 2


def test_a_network_is_registered_where_it_is_recorded(tmp_path, packed, monkeypatch):
    """Not in MLflow's default store, here `mlflow.db` of the working directory."""
    monkeypatch.chdir(tmp_path)
    store = store_of(make_study(tracking={"uri": f"sqlite:///{tmp_path}/other.db"}))
    assert log_production(production(packed=packed), store, register_as="digits").version == "1"
    assert not (tmp_path / "mlflow.db").exists()


def test_nothing_packed_cannot_be_registered(folder):
    with pytest.raises(ValueError, match="needs a packed network"):
        log_production(production(), store_of(make_study()), register_as="digits")
