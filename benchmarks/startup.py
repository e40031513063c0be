"""How long the commands that answer a person take, from their start to their exit: --help, validate, schema.

    uv run python benchmarks/startup.py [--quick] [--json FILE]

Wall and processor time of the fastest of several starts, for the machine may be busy; the first one, which may compile
byte code, does not count. One file is full of mistakes: 2,000 of one kind, of which the first are told.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import Target, show_targets, write_figures

SPACE = Path(__file__).parents[1] / "spaces" / "digits_quickstart.yaml"
TARGETS = {"--help": 0.5, "validate": 0.7, "schema": 1.2, "validate, 2,000 mistakes": 5.0}
"""Seconds of processor time."""


def commands(folder: Path) -> dict[str, list[str]]:
    """Each command's words by its name."""
    broken = folder / "broken.yaml"
    broken.write_text(SPACE.read_text() + "".join(f"  x{n}: {{type: randint, min: 1, max: 2}}\n" for n in range(2000)))
    return {
        "--help": ["--help"],
        "validate": ["validate", str(SPACE)],
        "schema": ["schema"],
        "validate, 2,000 mistakes": ["validate", str(broken)],
    }


def start(words: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one start."""
    wall, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "bnnsearch", *words], capture_output=True, check=False)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two starts of each instead of ten")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, words in commands(Path(folder)).items():
            start(words)
            times = [start(words) for _ in range(2 if options.quick else 10)]
            rows.append({"command": name, "wall_s": min(t[0] for t in times), "processor_s": min(t[1] for t in times)})
    print(f"{'command':28}{'wall s':>10}{'processor s':>14}")
    for row in rows:
        print(f"{row['command']:28}{row['wall_s']:10.2f}{row['processor_s']:14.2f}")
    targets = [
        Target(f"{row['command']}, s of processor time", row["processor_s"], TARGETS[row["command"]], better="lower")
        for row in rows
    ]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("bnnsearch", "pydantic", "click"))


if __name__ == "__main__":
    main()
