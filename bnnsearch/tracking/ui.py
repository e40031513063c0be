"""`bnnsearch ui`: MLflow's own UI on the store that holds a study, safe by default.

It listens on the loopback address. Any other address needs MLflow's basic authentication and a list of the host names
it answers to, for MLflow has no accounts by default and whoever reaches it may delete every run.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.error import URLError

import click

from bnnsearch.errors import EnvironmentProblem, printable
from bnnsearch.tracking import guard
from bnnsearch.tracking.preset import share_view
from bnnsearch.tracking.store import Store, check_store, open_client

START_SECONDS = 120.0
_DATABASES = ("sqlite:", "postgresql", "mysql", "mssql")

ALLOWED_HOSTS, PASSWORD = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_AUTH_ADMIN_PASSWORD"


def _say(line: str) -> None:
    click.echo(printable(line))


def serve(
    store: Store,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    view: Mapping[str, Any] | None = None,
    announce: Callable[[str], None] = _say,
) -> None:
    """Serve the UI until it is stopped, having announced the link to the study's runs.

    Where the store is a server already, only the link is announced.

    Args:
        store: what is served, and the experiment that the link leads to.
        host: address to listen on; any but a loopback address needs MLFLOW_AUTH_ADMIN_PASSWORD and
            MLFLOW_SERVER_ALLOWED_HOSTS in the environment.
        port: port to listen on.
        view: what the link shows, as `view_of` says it; the experiment as MLflow shows it where there is none.
        announce: told each line for the user.

    Raises:
        EnvironmentProblem: the store or the port cannot be used, or listening there would be unsafe.
    """
    if store.uri.startswith(("http://", "https://")):
        check_store(store)
        announce(f"the runs are on a server already: {_link(store.shown, store, view)}")
        return
    if not store.uri.startswith(_DATABASES):
        raise EnvironmentProblem(f"{store.shown}: is no database that MLflow can serve; open the UI that belongs to it")
    command, environment = _command(store, host, port), _environment(store, host)
    if store.database is not None and not store.database.exists():
        raise EnvironmentProblem(f"{store.shown}: there is no tracking store yet; a search makes it")
    check_store(store)
    _check_port(host, port)
    link = _link(f"http://{_in_url(host)}:{port}", store, view)
    with _terminated_as_interrupted(), TemporaryFile("w+") as log:
        server = subprocess.Popen(  # the guard ends it should this process be killed
            [sys.executable, "-m", guard.__name__, *command],
            env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            _await_health(server, f"http://{_in_url(host)}:{port}/health", log)
            announce(f"MLflow shows the trials at {link}")
            announce("Ctrl-C stops it")
            server.wait()
        except KeyboardInterrupt:
            announce("stopped")
        finally:
            server.communicate()  # closes its input, which ends it


def _link(base: str, store: Store, view: Mapping[str, Any] | None) -> str:
    """The page that shows the trial table; without `workflowType` MLflow opens in its mode for language models."""
    client = open_client(store)
    found = client.get_experiment_by_name(store.experiment)
    if found is None:
        raise EnvironmentProblem(f"{store.shown}: holds no experiment {store.experiment!r} yet; a search makes it")
    page = f"{base.rstrip('/')}/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning"
    return page if view is None else f"{page}&{share_view(client, str(found.experiment_id), view)}"


def _command(store: Store, host: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    if store.artifacts is not None:
        command += ["--artifacts-destination", store.artifacts]
    return command if _is_loopback(host) else [*command, "--app-name", "basic-auth"]


def _environment(store: Store, host: str) -> dict[str, str]:
    """The server's environment; the store is named in it, for others can read a command line.

    Raises:
        EnvironmentProblem: `host` is open to others and what makes that safe is missing.
    """
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if _is_loopback(host):
        return environment
    missing = [name for name in (PASSWORD, ALLOWED_HOSTS) if not os.environ.get(name)]
    if missing:
        raise EnvironmentProblem(
            f"--host {host} opens MLflow to others, so it needs an administrator's password and the host names it "
            f"answers to: set {' and '.join(missing)}, or keep to 127.0.0.1 and tunnel with ssh"
        )
    if find_spec("flask_wtf") is None:
        raise EnvironmentProblem(f"--host {host} needs MLflow's authentication: install 'mlflow[auth]'")
    environment.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex(32))
    return environment


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_url(host: str) -> str:
    """`host` as it stands in a link; a wildcard address is reached through the loopback one."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _check_port(host: str, port: int) -> None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # names of hosts have rules of their own
        reason = getattr(error, "strerror", None) or error
        raise EnvironmentProblem(f"cannot listen on {host}:{port} ({reason}); choose another with --port") from error


def _await_health(server: subprocess.Popen[bytes], url: str, log: IO[str]) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine's servers
    for _ in range(int(START_SECONDS / 0.2)):
        try:
            with direct.open(url, timeout=1):
                return
        except (URLError, OSError):
            pass
        try:
            server.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    log.seek(0)
    last = next((line.strip() for line in reversed(log.readlines()) if line.strip()), "it said nothing")
    raise EnvironmentProblem(f"MLflow's server did not start: {last}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP do as Ctrl-C. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
