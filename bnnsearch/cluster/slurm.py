"""Searches as Slurm jobs, submitted from a machine that shares the study's folder with the nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bnnsearch.cluster.backend import Backend, JobState, Order
from bnnsearch.cluster.kinds import ClusterFile
from bnnsearch.config.guests import write_files
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.invocation import command

POLL_SECONDS = 2.0
_QUEUED = {"PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED"}
_RUNNING = {"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"}


@dataclass(frozen=True, slots=True)
class SlurmFile(ClusterFile):
    """A script for `sbatch`."""

    def describe(self, study: StudyConfig) -> list[str]:  # noqa: ARG002
        return [f"a Slurm job by {self.path}: its nodes come with the search and go with it"]

    def place(self, study: StudyConfig, folder: StudyFolder) -> str:  # noqa: ARG002
        return str(folder.path.absolute() / "search")

    @contextmanager
    def reached(self, folder: StudyFolder, *, start: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        yield SlurmJobs(self.path, folder.path.absolute())

    def end(self, log: Path) -> str:  # noqa: ARG002
        return f"the cluster goes with its search: `{command('stop')}` ends both"


class SlurmJobs:
    """A `Backend` over `sbatch`, `squeue` and `scancel`.

    Args:
        script: what `sbatch` runs; it starts the driver with the variables that `submit` passes on.
        folder: where the jobs' output goes, on a file system that the nodes share.
    """

    def __init__(self, script: Path, folder: Path) -> None:
        self._script = script
        self._folder = folder

    def submit(self, order: Order) -> str:
        study = Path(order.study)
        study.mkdir(parents=True, exist_ok=True)
        space = study.with_name(f"{study.name}.space") / "space.yaml"
        files = {guest.entry: guest.files[guest.entry] for guest in order.guests if guest.is_file}
        write_files({space.name: order.space.encode(), **files}, space.parent)
        handed = {"BNNSEARCH_STUDY": str(study), "BNNSEARCH_SPACE": str(space), "BNNSEARCH_PYTHON": sys.executable}
        handed["BNNSEARCH_OPTIONS"] = " ".join(order.options)
        output = f"--output={self._folder}/slurm-%j.out"
        return _asked("sbatch", "--parsable", output, str(self._script), **handed).split(";")[0].strip()

    def state(self, job: str) -> JobState:
        try:
            state = _asked("squeue", "--noheader", "--format=%T", f"--jobs={job}").strip()
        except EnvironmentProblem as problem:
            if "Invalid job id" not in str(problem):
                raise
            state = ""  # Slurm forgets a job some minutes after its end
        if state in _QUEUED:
            return JobState.QUEUED
        if state in _RUNNING:
            return JobState.RUNNING
        return JobState.ENDED if self._output(job).exists() else JobState.GONE

    def output(self, job: str) -> list[str]:
        path = self._output(job)
        return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []

    def follow(self, job: str, hear: Callable[[str], None]) -> None:
        heard, pause = 0, threading.Event()
        while True:
            ended = self.state(job) in (
                JobState.ENDED,
                JobState.GONE,
            )  # asked first: what it printed last is read below
            lines = self.output(job)
            for line in lines[heard:] if ended else lines[heard:-1]:  # the last line may be half written
                hear(line)
                heard += 1
            if ended:
                return
            pause.wait(POLL_SECONDS)

    def stop(self, job: str) -> None:
        _asked("scancel", "--batch", "--signal=TERM", job)

    def why_ended(self, job: str) -> str:
        return f"job {job}; its output is in {self._output(job)}"

    def _output(self, job: str) -> Path:
        return self._folder / f"slurm-{job}.out"


def _asked(*command: str, **handed: str) -> str:
    try:
        done = subprocess.run(command, env={**os.environ, **handed}, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise EnvironmentProblem(f"{command[0]} is not there; call this on a machine that submits to Slurm") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
        raise EnvironmentProblem(f"{command[0]} failed: {last[:300]}")
    return done.stdout
