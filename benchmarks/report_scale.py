"""How long `report` and `status` take on a large finished study, as commands, from their start to their exit.

    uv run python benchmarks/report_scale.py [--quick] [--json FILE]

The study is made, not trained: trials of 30 epochs with twelve layers, three objectives, eight parameters of which
three are conditional, a fifth of the trials pruned. Its tracking store is empty, as that of a delivered study: `report`
has nothing to send. Every command runs three times (--quick: once), the imports included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from figures import Target, show_targets, write_figures

from bnnsearch.core.trainer import WEIGHT_BINS, EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.record import Record, held
from bnnsearch.results import TrialResult, TrialState

TARGETS = {"report": 10.0, "status": 2.0}
EPOCHS, LAYERS = 30, 12
SPACE = """
version: 1
name: large
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}, {metric: train_bitops, mode: min}]
budget: {trials: 1000}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: {type: choice, values: [[64], [128], [256]]}}
  method: {name: ste}
"""


def make_study(path: Path, trials: int) -> None:
    """A study's folder as a search leaves it."""
    with held(StudyFolder(path)) as record:
        record.begin_session(name="large", seed=0, space=SPACE)
        fill(record, trials)


def fill(record: Record, trials: int) -> None:
    """Every event of the study that is read."""
    generator = np.random.default_rng(0)
    for number in range(trials):
        pruned = number % 5 == 4
        epochs = 6 if pruned else EPOCHS
        quality, memory = generator.random(), float(generator.integers(1_000, 1_000_000))
        for epoch in range(1, epochs + 1):
            accuracy = 0.5 + 0.5 * quality * epoch / EPOCHS
            values = {"val_acc": accuracy, "train_loss": 1 / epoch, "lr": 0.1 / epoch, "flip_rate": 0.1 / epoch}
            layers = {"flip_rate": {f"layer{layer}": 0.1 / epoch for layer in range(LAYERS)}}
            weights = [round(float(share), 5) for share in generator.dirichlet(np.ones(len(WEIGHT_BINS)))]
            metrics = EpochMetrics(epoch, EPOCHS, "train", values, layers, weights)
            record.append("epoch", number=number, **asdict(metrics))
        params: dict[str, Any] = {f"size{place}": int(generator.integers(1, 10)) for place in range(4)}
        params |= {"method": "bnew" if number % 2 else "ste"}
        if number % 2:
            params |= {f"method.bnew.rate{place}": float(10 ** generator.uniform(-4, 0)) for place in range(3)}
        metrics = {"val_acc": accuracy, "memory_bytes": memory, "train_bitops": memory * generator.random()}
        state = TrialState.PRUNED if pruned else TrialState.COMPLETE
        result = TrialResult(number, state, {"seed": number}, params, metrics, epochs=epochs)
        record.append("ended", **asdict(result))


def seconds(command: str, study: Path) -> float:
    """Wall time of the command as a user starts it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "bnnsearch", command, str(study)],
        cwd=study.parent, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - start


def measure(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """One row for each size and command."""
    rows = []
    for trials in sizes:
        with tempfile.TemporaryDirectory() as home:
            study = Path(home) / "study"
            make_study(study, trials)
            times: dict[str, list[float]] = {command: [] for command in TARGETS}
            for _ in range(rounds):
                for command, taken in times.items():
                    taken.append(seconds(command, study))
        rows += [
            {"command": command, "trials": trials, "s": median(taken), "lowest": min(taken), "highest": max(taken)}
            for command, taken in times.items()
        ]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, of 1,000 trials alone")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows = measure([1000], 1) if options.quick else measure([100, 1000, 5000], 3)
    print(f"{'command':10}{'trials':>8}{'median s':>10}{'lowest':>10}{'highest':>10}")
    for row in rows:
        print(f"{row['command']:10}{row['trials']:8}{row['s']:10.2f}{row['lowest']:10.2f}{row['highest']:10.2f}")
    by_command = {row["command"]: row["s"] for row in rows if row["trials"] == 1000}
    targets = [
        Target(f"{command} on 1,000 trials, s", by_command[command], bound, better="lower")
        for command, bound in TARGETS.items()
    ]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("bnnsearch", "mlflow", "matplotlib"))


if __name__ == "__main__":
    main()
