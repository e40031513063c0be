"""A Ray of our own on this machine: nobody else's to enter or to read, patient while it starts, watched while it runs.

What keeps it private:

- All it writes lies below a folder of mode 0700, removed at the end.
- Every process listens on the loopback address only. Ray turns a loopback address it is given into one that other
  machines reach, unless it takes the machine for one that forms no clusters; so it is told that.
- Every connection shows a token made for this one session, in a file of mode 0600 that is there before Ray is.
- What a search does not need does not run: dashboard, autoscaler, log monitor, metrics.
"""

from __future__ import annotations

import inspect
import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import ray
from ray._private import node as node_module
from ray._private import ray_constants, services
from ray._private.node import Node
from ray._raylet import (  # type: ignore[attr-defined]
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    RUNTIME_ENV_AGENT_PORT_NAME,
    AuthenticationTokenLoader,
    Config,
    persist_port,
)

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.study.private_folder import private_folder, remove

logger = logging.getLogger(__name__)

Say = Callable[[str], None]
GiveUp = Callable[[str], None]
"""Told in one line why."""

START_SECONDS = 300
"""How long Ray may take to start; on a machine under load it was seen to take 90."""

SLOW_SECONDS = 20.0
"""After so long the user is told that Ray is still starting."""

WATCH_SECONDS, GRACE_SECONDS, KILL_SECONDS = 0.5, 8.0, 5.0
"""Between two looks at Ray's processes; from its death to the end of whoever it still holds; and for what is left of it
to end, where it takes so long. Together, how long a dead Ray may hold anyone: less than 15 s."""

VITAL = ("gcs_server", "raylet")
"""Ray's processes without which it cannot go on."""

RAY_FOLDER = "r"
"""Ray opens the folder it is given to everybody; so it is one below ours."""

_OBJECT_STORE = 256 * 2**20  # bytes: a search passes only settings and reports through it
_ROOM = 512 * 2**20
_FILES = 1024

_TOKEN, _TOKEN_PLACE = "token", "RAY_AUTH_TOKEN_PATH"
_ENVIRONMENT = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None}
_CONFIG = {
    "agent_register_timeout_ms": START_SECONDS * 1000,
    "worker_register_timeout_seconds": START_SECONDS,
    "enable_metrics_collection": False,
    "worker_niceness": 0,  # not 15, with which trials stand still beside whatever else runs on this machine
}
_wait_for_port: Any = node_module.wait_for_persisted_port  # type: ignore[attr-defined]
_start_raylet = services.start_raylet
_NOT_NEEDED = ("start_monitor", "start_log_monitor", "start_api_server")
"""Methods of Ray's node that start what a search does not need, and of which some answer whoever asks."""

_NO_SERVICE = -1  # a port, as Ray's agents write it

WAY_OUT = "`--executor local` searches without Ray"


@contextmanager
def own_ray(num_cpus: int | None, say: Say, give_up: GiveUp | None = None) -> Iterator[Watch]:
    """Start a Ray, connect to it, and end it on leaving.

    Args:
        num_cpus: cores it may use; None is all.
        say: told what the user has to know while Ray starts.
        give_up: called from another thread where Ray has died and holds the caller: ends the process.

    Raises:
        EnvironmentProblem: it does not start, the second time neither.
    """
    with ExitStack() as watches, ExitStack() as session:
        try:
            folder = _start(session, num_cpus, say)
        except _StartError as first:
            logger.warning("Ray did not start: %s", first)
            say(f"Ray did not start ({first}); trying once more")
            try:
                folder = _start(session, num_cpus, say)
            except _StartError as second:
                raise EnvironmentProblem(f"Ray does not start: {second}{_limits()}; {WAY_OUT}") from second

        def leave(problem: str) -> None:
            _kill(folder)
            remove(folder)
            (give_up or logger.error)(problem)

        watch = watches.enter_context(Watch(leave))
        try:
            yield watch
        finally:
            watch.dismiss()


