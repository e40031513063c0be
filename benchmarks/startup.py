"""How long a person waits: for commands that only answer, and for a search to say something and to report a trial.

    uv run python benchmarks/startup.py [--quick] [--json FILE]

Wall and processor time of the fastest of several starts, for the machine may be busy; the first one, which may compile
byte code, does not count. One file is full of mistakes: 2,000 of one kind, of which the first are told.

Of a search (digits_quickstart, two trials) the seconds are told at which each of its lines came, up to the first trial,
by each executor. A warm start has run before on this machine; a cold one finds neither byte code nor our own caches, as
after an installation (the packages' files are in the page cache, which only root may empty). What the imports take is
told by `python -X importtime`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
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


def timeline(executor: str, environment: dict[str, str]) -> list[tuple[float, str]]:
    """Seconds since its start and text of each line of a search, up to the report of its first trial."""
    words = [
        "run",
        str(SPACE),
        "--executor",
        executor,
        "--set",
        "budget.trials=2",
        "--set",
        "tracking.uri=sqlite:///m.db",
    ]
    lines: list[tuple[float, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        terminal, side = os.openpty()  # a dumb one: lines as they come, and no screen
        process = subprocess.Popen(
            [sys.executable, "-m", "bnnsearch", *words],
            cwd=folder, env=os.environ | {"TERM": "dumb"} | environment, stdout=side, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.close(side)
        for line in _lines(terminal):
            if not any("] trial " in text for _, text in lines):
                lines.append((time.perf_counter() - began, line.rstrip()))
        assert process.wait() == 0, lines
    return lines


def _lines(terminal: int) -> Iterator[str]:
    """What comes from the other side of a terminal, until it is closed there."""
    with os.fdopen(terminal, encoding="utf-8", errors="replace") as text, suppress(OSError):
        yield from text


def searches(*, quick: bool) -> list[dict[str, Any]]:
    """First line, stages and first trial of a search by each executor, cold and warm; medians of three if not quick."""
    rows = []
    with tempfile.TemporaryDirectory() as cold:
        for executor in ("auto", "ray"):
            for state, times in (("cold", 1), ("warm", 1 if quick else 3)):
                environment = {}
                if state == "cold":
                    environment = {"PYTHONPYCACHEPREFIX": f"{cold}/{executor}", "BNNSEARCH_CACHE": f"{cold}/cache"}
                runs = sorted((timeline(executor, environment) for _ in range(times)), key=lambda run: run[-1][0])
                run = runs[len(runs) // 2]
                rows.append({"executor": executor, "state": state, "first_line_s": run[0][0],
                             "first_trial_s": run[-1][0], "lines": run})  # fmt: skip
    return rows


def slowest_imports(module: str, count: int = 12) -> list[tuple[float, str]]:
    """Seconds and names of the packages that take longest to import on the way to `module`, with what they import."""
    words = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    found = re.findall(r"\|\s+(\d+) \|\s+([\w.]+)$", told, re.MULTILINE)
    packages = [(int(spent) / 1e6, name) for spent, name in found if name.count(".") < 2]
    return sorted(packages, reverse=True)[:count]


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
    waits = searches(quick=options.quick)
    for wait in waits:
        print(f"\na search, {wait['executor']}, {wait['state']}: seconds since its start")
        for seconds, line in wait["lines"]:
            print(f"{seconds:8.2f}  {line[:100]}")
    imports = slowest_imports("bnnsearch.terminal.following")
    print("\nimports of the driver, s: " + ", ".join(f"{name} {seconds:.2f}" for seconds, name in imports))
    targets = [
        Target(f"{row['command']}, s of processor time", row["processor_s"], TARGETS[row["command"]], better="lower")
        for row in rows
    ]
    warm = next(wait for wait in waits if (wait["executor"], wait["state"]) == ("auto", "warm"))
    targets += [
        Target("first line of a search, s", warm["first_line_s"], 0.3, better="lower"),
        Target("first trial of a search, s", warm["first_trial_s"], 15, better="lower"),
    ]
    show_targets(targets)
    write_figures(
        options.json, [*rows, *waits], targets, packages=("bnnsearch", "pydantic", "click", "torch", "ray", "mlflow"),
        imports=imports,
    )  # fmt: skip


if __name__ == "__main__":
    main()
