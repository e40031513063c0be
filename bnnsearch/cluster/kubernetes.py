"""Searches as KubeRay RayJobs, through `kubectl` and the access that it has."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bnnsearch.cluster.backend import Backend, JobState, Order
from bnnsearch.cluster.kinds import ClusterFile
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.invocation import command
from bnnsearch.study.object_store import below

NAME, STUDY = "BNNSEARCH-NAME", "BNNSEARCH-STUDY"
READY_SECONDS = "900s"
"""How long to wait for the pods: a node with a GPU may have to be started first."""

_ENDED = {"Complete", "Failed", "Suspended", "ValidationFailed"}


@dataclass(frozen=True, slots=True)
class RayJobFile(ClusterFile):
    """A KubeRay manifest: a cluster and the search on it, by one operator."""

    text: str
    storage: str

    def describe(self, study: StudyConfig) -> list[str]:  # noqa: ARG002
        return ["a RayJob by kubectl: its cluster comes with the search and goes with it"]

    def place(self, study: StudyConfig, folder: StudyFolder) -> str:
        return below(self.storage, study.name, folder.search_id)

    @contextmanager
    def reached(self, folder: StudyFolder, *, start: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        yield KubernetesJobs(self.text)

    def end(self, log: Path) -> str:  # noqa: ARG002
        return f"the cluster goes with its search: `{command('stop')}` ends both"


class KubernetesJobs:
    """A `Backend` over `kubectl`.

    Args:
        manifest: text of the RayJob, with `BNNSEARCH-NAME` and `BNNSEARCH-STUDY` where ours go.
    """

    def __init__(self, manifest: str) -> None:
        self._manifest = manifest

    def submit(self, order: Order) -> str:
        name = f"bnnsearch-{uuid.uuid4().hex[:12]}"
        _kubectl("apply", "--filename=-", given=json.dumps(space_map(name, order)))
        _kubectl("apply", "--filename=-", given=rendered(self._manifest, name, order))
        return name

    def state(self, job: str) -> JobState:
        found = _kubectl("get", "rayjob", job, "--output=json", "--ignore-not-found")
        if not found.strip():
            return JobState.GONE
        status = json.loads(found).get("status", {}).get("jobDeploymentStatus", "")
        if status in _ENDED:
            return JobState.ENDED
        return JobState.RUNNING if status == "Running" else JobState.QUEUED

    def output(self, job: str) -> list[str]:
        return _kubectl("logs", f"job/{job}").splitlines()

    def follow(self, job: str, hear: Callable[[str], None]) -> None:
        command = ["kubectl", "logs", "--follow", f"--pod-running-timeout={READY_SECONDS}", f"job/{job}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as logs:
            assert logs.stdout is not None
            for line in logs.stdout:
                hear(line.rstrip("\n"))

    def stop(self, job: str) -> None:
        _kubectl("patch", "rayjob", job, "--type=merge", '--patch={"spec": {"suspend": true}}')

    def why_ended(self, job: str) -> str:
        found = _kubectl("get", "rayjob", job, "--output=json", "--ignore-not-found")
        status = json.loads(found).get("status", {}) if found.strip() else {}
        return str(status.get("message") or status.get("jobDeploymentStatus") or f"RayJob {job} is gone")


def rendered(manifest: str, name: str, order: Order) -> str:
    """The manifest with our names in it."""
    study = shlex.join([order.study, *order.options])
    if re.search(r"[\n:#{}]", study):
        raise EnvironmentProblem(f"{study!r} does not fit into a manifest")
    return manifest.replace(NAME, name).replace(STUDY, study)


def space_map(name: str, order: Order) -> dict[str, object]:
    """The config map that carries the space to the head, and the files that it uses; packages are the image's."""
    files = {guest.entry: guest.files[guest.entry] for guest in order.guests if guest.is_file}
    told = {"data": {"space.yaml": order.space}} | ({"binaryData": _base64(files)} if files else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **told}


def _base64(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: b64encode(content).decode() for name, content in files.items()}


def _kubectl(*words: str, given: str = "") -> str:
    try:
        done = subprocess.run(["kubectl", *words], input=given, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EnvironmentProblem("kubectl is not there; it must be, with access to the cluster's namespace") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
        raise EnvironmentProblem(f"kubectl {words[0]} failed: {last[:300]}")
    return done.stdout
