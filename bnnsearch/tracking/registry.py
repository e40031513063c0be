"""MLflow's model registry: an exported configuration as the candidate, a trained network as the champion.

Both are versions of one registered model, named after the study. An alias is what a deployment asks for, and moves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.tracking.store import Store, check_store, import_mlflow, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

CANDIDATE, CHAMPION = "candidate", "champion"
"""Aliases of what was exported last and of what was trained last, unless others are named."""

EXPORT = "export"
"""Where an exported configuration lies among the artifacts of its trial's run."""


def register_export(config: Path, store: Store, *, run_id: str, name: str, alias: str = CANDIDATE) -> str:
    """Keep an exported configuration with its trial's run, and register it; nothing is trained yet.

    Args:
        config: the exported file.
        store: where the trial was tracked.
        run_id: the trial's run.
        name: of the registered model.
        alias: that the new version takes over.

    Returns:
        The version.

    Raises:
        EnvironmentProblem: the store cannot be used, or refuses.
    """
    check_store(store)
    import_mlflow()
    from mlflow.exceptions import MlflowException

    client = open_client(store)
    try:
        client.log_artifact(run_id, str(config), EXPORT)
        client.set_tag(run_id, "exported", "true")
        return new_version(client, name, f"runs:/{run_id}/{EXPORT}", run_id, alias)
    except (MlflowException, OSError) as error:
        raise EnvironmentProblem(f"{store.shown}: {config} could not be registered ({error})") from error


def new_version(
    client: MlflowClient, name: str, source: str, run_id: str, alias: str, *, model_id: str | None = None
) -> str:
    """A new version of the registered model `name`, which takes over the alias.

    Args:
        client: of the registry.
        name: of the registered model; made where missing.
        source: URI of what is registered.
        run_id: the run it comes from.
        alias: of the version.
        model_id: where `source` is a model that predicts.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    kind = "configuration" if model_id is None else "network"
    with _by_default(client.tracking_uri):
        version = client.create_model_version(name, source, run_id, tags={"kind": kind}, model_id=model_id)
    client.set_registered_model_alias(name, alias, version.version)
    return str(version.version)


@contextmanager
def _by_default(uri: str) -> Iterator[None]:
    """MLflow's default store is the one at `uri`: there its registry looks a network up, whatever the client has."""
    name = "MLFLOW_TRACKING_URI"
    before = os.environ.get(name)
    os.environ[name] = uri
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
