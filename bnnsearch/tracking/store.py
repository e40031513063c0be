"""Where MLflow records: the embedded SQLite store, a server, or whatever else a tracking URI names.

The URI is `tracking.uri` of the space, else MLFLOW_TRACKING_URI, else `sqlite:///mlflow.db` in the working directory.
Credentials come from the environment and are MLflow's own business. A `sqlite:///` URI is read as SQLAlchemy reads it:
`%XX` is decoded, `?name=value` at its end are options; but as it is written where only that names a folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote

from bnnsearch.config.study import StudyConfig, TrackingConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import check_replaceable
from bnnsearch.imports import importing
from bnnsearch.tracking.database import SUFFIXES, database_uri, is_damaged, make_ready

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
PROBE_SECONDS = 5.0
"""How long a probe of a store takes at most, however slowly it answers."""

READ_SECONDS = 2.0
"""How long a probe waits for a server to connect, and for the next byte."""

ACCESS_SECONDS = 15.0
"""How long MLflow's own first call takes at most; it tries twice."""

_LARGEST_ANSWER = 2**20
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?!:memory:)(?P<path>.+?)(?P<options>\?\w+=[^/?]*)?", re.DOTALL)
Answer = TypeVar("Answer")

_QUIET = {"mlflow": logging.WARNING, "alembic": logging.WARNING, "mlflow.utils.environment": logging.ERROR}
_PROMPT = {
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we retry ourselves, off the training path
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(frozen=True, slots=True)
class Store:
    """A tracking store and the experiment in it.

    Attributes:
        uri: as MLflow takes it; a SQLite file's path is absolute and escaped.
        experiment: name of the experiment.
    """

    uri: str
    experiment: str

    @property
    def shown(self) -> str:
        """The URI as a person writes it, without what may be a secret."""
        return f"sqlite:///{self.database}" if self.database is not None else without_secrets(self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file, where the store is one."""
        found = _SQLITE.fullmatch(self.uri)
        return Path(unquote(found["path"])) if found else None

    @property
    def artifacts(self) -> str | None:
        """Where a SQLite store keeps files: beside it. None leaves it to the server."""
        return None if self.database is None else (self.database.parent / ARTIFACTS).as_uri()


def store_of(study: StudyConfig) -> Store:
    """The store that a study begins in."""
    return named_store(study.tracking, study.name)


def named_store(tracking: TrackingConfig, experiment: str) -> Store:
    """The store of these settings; they may name another experiment."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"
    return Store(_absolute(uri), tracking.experiment or experiment)


def _absolute(uri: str) -> str:
    found = _SQLITE.fullmatch(uri)
    if found is None:
        return uri
    written, path = Path(found["path"]), Path(unquote(found["path"]))
    if written.parent.exists() and not path.parent.exists():
        path = written
    return database_uri(path.absolute()) + (found["options"] or "")


def check_store(store: Store) -> None:
    """Find out within five seconds, without MLflow's own slow import, that the store cannot be used.

    Raises:
        EnvironmentProblem: nothing answers at the URI, or not an MLflow server, or the file cannot be written.
    """
    if store.database is not None:
        _check_database(store, store.database)
    elif store.uri.startswith("sqlite"):
        raise EnvironmentProblem(f"{store.shown}: what is recorded in memory would be lost; write sqlite:///mlflow.db")
    elif store.uri.startswith(("http://", "https://")):
        _check_server(store)
    elif not re.match(r"[A-Za-z][\w+.-]*(://|$)", store.uri):
        raise EnvironmentProblem(f"{store.shown}: not a tracking URI, such as http://host:5000 or sqlite:///mlflow.db")


def _check_database(store: Store, path: Path) -> None:
    try:
        check_replaceable(path)  # a device would be one, for the whole machine
    except OSError as error:
        raise EnvironmentProblem(f"{store.shown}: cannot be used: {error.strerror}") from error
    try:
        with closing(sqlite3.connect(path, timeout=READ_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # asks for the right to write, and writes nothing
    except sqlite3.Error as error:
        if is_damaged(error) and path.suffix in SUFFIXES:
            return  # `make_ready` mends it
        raise EnvironmentProblem(f"{store.shown}: the tracking database cannot be written ({error})") from error


def _check_server(store: Store) -> None:
    url = store.uri.rstrip("/") + "/api/2.0/mlflow/experiments/search?max_results=1"
    status, answer = _within(PROBE_SECONDS, store, lambda: _asked(store, url))
    if status in (401, 403):
        return  # it lives; whether the credentials in the environment are right, `check_access` tells
    known = None
    if status == 200:
        with suppress(ValueError):
            known = json.loads(answer)
    if not isinstance(known, dict):
        raise EnvironmentProblem(f"{store.shown}: what answers there is not an MLflow server")


def _asked(store: Store, url: str) -> tuple[int, bytes]:
    import requests
    from urllib3.exceptions import HTTPError

    try:
        with requests.get(url, timeout=READ_SECONDS, stream=True) as answer:
            return answer.status_code, answer.raw.read(_LARGEST_ANSWER, decode_content=True)
    except (requests.RequestException, HTTPError, OSError) as error:
        cause = type(error).__name__
        raise EnvironmentProblem(f"{store.shown}: no tracking server answers there ({cause})") from error


def _within(seconds: float, store: Store, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises, waited for so long: a server that sends a byte now and then meets no time limit."""
    answers: list[Answer] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as error:
            errors.append(error)

    thread = Thread(target=work, name="store-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise EnvironmentProblem(f"{store.shown}: no tracking server answers there within {seconds:g} seconds")
    return answers[0]


def check_access(store: Store) -> None:
    """Find out, by asking through MLflow, that a store elsewhere refuses us.

    Raises:
        EnvironmentProblem: it does.
    """
    import_mlflow()
    try:
        _within(ACCESS_SECONDS, store, lambda: open_client(store).search_experiments(max_results=1))
    except EnvironmentProblem:
        raise
    except Exception as error:  # of MLflow, of a database, or of a driver for it that is not installed
        reason = without_secrets((str(error) or type(error).__name__).splitlines()[0])[:300]
        raise EnvironmentProblem(f"{store.shown}: cannot be used ({reason})") from error


def without_secrets(text: str) -> str:
    """`text` without the user and password of a URI in it."""
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def connect(store: Store) -> tuple[MlflowClient, str]:
    """A client and the experiment's id; the store and the experiment are made where missing.

    Raises:
        EnvironmentProblem: the experiment was deleted.
        MlflowException: the store does not answer.
    """
    client = open_client(store)
    found = client.get_experiment_by_name(store.experiment) or _made(client, store)
    if found.lifecycle_stage != "active":
        raise EnvironmentProblem(
            f"{store.shown}: the experiment {store.experiment!r} was deleted; restore it, or set tracking.experiment"
        )
    return client, str(found.experiment_id)


def _made(client: MlflowClient, store: Store) -> Experiment:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment(client.create_experiment(store.experiment, artifact_location=store.artifacts))
    except MlflowException:
        found = client.get_experiment_by_name(store.experiment)  # another search made it just now
        if found is None:
            raise
        return found


def open_client(store: Store) -> MlflowClient:
    """A client that fails fast; a SQLite store's tables are made where missing.

    Raises:
        EnvironmentProblem: the store's file cannot be used.
    """
    import_mlflow()
    from mlflow import MlflowClient

    mend_store(store)
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri if store.database else None)


def mend_store(store: Store) -> str | None:
    """Make a SQLite store whole; what was wrong with it and what was done, in one line, where it was broken.

    Raises:
        EnvironmentProblem: the store's file cannot be used.
    """
    if store.database is None:
        return None
    import_mlflow()
    return make_ready(store.database)


def import_mlflow(module: str = "mlflow.store.tracking.sqlalchemy_store") -> None:
    """MLflow's slow import, its logs and its own packages' deprecations kept from the terminal.

    Args:
        module: which part, with everything that it needs; by default what a SQLite store would otherwise import later
            in the writer's thread.
    """
    for name, value in _PROMPT.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings(), importing():
        warnings.simplefilter("ignore")
        import_module(module)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
