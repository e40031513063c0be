"""Where a study runs: kept beside it on this machine, so that any later command finds it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from typing import Self

from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.kinds import ClusterFile
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder, replace_file

PLACEMENT = "cluster.json"


@dataclass(frozen=True, slots=True)
class Placement:
    """A study's place.

    Attributes:
        folder: the study's folder on this machine, where its results come back to.
        cluster: name of the copy of its cluster file in that folder.
        study: its place on the cluster.
        job: the job that runs it, or ran it last; None before the first.
    """

    folder: StudyFolder
    cluster: str
    study: str
    job: str | None = None

    @classmethod
    def new(cls, folder: StudyFolder, cluster: ClusterFile, *, study: str) -> Self:
        """Note the place of a study before it is submitted, with a copy of the cluster's file."""
        copy = f"cluster{cluster.path.suffix}"
        shutil.copyfile(cluster.path, folder.path / copy)
        placement = cls(folder, copy, study)
        placement._write()
        return placement

    @classmethod
    def of(cls, folder: StudyFolder) -> Self:
        """The place of the study in `folder`.

        Raises:
            InputError: it runs on this machine.
        """
        path = folder.path / PLACEMENT
        if not path.exists():
            raise InputError(f"{folder.path}: this study runs on this machine; it was not started with --cluster")
        try:
            fields = json.loads(read_regular(path))
            job = None if fields["job"] is None else str(fields["job"])
            return cls(folder, str(fields["cluster"]), str(fields["study"]), job)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentProblem(
                f"{path}: cannot be read ({type(error).__name__}); it says on which cluster the study runs, as "
                '{"cluster": FILE, "study": PLACE, "job": null}'
            ) from error

    def file(self) -> ClusterFile:
        """The cluster."""
        return load_cluster(self.folder.path / self.cluster)

    def moved(self, cluster: ClusterFile) -> Self:
        """The place on another cluster, which sees the same storage, noted."""
        copy = f"cluster{cluster.path.suffix}"
        shutil.copyfile(cluster.path, self.folder.path / copy)
        placement = replace(self, cluster=copy, job=None)
        placement._write()
        return placement

    def submitted(self, job: str) -> Self:
        """The place with its newest job, noted."""
        placement = replace(self, job=job)
        placement._write()
        return placement

    def _write(self) -> None:
        fields = {key: value for key, value in asdict(self).items() if key != "folder"}
        replace_file(self.folder.path / PLACEMENT, json.dumps(fields, indent=2) + "\n")


def is_remote(folder: StudyFolder) -> bool:
    """Whether the study runs on a cluster."""
    return (folder.path / PLACEMENT).exists()
