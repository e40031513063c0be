"""`epochs.jsonl`: every epoch of every trial, one line of JSON each; the report's curves are drawn from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from bnnsearch.core.trainer import EpochMetrics

History = Mapping[int, tuple[EpochMetrics, ...]]
"""Trial number to its epochs, in order."""


@dataclass(frozen=True, slots=True)
class EpochLog:
    """The file at `path`, written to."""

    path: Path

    def append(self, number: int, metrics: EpochMetrics) -> None:
        """Add one epoch of trial `number`; values that are not finite are left out, for JSON has none."""
        values = {name: value for name, value in metrics.values.items() if math.isfinite(value)}
        line = json.dumps({"number": number, **asdict(metrics), "values": values})
        with self.path.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")


def read_history(path: Path) -> dict[int, tuple[EpochMetrics, ...]]:
    """The epochs in `path`; of a repeated epoch the last counts, a line that a crash cut short is left out."""
    epochs: dict[int, dict[int, EpochMetrics]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            fields = json.loads(line)
            metrics = EpochMetrics(**{key: value for key, value in fields.items() if key != "number"})
            epochs.setdefault(fields["number"], {})[metrics.epoch] = metrics
        except (ValueError, TypeError, KeyError):
            continue  # written while the driver died; the picture lacks one point
    return {number: tuple(by_epoch[epoch] for epoch in sorted(by_epoch)) for number, by_epoch in epochs.items()}
