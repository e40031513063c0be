"""A production training in MLflow: its run, its packed network as a model that predicts, its place in the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from bnnsearch import __version__
from bnnsearch.config.study import TrackingConfig
from bnnsearch.config.trial import AnyTrial
from bnnsearch.core.checkpoint import CHECKPOINT
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.deploy import pack_run
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.export import Provenance
from bnnsearch.packed.model import PackedModel
from bnnsearch.tracking.describe import as_metrics, dataset_of, flattened
from bnnsearch.tracking.registry import CHAMPION, new_version
from bnnsearch.tracking.store import Store, check_access, check_store, connect, import_mlflow, named_store
from bnnsearch.training import RESULT, TRIAL, Trained, read_epochs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

RECORD = "mlflow.json"
"""In a run's folder, once it is recorded: where in MLflow it is."""

EXPERIMENT = "production"
"""MLflow's experiment for configurations that come from no study."""


@dataclass(frozen=True, slots=True)
class Production:
    """A finished production training.

    Attributes:
        config: what was trained.
        epochs: its history.
        metrics: values to record at the end: test metrics, costs.
        files: what to keep with the run: the checkpoint, the result.
        packed: the packed network, logged as a model where there is one.
        provenance: of the configuration, where it was exported from a study.
    """

    config: AnyTrial
    epochs: Sequence[EpochMetrics]
    metrics: Mapping[str, float]
    files: Sequence[Path] = ()
    packed: Path | None = None
    provenance: Provenance | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """Where it went: the run, the model's URI for `mlflow.pyfunc.load_model`, the version in the registry."""

    run_id: str
    model_uri: str | None = None
    version: str | None = None


def production_store(provenance: Provenance | None) -> Store:
    """The store of the study that a configuration comes from, or our own.

    Raises:
        EnvironmentProblem: it cannot be used.
    """
    if provenance is None:
        store = named_store(TrackingConfig(), EXPERIMENT)
    else:
        store = named_store(provenance.tracking, provenance.study)
    check_store(store)
    if store.database is None:
        check_access(store)
    return store


def record(
    finished: Sequence[tuple[AnyTrial, Path, Trained]],
    store: Store,
    *,
    provenance: Provenance | None,
    register_as: str | None,
    alias: str,
) -> list[str]:
    """Record each run once, and register the best in validation; the lines that say so.

    Args:
        finished: what was trained, in which folder, and its outcome.
        store: where to.
        provenance: of the configuration.
        register_as: name of the registered model; None is the study's, and without a study nothing is registered.
        alias: that the new version takes over.
    """
    name = register_as or (provenance.study if provenance else None)
    best = max(range(len(finished)), key=lambda index: finished[index][2].metrics.get("val_acc", 0.0))
    lines = []
    for index, (config, out, trained) in enumerate(finished):
        if (out / RECORD).exists():
            continue
        packed, told = _packed(out)
        production = Production(
            config,
            read_epochs(out),
            metrics=trained.test | trained.costs,
            files=[out / file for file in (CHECKPOINT, RESULT, TRIAL)],
            packed=packed,
            provenance=provenance,
        )
        logged = log_production(production, store, register_as=name if packed and index == best else None, alias=alias)
        (out / RECORD).write_text(json.dumps(asdict(logged), indent=2) + "\n")
        where = f"; registered as models:/{name}@{alias}, version {logged.version}" if logged.version else ""
        lines += [told, f"recorded in MLflow's experiment {store.experiment} as run {logged.run_id}{where}"]
    return lines


def _packed(out: Path) -> tuple[Path | None, str]:
    """The run's network packed beside its checkpoint, where it can be, and a line about it."""
    path = out / "model.bnn"
    try:
        packed = pack_run(out, path)
    except InputError as error:
        return None, str(error)
    return path, f"packed to {path}: {packed.bytes} bytes"


