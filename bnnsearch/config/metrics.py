"""The table of metrics: what a trial is measured by, which way is better, when it is known, and who reports it.

Objectives, constraints, labels and the checks of a space read it. It also says of each metric which settings never
change it, so that an objective that nothing in a space moves is found without training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from bnnsearch.config.families import COSTS, MEASURES, METHODS

Mode = Literal["max", "min"]
Known = Literal["before", "after", "measured"]
"""Before training, of the configuration; after every epoch; or of the packed network, on the node, before training."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that trials report.

    Attributes:
        name: its key everywhere.
        mode: which way is better.
        unit: its unit; empty where it has none.
        label: it in words.
        known: when it is known.
        objective: whether a search may have it as an objective or a constraint.
        beside: another measure of the same, shown beside it in tables; empty where there is none.
        unmoved_by: dotted settings, each with all below it, that never change it, whatever the others are.
    """

    name: str
    mode: Mode
    unit: str
    label: str
    known: Known
    objective: bool = True
    beside: str = ""
    unmoved_by: frozenset[str] = frozenset()

    @property
    def title(self) -> str:
        """Label and unit, as at an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


_DATA = {"data.augment", "data.seed", "data.root", "data.download", "data.cache", "data.workers"}
_SIGNS = {"model.shift", "model.sign_gradient", "model.standardise", "model.dropout", "model.alpha_gradient"}
_ALWAYS = {"name", "seed", "optimizer", *_SIGNS}

_PLAN = {
    f"plan.{name}"
    for name in ("schedule", "restart", "warmup_epochs", "label_smoothing", "class_weights", "bn_batches", "compile")
} | {"plan.cuda_graph", "plan.deterministic", "plan.keep"}

NETWORK = frozenset(
    {*_ALWAYS, *_PLAN, "plan.epochs", "plan.dtype", "plan.metrics", "method", "recu", "precision", "distill"}
    | {"data.batch_size", "data.augment", "data.seed"}
)
"""What leaves the network of a configuration as it is."""

TRAINING = frozenset(
    {*_ALWAYS, *_PLAN, *_DATA - {"data.root"}}
    | {"recu.tau", "recu.quantile", "precision.activations", "precision.grid"}
    | {f"method.{name}" for name in ("gradient", "clip", "gamma", "sigma", "threshold", "bias_correction")}
    | {f"method.{name}" for name in ("rate", "final_beta", "penalty", "reg_rate", "pull", "l1_step")}
    | {f"method.{name}" for name in ("lambda_rate", "growth", "time", "eta", "step", "order", "pretrained")}
    | {f"method.{name}" for name in ("t_min", "t_max", "activations", "o_end", "bound", "chord", "omega")}
)
"""What leaves the products of a gradient training as they are, while no phase ends by its outcome."""


def _network(name: str, unit: str, label: str) -> Metric:
    return Metric(name, "min", unit, label, "before", unmoved_by=NETWORK)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("val_acc", "max", "", "validation accuracy", "after"),
        Metric("val_balanced_acc", "max", "", "balanced validation accuracy", "after"),
        _network("memory_bytes", "bytes", "weight memory"),
        _network("bops", "", "binary operations"),
        _network("flops", "", "float operations"),
        _network("ops", "", "operations"),
        Metric(
            "train_bitops",
            "min",
            "32-bit MACs",
            "training cost",
            "before",
            beside="train_cost_thesis",
            unmoved_by=TRAINING,
        ),
        Metric("train_cost_thesis", "min", "32-bit MACs", "training cost by the thesis", "before", objective=False),
        _network("energy", "uJ", "energy"),
        Metric("latency_ms", "min", "ms", "latency", "measured"),
        Metric("packed_bytes", "min", "bytes", "packed file", "measured"),
        Metric("flash_bytes", "min", "bytes", "flash of the device", "measured"),
        Metric("ram_bytes", "min", "bytes", "RAM of the device", "measured"),
        Metric("device_cycles", "min", "instructions", "instructions of the device", "measured"),
        _network("params", "", "parameters"),
    )
}

MEASURED = frozenset(name for name, metric in METRICS.items() if metric.known == "measured")
"""What is known of the packed network, which is made before training where a search watches one of them."""

ON_DEVICE = frozenset({"flash_bytes", "ram_bytes", "device_cycles"})
"""Those of them that are known of its C."""

_OURS = frozenset(METRICS)


def define(metric: Metric) -> None:
    """Add a metric to the table: a guest's.

    Raises:
        ValueError: its name is that of one of ours.
    """
    ours = _OURS | {f"val_{name}" for name in MEASURES.members} | set(COSTS.members)
    if metric.name in ours and metric != METRICS.get(metric.name, metric):
        raise ValueError(f"the metric {metric.name} is one of bnnsearch's own; another name is needed")
    METRICS[metric.name] = metric


def objectives() -> list[str]:
    """The metrics that a search may have as objectives or constraints."""
    for family in (MEASURES, COSTS):
        for name in family.members:
            family.member(name)  # which defines its metric
    return [name for name, metric in METRICS.items() if metric.objective]


def _known(name: str) -> str:
    if name not in METRICS:  # an installed package may offer it
        MEASURES.member(name.removeprefix("val_")) if name.startswith("val_") else COSTS.member(name)
    if name not in objectives():
        expected = ", ".join(map(repr, objectives()))
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


class _Names:
    """The names at the time they are asked for: a guest may add some."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        MEASURES.all(), COSTS.all()
        return {"enum": objectives(), "type": "string"}


ObjectiveName = Annotated[str, AfterValidator(_known), _Names()]
"""Name of a metric that may be an objective."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """A kind of trainer, and the metrics of the table that its trials have.

    Attributes:
        name: the kind.
        metrics: names of what it reports.
        always: metrics whose value no setting changes.
        open_costs: costs known before training only as a bound: the cost of a trial depends on how it goes.
    """

    name: str
    metrics: frozenset[str]
    always: frozenset[str] = frozenset()
    open_costs: frozenset[str] = frozenset()


_EVOLVING = frozenset(METRICS) - {"train_cost_thesis"}
GRADIENTS = Reporter("gradients", frozenset(METRICS))
EVOLUTION = Reporter("evolution", _EVOLVING, always=frozenset({"flops"}), open_costs=frozenset({"train_bitops"}))


def reporter_of(method: str, more: Iterable[str] = ()) -> Reporter:
    """Who trains by the method of this name, with these metrics besides."""
    reporter: Reporter = METHODS.member(method).reporter  # type: ignore[union-attr]  # the space names a method
    return replace(reporter, metrics=reporter.metrics.union(more)) if more else reporter


def tabled(objectives: Iterable[str], results: Iterable[Mapping[str, float]]) -> list[str]:
    """The metrics of a table of results: the objectives, each followed by what is beside it where a result has it."""
    had = {name for metrics in results for name in metrics}
    columns: list[str] = []
    for objective in objectives:
        beside = METRICS[objective].beside
        columns += [objective, beside] if beside in had else [objective]
    return columns
