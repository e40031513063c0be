"""How well the accuracy of the sign network at each rung ranks trials as their ends do, on a real BNEW search.

    uv run python benchmarks/rung_correlation.py [--quick] [--json FILE] [--png FILE]

The paper (Paren & Poudel, 2022) names as BNEW's weakness that nothing tells how a run will end before its fine-tuning.
bnnsearch projects the relaxed weights on their signs after every epoch and stops trials by that network's accuracy.
Here a search over networks, learning rates and growth in nats on scikit-learn's digits trains every trial to its end;
for each epoch after pretraining Spearman's rank correlation with the final validation accuracy is computed, of the
projected accuracy and, beside it, of the training accuracy of the relaxed network. Within one network the ranks say
whether a rung can tell settings apart, over all networks whether it can stop trials.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import write_figures

os.environ.update(OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.space import load_space
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study

PRETRAIN, EPOCHS = 8, 60
RUNGS = (1, 2, 4, 8, 16, 32)

SPACE = """
version: 1
name: rung_correlation
seed: 3
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
sampler: {{name: tpe, startup_trials: 20}}
budget: {{trials: {trials}}}
resources: {{per_trial: {{cpu: 1}}, max_concurrent: 2}}
trial:
  data: {{name: digits, val_fraction: 0.25, batch_size: 128}}
  model:
    name: mlp
    hidden: {{type: choice, values: [[16], [64], [256], [32, 32], [128, 128]]}}
    activation: {{type: choice, values: [hardtanh, rprelu]}}
  method:
    name: bnew
    pretrain_epochs: 8
    finetune_epochs: 4
    growth: {{type: loguniform, min: 1.0, max: 300.0}}
  optimizer: {{name: adam, lr: {{type: choice, values: [0.0003, 0.001, 0.003, 0.01, 0.03]}}}}
  plan: {{epochs: 60}}
"""


class Curves(StudyObserver):
    """A `StudyObserver` that keeps, per trial and epoch, the projected and the relaxed network's accuracy."""

    def __init__(self) -> None:
        self.values: dict[int, dict[int, tuple[float, float]]] = {}

    # ruff: disable[ARG002]
    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self.values[number] = {}

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.values[number][metrics.epoch] = metrics.values["val_acc"], metrics.values["train_acc"]

    # ruff: enable[ARG002]


def search(trials: int) -> tuple[tuple[TrialResult, ...], Curves]:
    curves = Curves()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BNNSEARCH_CACHE"] = str(folder / "cache")
        (folder / "space.yaml").write_text(SPACE.format(trials=trials))
        outcome = run_study(
            load_space(folder / "space.yaml"), study_dir=folder / "study", executor=RayExecutor(num_cpus=2),
            observers=[curves],
        )  # fmt: skip
    assert all(result.state is TrialState.COMPLETE for result in outcome.results)
    return outcome.results, curves


def correlations(results: Sequence[TrialResult], curves: Curves) -> list[dict[str, float]]:
    """A row per epoch after pretraining: rank correlations with the final accuracy."""
    networks: dict[str, list[int]] = {}
    for result in results:
        networks.setdefault(json.dumps(result.config["model"], sort_keys=True), []).append(result.number)
    last = {result.number: result.metrics["val_acc"] for result in results}

    def rank(numbers: Sequence[int], epoch: int, which: int) -> float:
        now = [curves.values[number][epoch][which] for number in numbers]
        return float(spearmanr(now, [last[number] for number in numbers]).statistic)

    rows = []
    for epoch in range(1, EPOCHS - PRETRAIN + 1):
        at = PRETRAIN + epoch
        within = [rank(numbers, at, 0) for numbers in networks.values() if len(numbers) >= 6]
        rows.append(
            {
                "epoch": epoch,
                "projected": rank(list(last), at, 0),
                "relaxed": rank(list(last), at, 1),
                "within_network": float(np.nanmedian(within)) if within else float("nan"),
            }
        )
    return rows


def draw(rows: Sequence[Mapping[str, float]], results: Sequence[TrialResult], curves: Curves, path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for key, text in (
        ("projected", "projected, all trials"),
        ("within_network", "projected, within one network (median)"),
        ("relaxed", "relaxed network's training accuracy"),
    ):
        left.plot(epochs, [row[key] for row in rows], label=text)
    for rung in RUNGS:
        left.axvline(rung, color="#e5e7eb", zorder=0)
    left.set(xscale="log", xlabel="epochs after pretraining", ylabel="Spearman's rank correlation with the end")
    left.legend(frameon=False, fontsize=8)
    final = [result.metrics["val_acc"] for result in results]
    for rung, colour in zip((1, 4, 16), ("#a3aab5", "#f97316", "#2563eb"), strict=True):
        now = [curves.values[result.number][PRETRAIN + rung][0] for result in results]
        right.scatter(now, final, s=14, color=colour, label=f"rung {rung}", alpha=0.8)
    right.set(xlabel="projected accuracy at the rung", ylabel="final validation accuracy")
    right.legend(frameon=False, fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--png", type=Path, help="draw them into this file")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    results, curves = search(40 if options.quick else 120)
    rows = correlations(results, curves)
    print(f"{len(results)} trials; rank correlation with the final accuracy")
    print(f"{'rung':>6}{'projected':>12}{'within network':>16}{'relaxed':>10}")
    by_epoch = {row["epoch"]: row for row in rows}
    for rung in RUNGS:
        row = by_epoch[rung]
        print(f"{rung:6}{row['projected']:12.3f}{row['within_network']:16.3f}{row['relaxed']:10.3f}")
    if options.png:
        draw(rows, results, curves, options.png)
    write_figures(options.json, rows, packages=("ray", "optuna", "torch"))


if __name__ == "__main__":
    main()