def log_production(
    production: Production, store: Store, *, register_as: str | None = None, alias: str = CHAMPION
) -> Logged:
    """Record a production training as one run of the store's experiment.

    Args:
        production: what was trained.
        store: where to.
        register_as: name in the model registry for the packed network; None registers nothing.
        alias: alias that the new version takes over.

    Raises:
        EnvironmentProblem: the store cannot be used.
        ValueError: there is nothing packed to register.
    """
    if register_as is not None and production.packed is None:
        raise ValueError(f"register_as={register_as!r} needs a packed network, but there is none")
    check_store(store)
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        client, experiment_id = connect(store)
        run = client.create_run(experiment_id, tags=_tags(production), run_name=_name(production)).info.run_id
        status = "FAILED"
        try:
            logged = _log(client, run, production, register_as=register_as, alias=alias)
            status = "FINISHED"
        finally:
            client.set_terminated(run, status)
    except MlflowException as error:
        raise EnvironmentProblem(f"{store.shown}: the run could not be recorded ({error})") from error
    return logged


def _log(client: MlflowClient, run: str, production: Production, *, register_as: str | None, alias: str) -> Logged:
    _log_values(client, run, production)
    if production.packed is None:
        return Logged(run)
    model = _log_model(client, run, production.packed)
    if register_as is None:
        return Logged(run, model.model_uri)
    return Logged(
        run, model.model_uri, new_version(client, register_as, model.model_uri, run, alias, model_id=model.model_id)
    )


def _name(production: Production) -> str:
    origin = production.provenance
    return f"production of trial {origin.trial}" if origin else "production"


def _tags(production: Production) -> dict[str, str]:
    tags = {"kind": "production", "bnnsearch.version": __version__, "mlflow.source.name": "bnnsearch train"}
    origin = production.provenance
    if origin is None:
        return tags
    note = (
        f"Trial {origin.trial} of the study {origin.study} ({origin.search_id}), {origin.selected}, trained to its end."
    )
    tags |= {
        "search_id": origin.search_id,
        "study": origin.study,
        "trial": str(origin.trial),
        "mlflow.note.content": note,
    }
    return tags | ({"trial_run_id": origin.run_id} if origin.run_id else {})


def _log_values(client: MlflowClient, run_id: str, production: Production) -> None:
    from mlflow.entities import Metric, Param

    from bnnsearch.tracking.runs import log_data_set

    tree = production.config.model_dump(mode="json")
    params = flattened(tree)
    client.log_batch(run_id, params=[Param(name, value) for name, value in params.items()])
    if "data" in tree:
        log_data_set(client, run_id, dataset_of(tree["data"]))
    rows = [row for each in production.epochs for row in as_metrics(each.values, each.epoch)]
    rows += as_metrics(production.metrics, production.epochs[-1].epoch if production.epochs else 0)
    metrics = [Metric(name, value, at, step) for name, value, step, at in rows]
    for start in range(0, len(metrics), 1000):
        client.log_batch(run_id, metrics=metrics[start : start + 1000])
    for file in production.files:
        client.log_artifact(run_id, str(file))


def _log_model(client: MlflowClient, run_id: str, packed: Path) -> LoggedModel:
    """The packed network as an MLflow model of the run."""
    import_mlflow("mlflow.pyfunc")
    from mlflow import pyfunc
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shape = PackedModel.load(packed).shape
    images = TensorSpec(np.dtype(np.uint8), (-1, *shape))
    labels = TensorSpec(np.dtype(np.int64), (-1,))
    run = client.get_run(run_id)
    model = client.create_logged_model(run.info.experiment_id, name="packed", source_run_id=run_id)
    with TemporaryDirectory() as home:
        place = Path(home) / "model"
        pyfunc.save_model(
            place,
            loader_module="bnnsearch.tracking.pyfunc",
            data_path=str(packed),
            input_example=np.zeros((1, *shape), dtype=np.uint8),
            signature=ModelSignature(inputs=Schema([images]), outputs=Schema([labels])),
            pip_requirements=[f"bnnsearch=={__version__}"],
        )
        client.log_model_artifacts(model.model_id, str(place))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
