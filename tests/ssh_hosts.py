"""Hosts that answer to ssh and are nothing but namespaces of this machine: own addresses, processes, /tmp and home.

What `ray up` does to a host, `ray stop` included, it then does to nobody else here. Needs root, sshd and unshare.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

BRIDGE, NETWORK = "bnnbridge", "10.77.3"
SHARED = Path("/mnt")
"""Where every host sees the one shared folder."""

INIT = f"""
set -e
ip link set lo up
mount --bind "$HOSTS" {SHARED}
mount -t tmpfs none /dev/shm
mount -t tmpfs none /var/tmp
mkdir /var/tmp/upper /var/tmp/work
mount -t overlay overlay -o lowerdir=/root,upperdir=/var/tmp/upper,workdir=/var/tmp/work /root
mount -t tmpfs none /opt
mkdir /opt/bnnsearch
mount --bind "$VENV" /opt/bnnsearch
mount -t tmpfs none /run
mkdir -p /root/.ssh /run/sshd
cp {SHARED}/key.pub /root/.ssh/authorized_keys
chmod 700 /root/.ssh
chmod 600 /root/.ssh/authorized_keys
rm -rf /root/.ray
mount -t tmpfs none /tmp
"""
SERVE = f"exec /usr/sbin/sshd -D -q -h {SHARED}/hostkey -o UsePAM=no -o PidFile=none -o StrictModes=no\n"
LAPTOP = f"cp {SHARED}/key /root/.ssh/id_ed25519\nchmod 600 /root/.ssh/id_ed25519\nexec sleep infinity\n"


def can_make_hosts() -> bool:
    """Whether this machine lets us make namespaces and has what hosts need."""
    tools = ("ip", "unshare", "nsenter", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in tools):
        return False
    probe = ["unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Hosts:
    """Hosts, and a laptop beside them from which they are reached.

    Attributes:
        addresses: of the hosts.
        shared: this machine's name of the folder that they all see as `/mnt`.
    """

    addresses: list[str]
    shared: Path
    laptop: int

    def on_laptop(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop."""
        inside = ["nsenter", "--target", str(self.laptop), "--mount", "--pid", "--net", "--wd=/root", "--", *command]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.run(
            inside, env={**clean, "HOME": "/root"}, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


@contextmanager
def ssh_hosts(count: int, folder: Path) -> Iterator[Hosts]:
    """`count` hosts and a laptop; they end with the context, and all that runs on them."""
    for key in ("key", "hostkey"):
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    with ExitStack() as undo:
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        undo.callback(_run, "ip", "link", "del", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for number in range(1, count + 1):
            undo.enter_context(_host(number, INIT + SERVE, folder))
        laptop = undo.enter_context(_host(count + 1, INIT + LAPTOP, folder))
        yield Hosts([f"{NETWORK}.{number}" for number in range(1, count + 1)], folder, laptop)


@contextmanager
def _host(number: int, script: str, folder: Path) -> Iterator[int]:
    """The first process of a new host."""
    name = f"bnnhost{number}"
    _run("ip", "netns", "add", name)
    _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "link", "set", name, "master", BRIDGE, "up")
    _run("ip", "netns", "exec", name, "ip", "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
    _run("ip", "netns", "exec", name, "ip", "link", "set", "eth0", "up")
    # It leads nowhere; Ray learns a host's address by asking which one a packet to the world would have.
    _run("ip", "netns", "exec", name, "ip", "route", "add", "default", "via", f"{NETWORK}.254", "dev", "eth0")
    inside = ["unshare", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script]
    environment = {**os.environ, "HOSTS": str(folder), "VENV": sys.prefix, "HOME": "/root"}
    process = subprocess.Popen(["ip", "netns", "exec", name, *inside], env=environment, stdin=subprocess.DEVNULL)
    try:
        yield _first_child(process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        _run("ip", "netns", "del", name)


def _first_child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.1)
    raise RuntimeError(f"the host did not start: its first process ended with {process.returncode}")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
