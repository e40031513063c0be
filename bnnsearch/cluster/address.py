"""Clusters that stand already, at an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bnnsearch.cluster.backend import Backend
from bnnsearch.cluster.kinds import ConfiguredFile
from bnnsearch.config.cluster import AddressSettings
from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class AddressFile(ConfiguredFile):
    """A cluster that stands already."""

    settings: AddressSettings

    def describe(self, study: StudyConfig) -> list[str]:  # noqa: ARG002
        return [f"cluster at {self.settings.address}: it stands already, and is not ours to end"]

    def options(self, study: StudyConfig) -> list[str]:  # noqa: ARG002
        return [] if self.settings.slots is None else ["--slots", str(self.settings.slots)]

    @contextmanager
    def reached(self, folder: StudyFolder, *, start: bool = False) -> Iterator[Backend]:  # noqa: ARG002
        yield self.jobs(self.settings.address)

    def end(self, log: Path) -> str:  # noqa: ARG002
        return f"the cluster at {self.settings.address} was not started by bnnsearch; it stands as before"
