"""A study's events as updates of MLflow runs: what becomes a parameter, a metric, a tag, a description."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnnsearch import __version__
from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking.updates import REPORT, Update

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAILED: "FAILED"}
"""MLflow's status of an ended trial: only complete ones are FINISHED."""

VIOLATION = "violation."
"""Prefix of the metrics that say how far a constraint is missed."""

RUN_NAME, NOTE = "mlflow.runName", "mlflow.note.content"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def flattened(tree: Any, prefix: str = "") -> dict[str, str]:
    """A tree's leaves by dotted name, as text; lists and what is no text as JSON.

    Example:
        `{"model": {"name": "mlp", "hidden": [64, 64]}}` is `{"model.name": "mlp", "model.hidden": "[64, 64]"}`.
    """
    if isinstance(tree, Mapping) and tree:
        return {
            name: text
            for key, child in tree.items()
            for name, text in flattened(child, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: tree if isinstance(tree, str) else json.dumps(tree)}


@dataclass(frozen=True, slots=True)
class Describer:
    """Makes the updates of one study's runs."""

    study: StudyConfig
    search_id: str

    def report_started(self, at: int | None = None) -> Update:
        """The report run begins, or goes on."""
        study = self.study
        goals = ", ".join(f"{each.metric} {each.mode}" for each in study.objectives)
        note = [
            study.description,
            f"Search **{study.name}** ({self.search_id}): {goals}. The front is in the artifacts: `report.html`, "
            "`front.csv`, `front.json`.",
            f"Its trials: `tags.search_id = '{self.search_id}'`; those on the front: `tags.pareto = 'true'`.",
        ]
        tags = {
            **self._tags("report"),
            RUN_NAME: f"{study.name} report",
            NOTE: "\n\n".join(filter(None, note)),
            "state": "running",
            "budget.trials": str(study.budget.trials),  # may grow, so it is no parameter
        }
        params = flattened(study.model_dump(mode="json", exclude={"description", "budget", "tracking"}))
        return Update(REPORT, started=at or now_ms(), params=params, tags=tags)

    def report_ended(self) -> Update:
        """The report run ends; a resume takes it up again."""
        return Update(REPORT, ended=("FINISHED", now_ms()), tags={"state": "ended"})

    def progress(self, front: ParetoFront, *, ended: int, at: int | None = None) -> Update:
        """Size, hypervolume and best values of the front after `ended` trials, as metrics of the report run."""
        values = {"front_size": float(len(front.results)), "hypervolume": front.hypervolume}
        for column, objective in enumerate(front.objectives):
            if front.results:
                best = max if objective.mode == "max" else min
                values[f"best_{objective.metric}"] = float(best(front.values[:, column]))
        return Update(REPORT, metrics=as_metrics(values, ended, at))

    def trial_started(
        self, number: int, config: Mapping[str, Any], params: Mapping[str, Any], at: int | None = None
    ) -> Update:
        """A trial's run begins, or goes on; every leaf of its configuration is a parameter, named as in the YAML."""
        sampled = "\n".join(f"- `{name}`: {value}" for name, value in params.items())
        tags = {
            **self._tags("trial"),
            RUN_NAME: f"trial {number}",
            NOTE: f"Trial {number} of {self.study.name} ({self.search_id}), sampled:\n\n{sampled}",
            "trial": str(number),
            "state": "running",
            "pareto": "false",
        }
        return Update(
            str(number),
            started=at or now_ms(),
            params=flattened(config),
            dataset=dataset_of(config.get("data")),
            tags=tags,
        )

    def epoch(self, number: int, metrics: EpochMetrics, at: int | None = None) -> Update:
        """The epoch's values; per-layer ones stay in the record, for there are thousands."""
        return Update(str(number), metrics=as_metrics({**metrics.values, **metrics.node}, metrics.epoch, at))

    def trial_waits(self, number: int) -> Update:
        """A trial's run waits at a rung; it stays open."""
        return Update(str(number), tags={"state": "waiting"})

    def trial_ended(
        self, result: TrialResult, *, on_front: bool, known: Mapping[str, float], at: int | None = None
    ) -> Update:
        """A trial's run ends; `known` are the values that its last epoch recorded already."""
        values = {
            **{name: value for name, value in result.metrics.items() if known.get(name) != value},
            **{VIOLATION + name: value for name, value in result.violations.items()},
            "seconds": result.seconds,
        }
        outcome = f"{result.state.value} after {result.epochs} epochs" + (f": {result.reason}" if result.reason else "")
        sampled = "\n".join(f"- `{name}`: {value}" for name, value in result.params.items())
        goals = "\n".join(
            f"- **{each.metric}**: {result.metrics[each.metric]:.6g}"
            for each in self.study.objectives
            if each.metric in result.metrics
        )
        tags = {
            NOTE: f"Trial {result.number} of {self.study.name} ({self.search_id}), {outcome}.\n\n{goals}\n\n"
            f"Sampled:\n\n{sampled}",
            "state": result.state.value,
            "feasible": _yes(result.feasible),
            "pareto": _yes(on_front),
        }
        if result.reason:
            tags["reason"] = result.reason
        if result.retry_of is not None:
            tags["retry_of"] = str(result.retry_of)
        if result.confirms is not None:
            tags["confirms"] = str(result.confirms)
        return Update(
            str(result.number),
            metrics=as_metrics(values, result.epochs, at),
            tags=tags,
            ended=(STATUS[result.state], at or now_ms()),
        )

    def trial_interrupted(self, number: int) -> Update:
        """The driver stopped while the trial ran; `resume` takes it up again."""
        return Update(str(number), ended=("KILLED", now_ms()), tags={"state": "interrupted"})

    def judged(self, result: TrialResult, earlier: Iterable[str], *, on_front: bool, at: int | None = None) -> Update:
        """The space was changed: an ended trial has other violations; those of `earlier` that it has no more are 0."""
        found = {VIOLATION + name: result.violations.get(name, 0.0) for name in {*earlier, *result.violations}}
        tags = {"feasible": _yes(result.feasible), "pareto": _yes(on_front)}
        return Update(str(result.number), metrics=as_metrics(found, result.epochs, at), tags=tags)

    def moved(self, number: int, *, on_front: bool) -> Update:
        """An ended trial came onto the front or left it."""
        return Update(str(number), tags={"pareto": _yes(on_front)})

    def _tags(self, kind: str) -> dict[str, str]:
        return {
            "search_id": self.search_id,
            "study": self.study.name,
            "kind": kind,
            "bnnsearch.version": __version__,
            "mlflow.user": os.environ.get("USER") or "unknown",
            "mlflow.source.name": "bnnsearch",
            "mlflow.source.type": "LOCAL",
        }


def as_metrics(
    values: Mapping[str, float], step: int, at: int | None = None
) -> tuple[tuple[str, float, int, int], ...]:
    """Finite values as metrics; MLflow would turn an infinite one into 1.8e308."""
    at = at or now_ms()
    return tuple((name, float(value), step, at) for name, value in values.items() if math.isfinite(value))


def dataset_of(data: Mapping[str, Any] | None) -> dict[str, str]:
    """What a run is trained on, as MLflow's dataset: its digest is that of its settings."""
    if not data:
        return {}
    text = json.dumps(data, sort_keys=True)
    root = Path(str(data["root"])).absolute().as_uri() if "root" in data else str(data.get("path", "scikit-learn"))
    return {
        "name": str(data.get("name", "data")),
        "digest": hashlib.sha256(text.encode()).hexdigest()[:8],
        "source_type": "local" if "root" in data else "package",
        "source": json.dumps({"uri": root}),
        "profile": text,
    }


def _yes(value: bool) -> str:
    return "true" if value else "false"
