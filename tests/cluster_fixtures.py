"""A Ray cluster on this machine, one raylet per node, guarded by a token: what tests of clusters kill pieces of."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

SERVE = """
import json, sys
from ray._private import utils
from ray.cluster_utils import Cluster
nodes, temp = int(sys.argv[1]), sys.argv[2]
write = utils.write_ray_address  # as `ray start` does, below `temp`: a job then finds its own cluster, no neighbour's
utils.write_ray_address = lambda address: write(address, temp)
cluster = Cluster()
dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": 0}
agent = {"dashboard_agent_listen_port": 0}  # the usual port may be another Ray's on this machine
head = cluster.add_node(num_cpus=0, temp_dir=temp, **dashboard, **agent)
workers = [cluster.add_node(num_cpus=float(sys.argv[3]), **agent) for _ in range(nodes - 1)]
cluster.wait_for_nodes()
def pids(node):
    return [each.process.pid for kind in node.all_processes.values() for each in kind]
print(json.dumps({"jobs": "http://" + head.webui_url, "gcs": head.gcs_address,
                  "nodes": [pids(node) for node in [head, *workers]]}), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster.

    Attributes:
        jobs: address of its Jobs API.
        gcs: address of Ray itself.
        nodes: process ids of each node's services, the head first.
    """

    jobs: str
    gcs: str
    nodes: list[list[int]]

    def kill(self, node: int) -> None:
        """End a node as a power cut would; one that is dead already stays so."""
        for pid in self.nodes[node]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def address_file(self, folder: Path, *, storage: Path, **more: object) -> Path:
        path = folder / "cluster-address.yaml"
        settings = {"address": self.jobs, "storage": str(storage), "python": sys.executable, **more}
        path.write_text(yaml.safe_dump(settings))
        return path


def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return path


@contextmanager
def local_cluster(*, nodes: int = 3, cpus: float = 1, token: Path | None = None) -> Iterator[LocalCluster]:
    """A head without slots and `nodes - 1` workers; without a token, one that lets everybody in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    guard = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)} if token else {"RAY_AUTH_MODE": "disabled"}
    # A short path: the names of sockets below it are at most 107 bytes long.
    with (
        tempfile.TemporaryDirectory(prefix="bnn", dir="/tmp", ignore_cleanup_errors=True) as temp,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, str(nodes), temp, str(cpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**environment, **guard, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "OMP_NUM_THREADS": "1",
                 "RAY_worker_niceness": "0"},
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        ready = next(line for line in process.stdout if line.startswith("{"))
        cluster = LocalCluster(**json.loads(ready))
        try:
            yield cluster
        finally:
            process.kill()
            for node in reversed(range(nodes)):
                cluster.kill(node)


SPACE = """
version: 1
name: on_a_cluster
seed: 5
objectives:
  - {metric: val_acc, mode: max}
  - {metric: memory_bytes, mode: min}
sampler: {name: random}
budget: {trials: 8}
resources: {per_trial: {cpu: 1}}
retries: 3
checkpoint: {interval: 0}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: {type: choice, values: [[16], [32], [64], [32, 32]]}}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}}
  plan: {epochs: 100}
"""
"""Real training; what is suggested depends on the seed and a trial's number alone, in whatever order they end."""