class _StartError(Exception):
    """One attempt failed; the message is one line."""


def _start(session: ExitStack, num_cpus: int | None, say: Say) -> Path:
    with ExitStack() as attempt:
        folder = attempt.enter_context(private_folder())
        attempt.enter_context(_guarded(folder))
        attempt.enter_context(quiet_ray())
        attempt.callback(_end, folder)
        slow = threading.Timer(
            SLOW_SECONDS, say, [f"Ray takes long to start on this machine; waiting up to {START_SECONDS // 60} minutes"]
        )
        slow.daemon = True
        slow.start()
        try:
            with _loopback(), _patient(), _hangup_held():
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    object_store_memory=_OBJECT_STORE,
                    _plasma_directory=_plasma_folder(folder),
                    _temp_dir=str(folder / RAY_FOLDER),
                    _system_config=dict(_CONFIG),
                )
            keep_sigterm()
        except Exception as error:  # Ray raises whatever it meets, also bare `Exception`
            text = str(error).strip().splitlines() or [type(error).__name__]
            raise _StartError(text[0][:300]) from error
        finally:
            slow.cancel()
        session.push(attempt.pop_all())
    return folder


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    """A token for this session, which Ray and its processes find through the environment."""
    token = folder / _TOKEN
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secrets.token_hex(32))
    with environment({**_ENVIRONMENT, _TOKEN_PLACE: str(token)}):
        _read_anew()
        yield
    _read_anew()


def _read_anew() -> None:
    """Have this process's Ray read the environment again; it does so once, when it is imported."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables, or unset those of None, until leaving."""
    before = {name: os.environ.get(name) for name in values}
    _set_environment(values)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Leave the signals to the study, and what Ray prints past its loggers to the log."""
    with (
        patch.object(ray._private.utils, "set_sigterm_handler", lambda _: None),
        patch.object(ray._private.worker, "print_to_stdstream", _log),
    ):
        yield


def keep_sigterm() -> None:
    """Take SIGTERM back from Ray once it has started.

    It puts a handler of its own in front of ours, which prints addresses and aborts the process three seconds after the
    signal, however far the search has come with ending in good order.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _log(data: Mapping[str, Any], **_: Any) -> None:
    for line in data["lines"]:
        logger.warning("%s: %s", data.get("pid"), line)


@contextmanager
def _loopback() -> Iterator[None]:
    """Ray's own switch for machines that form no clusters: their node's address is the loopback one."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False))
        for name in _NOT_NEEDED:
            patches.enter_context(patch.object(Node, name, lambda *_, **__: None))
        yield


@contextmanager
def _patient() -> Iterator[None]:
    """Ray gives its GCS and its node 30 s to appear, and the node dies if its agents take 15 s.

    Here all may take what a slow machine needs, unless one dies.
    """
    deadline = time.monotonic() + START_SECONDS
    older = {child.pid for child in psutil.Process().children()}

    def until_answered(ask: Callable[..., Any], **short: int) -> Callable[..., Any]:
        def wait(*arguments: Any, **settings: Any) -> Any:
            while True:
                try:
                    return ask(*arguments, **{**settings, **short})
                except RuntimeError:
                    if time.monotonic() > deadline:
                        raise
                _check_alive(older)
                time.sleep(0.1)

        return wait

    with (
        patch.object(node_module, "wait_for_persisted_port", until_answered(_wait_for_port, timeout_ms=1000)),
        patch.object(services, "get_node", until_answered(services.get_node)),
        patch.object(services, "start_raylet", _raylet_that_waits_for_no_agent),
    ):
        yield


def _raylet_that_waits_for_no_agent(*arguments: Any, **settings: Any) -> Any:
    """Start a raylet whose agents' ports stand already where it looks for them.

    It connects to the agent for runtime environments with patience; the other agent serves nothing here.
    """
    told = inspect.signature(_start_raylet).bind(*arguments, **settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = told.arguments["runtime_env_agent_port"] = free.getsockname()[1]
    node = told.arguments["session_dir"], told.arguments["node_id"]
    persist_port(*node, RUNTIME_ENV_AGENT_PORT_NAME, port)
    for name in (METRICS_AGENT_PORT_NAME, METRICS_EXPORT_PORT_NAME, DASHBOARD_AGENT_LISTEN_PORT_NAME):
        persist_port(*node, name, _NO_SERVICE)
    return _start_raylet(*told.args, **told.kwargs)


def _check_alive(older: Collection[int]) -> None:
    """Raise if one of Ray's processes has died as it started; `older` are those that another attempt left."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if child.pid not in older and child.name() in VITAL and child.status() == psutil.STATUS_ZOMBIE:
                raise _StartError(f"its {child.name()} died as it started")


