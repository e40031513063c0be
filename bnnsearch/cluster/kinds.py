"""What a cluster file is to a search: where studies go, what the driver is told, how jobs are reached, what it costs.

A kind is a class of its own, in a module of its own; `bnnsearch.cluster.files` reads its files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bnnsearch.cluster.backend import Backend
from bnnsearch.config.cluster import ClusterSettings
from bnnsearch.config.study import StudyConfig, TrackingConfig
from bnnsearch.errors import InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.study.object_store import below

OWN_STORE = "sqlite:///mlflow.db"


@dataclass(frozen=True, slots=True)
class ClusterFile(ABC):
    """A cluster file that was read and checked."""

    path: Path

    @property
    def tracking(self) -> str | None:
        """Address of the MLflow server that the cluster records at, where the file names one."""
        return None

    @abstractmethod
    def describe(self, study: StudyConfig) -> list[str]:
        """What a search starts there, and what that costs at most.

        Raises:
            InputError: the study cannot run there.
            EnvironmentProblem: the provider does not know us, or allows us less than that.
        """

    @abstractmethod
    def place(self, study: StudyConfig, folder: StudyFolder) -> str:
        """Where on the cluster a study that is new lies."""

    def options(self, study: StudyConfig) -> list[str]:  # noqa: ARG002
        """What the driver is told about the cluster.

        Raises:
            InputError: the study cannot run there.
        """
        return []

    @abstractmethod
    def reached(self, folder: StudyFolder, *, start: bool = False) -> AbstractContextManager[Backend]:
        """The jobs of the cluster; with `start`, one that does not run is started.

        Raises:
            EnvironmentProblem: it does not run, does not answer, or refuses us.
        """

    @abstractmethod
    def end(self, log: Path) -> str:
        """End the cluster, if it is one that we start; returns a line about what costs money now.

        Raises:
            EnvironmentProblem: its nodes could not be ended.
        """

    def cost_lines(self, folder: StudyFolder) -> list[str]:  # noqa: ARG002
        """What goes on costing money after a search; empty where nothing of ours does."""
        return []


@dataclass(frozen=True, slots=True)
class ConfiguredFile(ClusterFile):
    """One with settings of ours, whose jobs Ray's Jobs API runs."""

    settings: ClusterSettings

    @property
    def tracking(self) -> str | None:
        return self.settings.tracking

    def place(self, study: StudyConfig, folder: StudyFolder) -> str:
        return below(self.settings.storage, study.name, folder.search_id)

    def jobs(self, address: str) -> Backend:
        """Those of the Jobs API at `address`."""
        from bnnsearch.cluster.jobs import RayJobs  # imports Ray

        return RayJobs(address, self.settings)


def plan_lines(cluster: ClusterFile, study: StudyConfig) -> list[str]:
    """What a search will start, and what it costs at most.

    Raises:
        InputError: the study cannot run there.
        EnvironmentProblem: the provider does not know us, or allows us less than that.
    """
    driver_options(cluster, study)
    return cluster.describe(study)


def driver_options(cluster: ClusterFile, study: StudyConfig) -> list[str]:
    """What the driver is told besides the study's place.

    Raises:
        InputError: the study cannot run there.
    """
    uri = study.tracking.uri
    if uri is not None and not uri.startswith(("http://", "https://")):
        kind = uri.split(":", maxsplit=1)[0]
        raise InputError(
            "tracking.uri on a cluster must be an MLflow server, for a file would be one node's own and go with it, "
            f"but got {kind}; allowed: http://, https://, or none"
        )
    return [*cluster.options(study), *(["--track"] if _server(cluster, study) else [])]


def recorded_here(cluster: ClusterFile, study: StudyConfig) -> StudyConfig:
    """The study as this machine records it: in a store of its own where the cluster itself records at a server."""
    if _server(cluster, study) is None:
        return study
    own = TrackingConfig(uri=OWN_STORE, experiment=study.tracking.experiment)
    return study.model_copy(update={"tracking": own})


def _server(cluster: ClusterFile, study: StudyConfig) -> str | None:
    return study.tracking.uri or cluster.tracking
