"""The interface of what runs searches as jobs: Ray's Jobs API, Kubernetes or Slurm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from bnnsearch.config.guests import Guest


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Order:
    """A search to be submitted.

    Attributes:
        study: its place on the cluster.
        space: the space's text; read where the study is new.
        options: further words for the driver, such as `--trials 40`.
        guests: what the space uses.
    """

    study: str
    space: str
    options: Sequence[str] = ()
    guests: Sequence[Guest] = ()


class Backend(Protocol):
    """The jobs of one cluster. Every method raises `EnvironmentProblem` where the cluster does not answer."""

    def submit(self, order: Order) -> str:
        """Start the search; returns the job's id."""
        ...

    def state(self, job: str) -> JobState:
        """Where the job stands; one that the cluster does not know any more is gone."""
        ...

    def output(self, job: str) -> list[str]:
        """The lines that the job has printed so far."""
        ...

    def follow(self, job: str, hear: Callable[[str], None]) -> None:
        """Pass on what the job prints, from its beginning, line by line, until it has ended."""
        ...

    def stop(self, job: str) -> None:
        """Have the search save and end; returns at once."""
        ...

    def why_ended(self, job: str) -> str:
        """What is known about a job that ended without a word of its own, in one line."""
        ...