@contextmanager
def _hangup_held() -> Iterator[None]:
    """Ray's processes inherit that SIGHUP is blocked: a closed terminal is told to the driver, which ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _plasma_folder(folder: Path) -> str | None:
    """Where the object store lies: in /dev/shm by default, in our folder where that is missing or too small."""
    with suppress(OSError):
        if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 * _OBJECT_STORE:
            return None
    return str(folder)


def _end(folder: Path) -> None:
    """Disconnect and end every process of this Ray; where it did not start whole, Ray itself knows none of them."""
    ray.shutdown()
    _kill(folder)


def _kill(folder: Path) -> None:
    """End what belongs to the folder, be it our child or not: an agent whose raylet has died is nobody's, and one that
    only starts would make the folder anew, for all to read.
    """
    left = [process for process in psutil.process_iter() if _belongs(process, folder)]
    for process in left:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    psutil.wait_procs(left, timeout=KILL_SECONDS)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    """Whether it is one of this Ray's: it names the folder and has its token from us; who reads logs has not."""
    with suppress(psutil.Error):
        named = any(str(folder) in word for word in process.cmdline())
        return named and process.environ().get(_TOKEN_PLACE) == str(folder / _TOKEN)
    return False


def _limits() -> str:
    """What of this machine's limits may be why, as the end of a sentence."""
    found = []
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < _FILES:
        found.append(f"the limit on open files is {files} (ulimit -n), below {_FILES}")
    with suppress(EnvironmentProblem, OSError), private_folder() as folder:
        if (free := shutil.disk_usage(folder).free) < _ROOM:
            found.append(f"{folder.parent} has {free // 2**20} MiB left")
    return "".join(f"; {each}" for each in found)


class Watch(AbstractContextManager["Watch"]):
    """Notices when a process dies without which Ray cannot go on.

    Ray itself tries for a minute to reach what has died, deaf to everything, and then ends the driver with a message of
    its own. So whoever holds the driver meanwhile is given a few seconds to hear of it by `check`, and is then left.
    """

    def __init__(self, give_up: GiveUp) -> None:
        node: Any = ray._private.worker._global_node
        self._vital = {name: each.process for name in VITAL for each in node.all_processes.get(name, [])}
        self._give_up = give_up
        self._noticed = threading.Event()
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def dismiss(self) -> None:
        """What dies from now on is ended by us, unless something has died before."""
        if not self._noticed.is_set():
            self._over.set()

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def check(self) -> None:
        """Say so if one has died.

        Raises:
            EnvironmentProblem: one has.
        """
        if (problem := self._problem()) is not None:
            raise EnvironmentProblem(problem)

    def _problem(self) -> str | None:
        for name, process in self._vital.items():
            if (code := process.poll()) is not None:
                self._noticed.set()
                return f"Ray has died: its {name} ended with {_ending(code)}"
        return None

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            if (problem := self._problem()) is not None:
                if not self._over.wait(GRACE_SECONDS):
                    self._give_up(problem)
                return


def _ending(code: int) -> str:
    return f"code {code}" if code >= 0 else signal.Signals(-code).name
