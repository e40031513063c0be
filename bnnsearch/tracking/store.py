"""Where MLflow records: the embedded SQLite store, a server, or whatever else a tracking URI names.

The URI is `tracking.uri` of the space, else MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` in the working directory.
Credentials come from the environment and are MLflow's own business.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bnnsearch.config.study import StudyConfig, TrackingConfig
from bnnsearch.errors import EnvironmentProblem

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
PROBE_SECONDS = 2.0

_QUIET = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "mlflow.utils.environment": logging.ERROR}
_PROMPT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we retry ourselves, off the training path
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True, slots=True)
class Store:
    """A tracking store and the experiment in it.

    Attributes:
        uri: as MLflow takes it; a SQLite file's path is absolute.
        experiment: name of the experiment.
    """

    uri: str
    experiment: str

    @property
    def shown(self) -> str:
        """The URI without what may be a secret."""
        return _without_secrets(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file, where the store is one."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:///") else None

    @property
    def artifacts(self) -> str | None:
        """Where a SQLite store keeps files: beside it. None leaves it to the server."""
        return None if self.database is None else (self.database.parent / ARTIFACTS).as_uri()


def store_of(study: StudyConfig) -> Store:
    """The store of a study."""
    return named_store(study.tracking, study.name)


def named_store(tracking: TrackingConfig, experiment: str) -> Store:
    """The store of these settings; they may name another experiment."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    if uri.startswith("sqlite:///"):
        uri = f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return Store(uri, tracking.experiment or experiment)


def check_store(store: Store) -> None:
    """Find out within five seconds, without MLflow's own slow import, that the store cannot be used.

    Raises:
        EnvironmentProblem: nothing answers at the URI, or not an MLflow server, or the file cannot be written.
    """
    if store.database is not None:
        _check_database(store, store.database)
    elif store.uri.startswith(("http://", "https://")):
        _check_server(store)
    elif not re.match(r"[A-Za-z][\w+.-]*(://|$)", store.uri):
        raise EnvironmentProblem(f"{store.shown}: not a tracking URI, such as http://host:5000 or sqlite:///mlflow.db")


def _check_database(store: Store, path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=PROBE_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # asks for the right to write, and writes nothing
    except sqlite3.Error as error:
        raise EnvironmentProblem(f"{store.shown}: the tracking database cannot be written ({error})") from error


def _check_server(store: Store) -> None:
    import requests

    url = store.uri.rstrip("/") + "/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        answer = requests.get(url, timeout=PROBE_SECONDS)
        if answer.status_code in (401, 403):
            return  # it lives; whether the credentials in the environment are right, `check_access` tells
        known = answer.status_code == 200 and isinstance(answer.json(), dict)
    except requests.JSONDecodeError:
        known = False
    except requests.RequestException as error:
        cause = type(error).__name__
        raise EnvironmentProblem(f"{store.shown}: no tracking server answers there ({cause})") from error
    if not known:
        raise EnvironmentProblem(f"{store.shown}: what answers there is not an MLflow server")


def check_access(store: Store) -> None:
    """Find out, by asking through MLflow, that a store elsewhere refuses us.

    Raises:
        EnvironmentProblem: it does.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        open_client(store).search_experiments(max_results=1)
    except MlflowException as error:
        reason = _without_secrets(str(error).splitlines()[0])[:300]
        raise EnvironmentProblem(f"{store.shown}: cannot be used ({reason})") from error


def _without_secrets(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def connect(store: Store) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; the store and the experiment are made where missing.

    Raises:
        EnvironmentProblem: the experiment was deleted.
        MlflowException: the store does not answer.
    """
    client = open_client(store)
    found = client.get_experiment_by_name(store.experiment)
    if found is None:
        return client, str(client.create_experiment(store.experiment, artifact_location=store.artifacts))
    if found.lifecycle_stage != "active":
        raise EnvironmentProblem(
            f"{store.shown}: the experiment {store.experiment!r} was deleted; restore it, or set tracking.experiment"
        )
    return client, str(found.experiment_id)


def open_client(store: Store) -> MlflowClient:
    """A client that fails fast; a SQLite store's tables are made where missing."""
    import_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri if store.database else None)


def import_mlflow(module: str = "mlflow.store.tracking.sqlalchemy_store") -> None:
    """MLflow's slow import, its logs and its own packages' deprecations kept from the terminal.

    Args:
        module: which part, with everything that it needs; by default what a SQLite store would otherwise import later
            in the writer's thread.
    """
    for name, value in _PROMPT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module(module)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
