"""What differs between the kinds of cluster files: where studies go, what the driver is told, how jobs are reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import assert_never

from bnnsearch.cluster.account import account_lines
from bnnsearch.cluster.backend import Backend
from bnnsearch.cluster.files import AddressFile, ClusterFile, LauncherFile, RayJobFile, SlurmFile
from bnnsearch.cluster.kubernetes import KubernetesJobs
from bnnsearch.cluster.launch import head_address, launch, take_down, tunnel
from bnnsearch.cluster.plan import plan_of
from bnnsearch.cluster.slurm import SlurmJobs
from bnnsearch.config.cluster import ClusterSettings
from bnnsearch.config.study import StudyConfig, TrackingConfig
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.search.object_store import below

LOG = "cluster.log"
OWN_STORE = "sqlite:///mlflow.db"


def plan_lines(cluster: ClusterFile, study: StudyConfig) -> list[str]:
    """What a search will start, and what it costs at most.

    Raises:
        InputError: the study cannot run there.
        EnvironmentProblem: the provider does not know us, or allows us less than that.
    """
    driver_options(cluster, study)
    match cluster:
        case LauncherFile():
            return [*plan_of(cluster, study.resources.per_trial).describe(study), *account_lines(cluster)]
        case AddressFile():
            return [f"cluster at {cluster.settings.address}: it stands already, and is not ours to end"]
        case RayJobFile():
            return ["a RayJob by kubectl: its cluster comes with the search and goes with it"]
        case SlurmFile():
            return [f"a Slurm job by {cluster.path}: its nodes come with the search and go with it"]
        case _:
            assert_never(cluster)


def study_place(cluster: ClusterFile, study: StudyConfig, folder: StudyFolder) -> str:
    """Where on the cluster a study that is new lies."""
    match cluster:
        case LauncherFile() | AddressFile():
            return below(cluster.settings.storage, study.name, folder.search_id)
        case RayJobFile():
            return below(cluster.storage, study.name, folder.search_id)
        case SlurmFile():
            return str(folder.path.absolute() / "search")
        case _:
            assert_never(cluster)


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
    track = ["--track"] if _server(cluster, study) else []
    match cluster:
        case LauncherFile():
            plan = plan_of(cluster, study.resources.per_trial)
            slots = [] if plan.slots is None else ["--slots", str(plan.slots)]
            return ["--nodes", str(plan.fixed), *slots, *track]
        case AddressFile():
            slots = [] if cluster.settings.slots is None else ["--slots", str(cluster.settings.slots)]
            return [*slots, *track]
        case RayJobFile() | SlurmFile():
            return track
        case _:
            assert_never(cluster)


def recorded_here(cluster: ClusterFile, study: StudyConfig) -> StudyConfig:
    """The study as this machine records it: in a store of its own where the cluster itself records at a server."""
    if _server(cluster, study) is None:
        return study
    own = TrackingConfig(uri=OWN_STORE, experiment=study.tracking.experiment)
    return study.model_copy(update={"tracking": own})


def _server(cluster: ClusterFile, study: StudyConfig) -> str | None:
    settings = _settings(cluster)
    return study.tracking.uri or (settings.tracking if settings else None)


def _settings(cluster: ClusterFile) -> ClusterSettings | None:
    return cluster.settings if isinstance(cluster, LauncherFile | AddressFile) else None


@contextmanager
def reached(cluster: ClusterFile, folder: StudyFolder, *, start: bool = False) -> Iterator[Backend]:
    """The jobs of a cluster; with `start`, one that does not run is started.

    Raises:
        EnvironmentProblem: it does not run, does not answer, or refuses us.
    """
    match cluster:
        case LauncherFile():
            with _launched(cluster, folder, start=start) as address:
                yield _ray_jobs(address, cluster.settings)
        case AddressFile():
            yield _ray_jobs(cluster.settings.address, cluster.settings)
        case RayJobFile():
            yield KubernetesJobs(cluster.text)
        case SlurmFile():
            yield SlurmJobs(cluster.path, folder.path.absolute())
        case _:
            assert_never(cluster)


def _ray_jobs(address: str, settings: ClusterSettings) -> Backend:
    from bnnsearch.cluster.jobs import RayJobs  # imports Ray

    return RayJobs(address, settings)


@contextmanager
def _launched(cluster: LauncherFile, folder: StudyFolder, *, start: bool) -> Iterator[str]:
    log = folder.path / LOG
    if head_address(cluster) is None:
        if not start:
            raise EnvironmentProblem(f"cluster {cluster.name} does not run; `bnnsearch resume {folder.path}` starts it")
        try:
            launch(cluster, log)
        except EnvironmentProblem as problem:
            raise EnvironmentProblem(f"{problem}; to end what was started: bnnsearch down {folder.path}") from problem
    with tunnel(cluster, log) as address:
        yield address


def end_cluster(cluster: ClusterFile, log: Path) -> str:
    """End the cluster, if it is one that we start; returns a line about what costs money now.

    Raises:
        EnvironmentProblem: its nodes could not be ended.
    """
    match cluster:
        case LauncherFile():
            take_down(cluster, log)
            return f"cluster {cluster.name} is down; none of its nodes costs money any more, storage does"
        case AddressFile():
            return f"the cluster at {cluster.settings.address} was not started by bnnsearch; it stands as before"
        case RayJobFile() | SlurmFile():
            return "the cluster goes with its search: `bnnsearch stop` ends both"
        case _:
            assert_never(cluster)


def cost_lines(cluster: ClusterFile, folder: StudyFolder) -> list[str]:
    """What goes on costing money after a search; empty where nothing of ours does."""
    if not isinstance(cluster, LauncherFile):
        return []
    head = head_address(cluster)
    if head is None:
        return []
    cost = cluster.settings.usd_per_hour
    price = f", {cost.head:.2f} USD per hour" if cost else ""
    still = f"the head of cluster {cluster.name} ({head}) still runs{price}; end it with:"
    return [still, f"  bnnsearch down {folder.path}"]
