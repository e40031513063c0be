"""What searches need of a machine: looked at one by one, with what to do where it is missing."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bnnsearch import __version__, native
from bnnsearch.config.trial import trial_of
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.space import load_space
from bnnsearch.tracking.store import check_store, store_of

PACKAGES = ("torch", "ray", "optuna", "mlflow", "deap")
ROOM = 1e9
"""Bytes that a search and its Ray want free on a disk."""

SHARED_ROOM = 512e6
"""Bytes of shared memory that Ray's object store wants twice over; with less it lies on the disk, and is slower."""

FILES = 1024
UI_PORT = 5000


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at.

    Attributes:
        name: of it.
        found: in words.
        ok: whether a search can do with it; None where it only would be slower, or lacks something.
        advice: what to do; empty where there is nothing to be done.
    """

    name: str
    found: str
    ok: bool | None = True
    advice: str = ""


def examine(space: Path | None, runs: Path, *, ray: bool) -> Iterator[Finding]:
    """Look at everything.

    Args:
        space: a space file whose data and store are looked at too.
        runs: where studies lie.
        ray: whether to start a Ray.
    """
    yield _versions()
    yield _native()
    yield _compiler()
    yield _processors()
    yield _gpu()
    yield _shared_memory()
    yield _disk("disk", _existing(runs), "studies")
    yield _disk("temporary", Path(tempfile.gettempdir()), "Ray's sockets and logs; TMPDIR names another place")
    yield _open_files()
    yield _port()
    if ray:
        yield _ray()
    if space is not None:
        yield from _space(space)


def _versions() -> Finding:
    lacking, found = [], [f"bnnsearch {__version__}", f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            lacking.append(name)
    advice = f"{', '.join(lacking)}: not installed; install bnnsearch anew, with what it depends on" if lacking else ""
    return Finding("versions", ", ".join(found), not lacking, advice)


def _native() -> Finding:
    try:
        chosen = native.chosen()
    except EnvironmentProblem as problem:
        return Finding("bit kernels", str(problem), False, "install a wheel for this platform, or build with CC=gcc")
    return Finding("bit kernels", f"{chosen}, of {', '.join(native.variants())}")


def _compiler() -> Finding:
    found = os.environ.get("CC") or next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        return Finding(
            "compiler", "none", None, "only a build from source, and plan.compile, want one: apt install gcc"
        )
    return Finding("compiler", found)


def _processors() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load = os.getloadavg()[0]
    busy = load > 2 * cores
    advice = "other work slows trials down, and the latencies that they measure" if busy else ""
    return Finding("processors", f"{cores} to be used, load {load:.1f}", None if busy else True, advice)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
        return Finding("GPU", f"{', '.join(names)}; torch for CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", "none: trials train on processors")
    built = torch.version.cuda
    why = f"its driver is too old for CUDA {built}" if built else "torch was installed without CUDA"
    return Finding(
        "GPU", "there is one, which torch cannot use", None, f"{why}; see pytorch.org for the version that fits"
    )


def _shared_memory() -> Finding:
    place = Path("/dev/shm")
    if not place.is_dir():
        return Finding("shared memory", "no /dev/shm", None, "Ray's objects lie on the disk")
    free = shutil.disk_usage(place).free
    enough = free > SHARED_ROOM
    advice = "" if enough else "Ray's objects lie on the disk; in a container, --shm-size=1g"
    return Finding("shared memory", f"{free / 1e6:.0f} MB free", True if enough else None, advice)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _disk(name: str, place: Path, what: str) -> Finding:
    free = shutil.disk_usage(place).free
    found = f"{place}: {free / 1e9:.1f} GB free"
    if not os.access(place, os.W_OK):
        return Finding(name, f"{place}: cannot be written", False, f"it is for {what}")
    return Finding(name, found, free > ROOM, "" if free > ROOM else f"make room: it is for {what}")


def _open_files() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = limit in (resource.RLIM_INFINITY,) or limit >= FILES
    shown = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit}"
    return Finding(
        "open files", shown, True if enough else None, "" if enough else f"Ray wants {FILES}: ulimit -n {FILES}"
    )


def _port() -> Finding:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", UI_PORT))
        except OSError:
            return Finding("port", f"{UI_PORT} is taken", None, f"`bnnsearch ui --port {UI_PORT + 1}`")
    return Finding("port", f"{UI_PORT} is free for `bnnsearch ui`")


def _ray() -> Finding:
    from bnnsearch.study.own_ray import own_ray

    said: list[str] = []
    began = time.monotonic()
    try:
        with own_ray(1, said.append):
            took = time.monotonic() - began
    except EnvironmentProblem as problem:
        return Finding("Ray", str(problem), False, "`--executor local` searches without it")
    return Finding("Ray", "; ".join([f"starts in {took:.0f} s", *said]))


def _space(path: Path) -> Iterator[Finding]:
    from bnnsearch.trial import check_trial

    looked: list[tuple[str, Callable[[], object]]] = []
    try:
        space = load_space(path, begins=True)
    except InputError as error:
        yield Finding("space", str(error), False, "mend it; `bnnsearch validate` says the same")
        return
    store = store_of(space.study)
    looked = [("data", lambda: check_trial(trial_of(space.trial.defaults()))), ("MLflow", lambda: check_store(store))]
    for name, look in looked:
        try:
            look()
            yield Finding(name, store.shown if name == "MLflow" else f"that of {path} can be read")
        except (InputError, EnvironmentProblem) as problem:
            yield Finding(name, str(problem), False, f"as it says; --set, or an edit of {path}, names another place")
