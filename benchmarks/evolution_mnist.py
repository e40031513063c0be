"""What training without floating point reaches on MNIST: the thesis's three algorithms, their literal forms, inertia.

    uv run python benchmarks/evolution_mnist.py --data DIR [--seconds 300] [--seeds 0 1 2] [--algorithms NAME ...]
                                                [--clock wall|processor] [--quick] [--json FILE]

DIR holds `MNIST/raw` as torchvision lays it out. Every run trains for its share of `--seconds`, on as many threads as
torch uses (OMP_NUM_THREADS), one run after the other; compiling and reading are done before. `--clock processor` counts
processor seconds divided by threads instead of wall time: for a machine that is busy otherwise. Inertia's doublings
are spread over a number of epochs that comes from the speed of the first ones. Reported is the test accuracy of the
network that was best on 6,000 training images held out (`plan.keep: best`), its mean and deviation over the seeds.
Beside it the thesis's figure after 30 minutes, on its own hardware.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
from figures import Target, processor, show_targets, write_figures

from bnnsearch import native
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import DataError, Dataset, load_data
from bnnsearch.evolve.build import build_evolution_trainer

FULL_SECONDS = 300.0
QUICK_SECONDS = 20.0
MANY_EPOCHS = 100_000

SMALL = {"crop": 4, "hidden": [256], "bits_per_label": 32}
MIDDLE = {"crop": 2, "hidden": [512], "bits_per_label": 64}
WIDE = {"crop": 2, "hidden": [2048], "bits_per_label": 64}
SHIFTED = {"batch_size": 256, "augment": ["shift"]}
DEEP = {"crop": 2, "hidden": [1024, 1024, 1024, 1024], "bits_per_label": 100}
FLIPS = {"samples": 2500, "margin": 16, "flip_probability": 3e-6}


@dataclass(frozen=True)
class Run:
    """One row of the table.

    Attributes:
        model: settings of the network.
        method: settings of the algorithm.
        data: settings of mini-batches and augmentation.
        share: of the time.
        thesis: accuracy in the thesis, per cent.
        target: accuracy to reach in the full time, per cent.
    """

    model: dict[str, Any]
    method: dict[str, Any]
    data: dict[str, Any]
    share: float = 1.0
    thesis: float | None = None
    target: float | None = None


RUNS = {
    "naive": Run(SMALL, {"name": "naive", **FLIPS}, {}, thesis=10, target=84),
    "naive, plain evaluation": Run(SMALL, {"name": "naive", **FLIPS, "evaluation": "plain"}, {}, thesis=10),
    "naive, hits only": Run(SMALL, {"name": "naive", **FLIPS, "fitness": "hits"}, {}, thesis=10),
    "elitist": Run(SMALL, {"name": "elitist", **FLIPS}, {}, thesis=48, target=60),
    "counting": Run(MIDDLE, {"name": "counting"}, {"batch_size": 512}, thesis=60, target=88),
    "counting, literal": Run(MIDDLE, {"name": "counting", "credit": "literal"}, {"batch_size": 512}, thesis=60),
    "counting, balanced": Run(MIDDLE, {"name": "counting", "credit": "balanced"}, {"batch_size": 512}, thesis=60),
    "inertia, first minute": Run(WIDE, {"name": "inertia", "margin": 64}, SHIFTED, share=1 / 5, target=97.5),
    "inertia": Run(DEEP, {"name": "inertia", "margin": 64}, SHIFTED, target=98.2),
    "inertia, 5 layers": Run(DEEP, {"name": "inertia", "margin": 64}, SHIFTED, share=2 / 5, thesis=60, target=97.5),
}


def trial(run: Run, root: Path, epochs: int, seed: int) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"name": "mnist", "root": str(root), **run.data},
            "model": {"name": "xor_mlp", **run.model},
            "method": run.method,
            "plan": {"epochs": epochs, "keep": "best"},
            "seed": seed,
        }
    )


def processor_time() -> float:
    """Processor seconds of this process, per thread."""
    return time.process_time() / torch.get_num_threads()


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": processor_time}


def planned_epochs(run: Run, root: Path, data: Dataset, seconds: float, clock: Callable[[], float]) -> int:
    """Epochs that fit into the time, with some to spare; also compiles what the run needs."""
    epochs = build_evolution_trainer(trial(run, root, MANY_EPOCHS, 0), data=data).fit()
    next(epochs)
    if run.method["name"] != "inertia":
        return MANY_EPOCHS
    for _ in range(3):  # the first passes ask for more changes than the later ones
        next(epochs)
    started, finished = clock(), 0
    while finished < 3 or clock() - started < seconds / 20:
        next(epochs)
        finished += 1
    return max(int(seconds / (clock() - started) * finished), 4)


def train(run: Run, options: argparse.Namespace, data: Dataset, seed: int) -> dict[str, float]:
    clock, seconds = CLOCKS[options.clock], options.seconds * run.share
    plan = planned_epochs(run, options.data, data, seconds, clock)
    trainer = build_evolution_trainer(trial(run, options.data, plan, seed), data=data)
    started, wall, processor = clock(), time.perf_counter(), time.process_time()
    epochs, accuracy = 0, 0.0
    for metrics in trainer.fit():
        epochs, accuracy = metrics.epoch, metrics.values["val_acc"]
        if clock() - started >= seconds:
            break
    return {
        "test_acc": 100 * trainer.test()["test_acc"],
        "val_acc": 100 * accuracy,
        "epochs": epochs,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }


def row(name: str, run: Run, results: list[dict[str, float]]) -> dict[str, Any]:
    accuracies = [result["test_acc"] for result in results]
    middle = {key: mean(result[key] for result in results) for key in results[0]}
    return {"algorithm": name, **middle, "deviation": pstdev(accuracies), "thesis": run.thesis, "runs": results}


def show(one: dict[str, Any]) -> None:
    thesis = "" if one["thesis"] is None else f"{one['thesis']:.0f}"
    print(
        f"{one['algorithm']:26} {one['test_acc']:6.2f} +- {one['deviation']:4.2f} {one['val_acc']:7.2f} {thesis:>7} "
        f"{one['epochs']:7.0f} {one['seconds']:7.1f} {one['processor_seconds']:7.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BNN_DATA", "data")), help="MNIST/raw is here")
    parser.add_argument("--seconds", type=float, default=FULL_SECONDS, help="time of the longest runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--algorithms", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what the seconds are")
    parser.add_argument("--quick", action="store_true", help=f"one seed, {QUICK_SECONDS:.0f} seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.seeds = QUICK_SECONDS, [0]
    try:
        data = load_data(trial(RUNS["naive"], options.data, 1, 0).data)
    except DataError as error:
        sys.exit(f"{error}\nname the folder that holds MNIST/raw with --data or BNN_DATA")
    threads = torch.get_num_threads()
    print(f"{options.seconds:.0f} s ({options.clock}), {threads} threads, seeds {options.seeds}; per cent")
    header = (f"{'algorithm':26}", f"{'test accuracy':>14}", *(f"{name:>7}" for name in ("valid.", "thesis", "epochs")))
    print(*header, f"{'wall s':>7} {'CPU s':>7}")
    rows, targets = [], []
    for name in options.algorithms:
        run = RUNS[name]
        results = [train(run, options, data, seed) for seed in options.seeds]
        rows.append(row(name, run, results))
        show(rows[-1])
        if run.target is not None and options.seconds >= FULL_SECONDS:
            targets.append(Target(f"{name}: test accuracy, %", rows[-1]["test_acc"], run.target))
    show_targets(targets)
    settings = {"cpu": processor(), "variant": native.chosen(), "threads": threads, "clock": options.clock}
    write_figures(options.json, rows, targets, packages=("numpy", "deap", "torch"), **settings)


if __name__ == "__main__":
    main()
