"""Clusters that `ray up` starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnnsearch.cluster.account import account_lines
from bnnsearch.cluster.backend import Backend
from bnnsearch.cluster.kinds import ConfiguredFile
from bnnsearch.cluster.launch import head_address, launch, take_down, tunnel
from bnnsearch.cluster.plan import plan_of
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.invocation import command

LOG = "cluster.log"


@dataclass(frozen=True, slots=True)
class LauncherFile(ConfiguredFile):
    """A cluster that `ray up` starts; `config` is what Ray reads."""

    config: dict[str, Any]

    @property
    def name(self) -> str:
        """What the cluster is called."""
        return str(self.config["cluster_name"])

    def describe(self, study: StudyConfig) -> list[str]:
        return [*plan_of(self, study.resources.per_trial).describe(study), *account_lines(self)]

    def options(self, study: StudyConfig) -> list[str]:
        plan = plan_of(self, study.resources.per_trial)
        slots = [] if plan.slots is None else ["--slots", str(plan.slots)]
        return ["--nodes", str(plan.fixed), *slots]

    @contextmanager
    def reached(self, folder: StudyFolder, *, start: bool = False) -> Iterator[Backend]:
        log = folder.path / LOG
        if head_address(self) is None:
            if not start:
                raise EnvironmentProblem(
                    f"cluster {self.name} does not run; `{command('resume', folder.path)}` starts it"
                )
            try:
                launch(self, log)
            except EnvironmentProblem as problem:
                ending = f"to end what was started: {command('down', folder.path)}"
                raise EnvironmentProblem(f"{problem}; {ending}") from problem
        with tunnel(self, log) as address:
            yield self.jobs(address)

    def end(self, log: Path) -> str:
        take_down(self, log)
        return f"cluster {self.name} is down; none of its nodes costs money any more, storage does"

    def cost_lines(self, folder: StudyFolder) -> list[str]:
        head = head_address(self)
        if head is None:
            return []
        cost = self.settings.usd_per_hour
        price = f", {cost.head:.2f} USD per hour" if cost else ""
        still = f"the head of cluster {self.name} ({head}) still runs{price}; end it with:"
        return [still, f"  {command('down', folder.path)}"]
