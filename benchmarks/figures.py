"""What a benchmark does with its figures: hold them against targets, and keep them as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from bnnsearch.packed.latency import processor


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and the bound it is to keep."""

    name: str
    value: float
    target: float
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def __str__(self) -> str:
        bound = "at least" if self.better == "higher" else "at most"
        return f"{'met' if self.met else 'MISSED':6} {self.name}: {self.value:.4g} ({bound} {self.target:.4g})"


def show_targets(targets: Iterable[Target]) -> None:
    """A line for each target: met or missed."""
    print()
    for target in targets:
        print(target)


def write_figures(
    file: Path | None,
    rows: Sequence[Mapping[str, Any]],
    targets: Iterable[Target] = (),
    *,
    packages: Iterable[str],
    **settings: Any,
) -> None:
    """Write rows, targets, the machine and the versions of `packages` to `file`, where there is one.

    Args:
        file: JSON.
        rows: as printed.
        targets: as shown.
        packages: by the names they are distributed under.
        settings: of the run, such as `threads`.
    """
    if file is None:
        return
    machine = {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    content = {
        "machine": machine,
        "versions": {name: version(name) for name in packages},
        "settings": settings,
        "rows": rows,
        "targets": [asdict(target) for target in targets],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
