"""What a cluster file will start, how many trials that runs at once, and what it costs at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnnsearch.config.cluster import HourlyCost
from bnnsearch.config.study import PerTrial, StudyConfig
from bnnsearch.errors import InputError

if TYPE_CHECKING:
    from bnnsearch.cluster.launcher import LauncherFile


@dataclass(frozen=True, slots=True)
class Plan:
    """A cluster at its largest.

    Attributes:
        name: of the cluster.
        provider: such as `aws`.
        workers: nodes besides the head.
        fixed: nodes that come at once, the head included; the others come with the load.
        slots: trials at once; None where the file does not say what a node has.
        idle_minutes: after which a worker without a trial goes; None where workers stay.
        cost: of a node per hour.
    """

    name: str
    provider: str
    workers: int
    fixed: int
    slots: int | None
    idle_minutes: float | None
    cost: HourlyCost | None

    @property
    def hourly(self) -> float | None:
        """US dollars per hour at most."""
        return None if self.cost is None else self.cost.head + self.workers * self.cost.worker

    def describe(self, study: StudyConfig) -> list[str]:
        """What the user should know before anything is started."""
        slots = "as many trials at once as fit" if self.slots is None else f"up to {self.slots} trials at once"
        lines = [f"cluster {self.name} ({self.provider}): a head and up to {self.workers} workers, {slots}"]
        if self.idle_minutes is not None:
            lines.append(f"a worker without a trial goes after {self.idle_minutes:g} minutes; the head stays")
        return [*lines, self._cost_line(study)]

    def _cost_line(self, study: StudyConfig) -> str:
        if self.hourly is None:
            return "cost: unknown (no usd_per_hour in the cluster file)"
        bound = f"at most {self.hourly:.2f} USD per hour with all workers"
        limit = study.budget.wall_time
        if limit is None:
            return f"cost: {bound}; no bound in all, for budget.wall_time is not set"
        return f"cost: {bound}, {self.hourly * limit / 3600:.2f} USD in budget.wall_time; the head's runs on after it"


def plan_of(cluster: LauncherFile, per_trial: PerTrial) -> Plan:
    """The plan of a file for `ray up`.

    Raises:
        InputError: a trial fits into none of its nodes.
    """
    config = cluster.config
    local = config["provider"]["type"] == "local"
    return Plan(
        name=cluster.name,
        provider=str(config["provider"]["type"]),
        workers=_workers(config),
        fixed=1 + (len(config["provider"]["worker_ips"]) if local else 0),
        slots=cluster.settings.slots or (None if local else _slots(cluster, per_trial)),
        idle_minutes=None if local else float(config.get("idle_timeout_minutes", 5)),
        cost=cluster.settings.usd_per_hour,
    )


def _workers(config: Mapping[str, Any]) -> int:
    if "worker_ips" in config["provider"]:
        known = len(config["provider"]["worker_ips"])
        return min(known, int(config.get("max_workers", known)))
    total = int(config.get("max_workers", 2))
    types = {name: each for name, each in config["available_node_types"].items() if name != config["head_node_type"]}
    return min(total, sum(int(each.get("max_workers", total)) for each in types.values()))


def _slots(cluster: LauncherFile, per_trial: PerTrial) -> int:
    config = cluster.config
    total = config.get("max_workers", 2)
    slots = 0
    for name, node in config["available_node_types"].items():
        count = 1 if name == config["head_node_type"] else min(total, node.get("max_workers", total))
        slots += count * _fit(node["resources"], per_trial)
    if slots == 0:
        wanted = f"resources.per_trial = {per_trial.cpu:g} CPU, {per_trial.gpu:g} GPU"
        raise InputError(f"{cluster.path}: a trial must fit into one node of the cluster, but none has {wanted}")
    return slots


def _fit(resources: Mapping[str, float], per_trial: PerTrial) -> int:
    wanted = {"CPU": per_trial.cpu, "GPU": per_trial.gpu}
    return min(int(resources.get(kind, 0) / amount) for kind, amount in wanted.items() if amount > 0)
