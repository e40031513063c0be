"""Starting, reaching and ending clusters that `ray up` launches. Nothing of theirs is reached but through ssh."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING

import requests

from bnnsearch.cluster.secrecy import make_token, redacted
from bnnsearch.errors import EnvironmentProblem

if TYPE_CHECKING:
    from bnnsearch.cluster.launcher import LauncherFile

DASHBOARD_PORT = 8265
TUNNEL_SECONDS = 60.0


def launch(cluster: LauncherFile, log: Path) -> None:
    """Start the cluster, or bring it up to date where it stands; trials that run there go on.

    Raises:
        EnvironmentProblem: it does not start; what Ray said is in `log`.
    """
    make_token()
    _ray(["up", "--yes", "--no-restart", "--no-config-cache", str(cluster.path)], log)


def take_down(cluster: LauncherFile, log: Path) -> None:
    """End all nodes of the cluster.

    Raises:
        EnvironmentProblem: Ray could not, so that nodes may still run.
    """
    _ray(["down", "--yes", str(cluster.path)], log)


def head_address(cluster: LauncherFile) -> str | None:
    """Address of the cluster's head; None where none runs."""
    done = subprocess.run(_command(["get-head-ip", str(cluster.path)]), capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    return lines[-1] if done.returncode == 0 and lines else None


@contextmanager
def tunnel(cluster: LauncherFile, log: Path) -> Iterator[str]:
    """Carry the head's Jobs API to a port of this machine, through ssh; yields its address here.

    Raises:
        EnvironmentProblem: the head is not reached.
    """
    port = _free_port()
    words = ["dashboard", "--port", str(port), "--remote-port", str(DASHBOARD_PORT), str(cluster.path)]
    with log.open("a") as output:
        ssh = subprocess.Popen(
            _command(words), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _await_port(port, ssh, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(ssh.pid, signal.SIGTERM)
        ssh.wait()


def _await_port(port: int, ssh: subprocess.Popen[bytes], log: Path) -> None:
    deadline, pause = time.monotonic() + TUNNEL_SECONDS, threading.Event()
    while time.monotonic() < deadline and ssh.poll() is None:
        try:
            with requests.Session() as direct:
                direct.trust_env = False  # no proxy knows this machine's tunnels
                direct.get(f"http://127.0.0.1:{port}/api/version", timeout=5)
            return
        except requests.RequestException:
            pause.wait(0.5)  # ssh says nothing when the port is open
    raise EnvironmentProblem(f"the head of the cluster is not reached through ssh; see {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "ray.scripts.scripts", *words]


def _ray(words: list[str], log: Path) -> None:
    done = subprocess.run(_command(words), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    output = redacted(done.stdout)
    with log.open("a", encoding="utf-8") as lines:
        lines.write(output)
    if done.returncode != 0:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
        raise EnvironmentProblem(f"`ray {words[0]}` failed: {last[:300]}; all it said is in {log}")
