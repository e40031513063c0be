"""The front as files that other programs read: `front.json` and `front.csv`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from bnnsearch.pareto import ParetoFront

JSON, CSV = "front.json", "front.csv"


def write_front(front: ParetoFront, directory: Path) -> None:
    """Write both files into `directory`."""
    knee = front.knee.number if front.results else None
    content = {
        "objectives": [objective.model_dump() for objective in front.objectives],
        "hypervolume": front.hypervolume,
        "knee": knee,
        "trials": [
            {
                "trial": result.number,
                "metrics": dict(result.metrics),
                **_confirmed(front, result.number),
                "params": dict(result.params),
                "config": dict(result.config),
            }
            for result in front.results
        ],
    }
    (directory / JSON).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    metrics = _columns(front, "metrics", first=[objective.metric for objective in front.objectives])
    params = _columns(front, "params", first=[])
    with (directory / CSV).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["trial", "knee", *metrics, *(f"param.{name}" for name in params)])
        for result in front.results:
            values = [
                *(result.metrics.get(name, "") for name in metrics),
                *(result.params.get(name, "") for name in params),
            ]
            table.writerow([result.number, result.number == knee, *values])


def _confirmed(front: ParetoFront, number: int) -> dict[str, Any]:
    """Over how many seeds the metrics are means, and their deviation, where they are."""
    confirmed = front.confirmed.get(number)
    return {} if confirmed is None else {"seeds": confirmed.seeds, "deviation": dict(confirmed.deviation)}


def _columns(front: ParetoFront, kind: str, *, first: list[str]) -> list[str]:
    """All names in the results' `metrics` or `params`, those in `first` ahead."""
    return list(dict.fromkeys([*first, *(name for result in front.results for name in getattr(result, kind))]))
