"""How long a search whose Ray has died takes to say so and end: from `kill -9` of its GCS or raylet to its exit.

    uv run python benchmarks/ray_dies.py [--quick] [--json FILE]

The search trains a network for ever when the process is killed. It must end with 3 and with the line that resumes it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from figures import Target, show_targets, write_figures

VICTIMS = ("gcs_server", "raylet")
SECONDS = 15.0
SPACE = """
version: 1
name: long
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 2}
resources: {per_trial: {cpu: 1}, max_concurrent: 1}
checkpoint: {interval: 0}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: [8]}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: uniform, min: 0.001, max: 0.1}}
  plan: {epochs: 1000000}
"""


def seconds_to_the_end(home: Path, victim: str) -> float:
    """From the death of the victim to that of the search."""
    (home / "long.yaml").write_text(SPACE)
    with (home / "said").open("w+") as said:
        search = subprocess.Popen(
            [sys.executable, "-m", "bnnsearch", "run", "long.yaml"], cwd=home, stdout=said, stderr=said
        )
        while not any(home.glob("runs/long/*/checkpoints/0.pt")):
            if search.poll() is not None:
                raise RuntimeError(f"the search ended: {(home / 'said').read_text()}")
            time.sleep(0.1)
        (process,) = (each for each in psutil.Process(search.pid).children() if each.name() == victim)
        process.kill()
        killed = time.monotonic()
        code = search.wait()
        seconds = time.monotonic() - killed
    *_, problem, resume = (home / "said").read_text().splitlines()
    if code != 3 or "Ray has died" not in problem or not resume.startswith("  bnnsearch resume "):
        raise RuntimeError(f"it ended with {code}: {problem}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one death of each instead of five")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'killed':14}{'median s':>10}{'longest s':>11}")
    for victim in VICTIMS:
        times = []
        for _ in range(1 if options.quick else 5):
            with tempfile.TemporaryDirectory() as home:
                times.append(seconds_to_the_end(Path(home), victim))
        rows.append({"killed": victim, "median_s": sorted(times)[len(times) // 2], "longest_s": max(times)})
        print(f"{victim:14}{rows[-1]['median_s']:10.2f}{rows[-1]['longest_s']:11.2f}", flush=True)
    targets = [Target(f"{row['killed']}, s to the end", row["longest_s"], SECONDS, better="lower") for row in rows]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("bnnsearch", "ray"))


if __name__ == "__main__":
    main()
