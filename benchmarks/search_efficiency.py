"""Training epochs and wall time until a search's front is as good as 95 % of the best there is.

    uv run python benchmarks/search_efficiency.py [--quick] [--json FILE] [--work FOLDER]

The space: perceptrons for scikit-learn's digits trained by BNEW as in its paper (Adam at 0.01, a sixth of the run is
pretraining): ten shapes, two activations, growth from 1 to 300 nats, which means the same at any budget. Two
objectives: validation accuracy up, memory down. Its every configuration is trained once, by the trainer that all sides
use, and its learning curve kept in FOLDER. The best there is, the target and its hypervolume (accuracy against the
logarithm of memory) are therefore known exactly.

Epochs are counted by replaying those curves: each side searches as it would, one trial at a time, and pays every epoch
it asks for; pretraining that is shared is paid once. The sides:

- bnnsearch: TPE, shared pretraining, multi-objective halving on the accuracy of the sign network.
- without each of these three: no shared pretraining; halving on the training accuracy of the relaxed network, the only
  one there is before BNEW's end without projection; no halving.
- Tune as its documentation shows: OptunaSearch with two metrics; every trial trains to its end.

Wall time is measured on real searches, on Ray with two slots, training and recording in MLflow: bnnsearch by
`run_study` with its tracker, Tune by a function that reports and MLflowLoggerCallback. Either stops once its front
reaches the target; Ray's own start is not counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from figures import Target, show_targets, write_figures

os.environ.update(OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_AIR_NEW_OUTPUT="0")

import numpy as np
import optuna
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import hypervolume, hypervolume_series, reference_point
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.space import Space, load_space
from bnnsearch.study.grid import grid_points
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.pretraining import pretraining_key
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.tracking.tracker import Tracker
from bnnsearch.trial import build_trainer

SLOTS, SHARE = 2, 0.95
PRETRAIN, FINETUNE, EPOCHS = 8, 4, 48
ALLOWANCE = 120 * EPOCHS
"""Epochs after which a side gives up."""

FULL: dict[str, list[Any]] = {
    "hidden": [[8], [16], [32], [64], [128], [256], [16, 16], [32, 32], [64, 64], [128, 128]],
    "activation": ["hardtanh", "rprelu"],
    "growth": [1.0, 1.8, 3.0, 5.5, 10.0, 18.0, 30.0, 55.0, 100.0, 180.0, 300.0],
}
QUICK = FULL | {"hidden": [[8], [16], [64], [256], [64, 64]]}

SPACE = """
version: 1
name: search_efficiency
seed: {seed}
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
sampler: {{name: tpe}}
scheduler: {scheduler}
share_pretraining: {share}
budget: {{trials: 2000}}
resources: {{per_trial: {{cpu: 1}}, max_concurrent: 2}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
trial:
  seed: 0
  data: {{name: digits, val_fraction: 0.25, batch_size: 128}}
  model:
    name: mlp
    hidden: {{type: choice, values: {choices[hidden]}}}
    activation: {{type: choice, values: {choices[activation]}}}
  method:
    name: bnew
    pretrain_epochs: {pretrain}
    finetune_epochs: {finetune}
    growth: {{type: choice, values: {choices[growth]}}}
  optimizer: {{name: adam, lr: 0.01}}
  plan: {{epochs: {epochs}}}
"""
ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 4}"


def space_of(
    folder: Path, choices: Mapping[str, list[Any]], *, seed: int = 0, scheduler: str = ASHA, share: bool = True
) -> Space:
    path = folder / "space.yaml"
    text = SPACE.format(
        seed=seed, scheduler=scheduler, share=str(share).lower(), folder=folder, choices=choices,
        pretrain=PRETRAIN, finetune=FINETUNE, epochs=EPOCHS,
    )  # fmt: skip
    path.write_text(text)
    return load_space(path)


# Learning curves of all configurations


@dataclass(frozen=True)
class Curve:
    """What training one configuration gives, epoch by epoch."""

    memory: float
    val_acc: Sequence[float]
    train_acc: Sequence[float]


def name_of(config: Mapping[str, Any]) -> str:
    return json.dumps([config["model"], config["method"], config["optimizer"]], sort_keys=True)


def train_family(configs: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    """Train configurations of one pretraining, which is trained once."""
    torch.set_num_threads(1)
    curves, shared, first = {}, None, []
    for config in configs:
        trainer = build_trainer(TrialConfig.model_validate(config))
        if shared is None:
            epochs = trainer.fit()
            first = [next(epochs) for _ in range(PRETRAIN)]
            shared = deepcopy(trainer.state_dict())
        else:
            trainer.load_state_dict(deepcopy(shared))
        values = [metrics.values for metrics in (*first, *trainer.fit())]
        memory = trainer.costs()["memory_bytes"]
        curves[name_of(config)] = Curve(memory, [each["val_acc"] for each in values], [v["train_acc"] for v in values])
    return curves


def all_curves(work: Path, choices: Mapping[str, list[Any]]) -> dict[str, Curve]:
    """The curves of every configuration; those found in `work` are not trained again."""
    path = work / "curves.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    curves = {name: Curve(*values) for name, *values in lines}
    space = space_of(work, choices).trial
    configs = [space.config_of(params) for params in grid_points(space, points=2, seed=0)]
    families: dict[str | None, list[dict[str, Any]]] = {}
    for config in configs:
        if name_of(config) not in curves:
            families.setdefault(pretraining_key(config), []).append(config)
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool, path.open("a") as kept:
        for done, found in enumerate(pool.imap_unordered(train_family, families.values()), start=1):
            for name, curve in found.items():
                kept.write(json.dumps([name, curve.memory, curve.val_acc, curve.train_acc]) + "\n")
            kept.flush()
            curves |= found
            print(f"  curves: {done} of {len(families)} families, {time.perf_counter() - started:.0f} s", flush=True)
    return {name_of(config): curves[name_of(config)] for config in configs}


# The target


class Goal:
    """How much of the best front has been found: 1 is all of its hypervolume."""

    modes = ("max", "min")

    def __init__(self, curves: Mapping[str, Curve]) -> None:
        points = [self.point(curve.val_acc[-1], curve.memory) for curve in curves.values()]
        self.reference = reference_point(points, self.modes)
        self.best = hypervolume(points, self.modes, self.reference)

    @staticmethod
    def point(accuracy: float, memory: float) -> tuple[float, float]:
        return accuracy, float(np.log2(memory))

    def shares(self, found: Sequence[tuple[float, float]]) -> np.ndarray:
        """The share after each finished trial, given as accuracy and bytes."""
        return hypervolume_series([self.point(*each) for each in found], self.modes, self.reference) / self.best


class Reached(Exception):  # noqa: N818  # it is what is hoped for
    """The front is good enough."""


@dataclass
class Meter(StudyObserver):
    """Counts epochs and watches the front; a `StudyObserver`. Raises `Reached` at the target or at the allowance."""

    goal: Goal
    allowance: float = float("inf")
    epochs: int = 0
    found: list[tuple[float, float]] = field(default_factory=list)
    reached: bool = False
    began: float = field(default_factory=time.perf_counter)
    seconds: float = float("inf")

    # ruff: disable[ARG002]
    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.epochs += 1

    # ruff: enable[ARG002]
    def trial_finished(self, result: TrialResult) -> None:
        if result.selectable:
            self.finished(result.metrics["val_acc"], result.metrics["memory_bytes"])
        if self.reached or self.epochs >= self.allowance:
            raise Reached

    def finished(self, accuracy: float, memory: float) -> None:
        self.found.append((accuracy, memory))
        if not self.reached and self.goal.shares(self.found)[-1] >= SHARE:
            self.reached, self.seconds = True, time.perf_counter() - self.began


# Replayed searches


class Replay:
    """A trainer that knows how its training goes; `relaxed` reports what there is without projection."""

    def __init__(self, config: dict[str, Any], *, curves: Mapping[str, Curve], relaxed: bool) -> None:
        self.curve, self.relaxed, self.epoch = curves[name_of(config)], relaxed, 0

    def fit(self) -> Iterator[EpochMetrics]:
        while self.epoch < EPOCHS:
            self.epoch += 1
            binary = self.epoch > EPOCHS - FINETUNE or not self.relaxed
            accuracy = (self.curve.val_acc if binary else self.curve.train_acc)[self.epoch - 1]
            yield EpochMetrics(self.epoch, EPOCHS, "replay", {"val_acc": accuracy})

    def costs(self) -> dict[str, float]:
        return {"memory_bytes": self.curve.memory}

    def test(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


# The sides


@dataclass(frozen=True)
class Bench:
    """What all searches have in common."""

    choices: Mapping[str, list[Any]]
    curves: Mapping[str, Curve]
    goal: Goal


def ours(bench: Bench, seed: int, *, scheduler: str = ASHA, share: bool = True, relaxed: bool = False) -> Meter:
    """bnnsearch, replayed."""
    build = partial(Replay, curves=bench.curves, relaxed=relaxed)
    with clean_folder() as folder, suppress(Reached):
        space = space_of(folder, bench.choices, seed=seed, scheduler=scheduler, share=share)
        meter = Meter(bench.goal, ALLOWANCE)
        run_study(space, study_dir=folder / "study", executor=LocalExecutor(), observers=[meter], build_trainer=build)
    return meter


def ours_live(bench: Bench, seed: int) -> Meter:
    """Bnnsearch on Ray, recorded in MLflow."""
    with clean_folder() as folder, suppress(Reached):
        space, study = space_of(folder, bench.choices, seed=seed), StudyFolder(folder / "study")
        meter = Meter(bench.goal)
        with Tracker(space.study, study) as tracker:
            run_study(space, study_dir=study.path, executor=RayExecutor(), observers=[tracker, meter])
    return meter


@contextmanager
def clean_folder() -> Iterator[Path]:
    """A folder for one search, which finds nothing that another one has left."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["BNNSEARCH_CACHE"] = str(Path(name) / "cache")
        yield Path(name)


def tune_search(bench: Bench, seed: int) -> tuple[OptunaSearch, dict[str, Any]]:
    choices = bench.choices | {"hidden": [json.dumps(each) for each in bench.choices["hidden"]]}
    searcher = OptunaSearch(metric=["val_acc", "memory_bytes"], mode=["max", "min"], seed=seed)
    return searcher, {name: tune.choice(values) for name, values in choices.items()}


def tuned(choice: Mapping[str, Any]) -> dict[str, Any]:
    """The training run of what Tune has chosen."""
    method = {"name": "bnew", "pretrain_epochs": PRETRAIN, "finetune_epochs": FINETUNE}
    return {
        "seed": 0,
        "data": {"name": "digits", "val_fraction": 0.25, "batch_size": 128},
        "model": {"name": "mlp", "hidden": json.loads(choice["hidden"]), "activation": choice["activation"]},
        "method": method | {"growth": choice["growth"]},
        "optimizer": {"name": "adam", "lr": 0.01},
        "plan": {"epochs": EPOCHS},
    }


def plain(bench: Bench, seed: int) -> Meter:
    """OptunaSearch, replayed."""
    meter = Meter(bench.goal, ALLOWANCE)
    searcher, space = tune_search(bench, seed)
    searcher.set_search_properties(None, None, space)
    while not meter.reached and meter.epochs < ALLOWANCE:
        trial = str(len(meter.found))
        curve = bench.curves[name_of(tuned(searcher.suggest(trial)))]
        meter.epochs += EPOCHS
        meter.finished(curve.val_acc[-1], curve.memory)
        result = {"val_acc": curve.val_acc[-1], "memory_bytes": curve.memory, "training_iteration": EPOCHS}
        searcher.on_trial_complete(trial, result)
    return meter


def train_and_report(choice: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    trainer = build_trainer(TrialConfig.model_validate(tuned(choice)))
    memory = trainer.costs()["memory_bytes"]
    for metrics in trainer.fit():
        tune.report({**metrics.values, "memory_bytes": memory})


class Watch(tune.Callback, tune.Stopper):
    """Tells a meter of Tune's trials, and ends the experiment at the target."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    # ruff: disable[ARG002]
    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        self.meter.epochs += 1

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self.meter.finished(trial.last_result["val_acc"], trial.last_result["memory_bytes"])

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    # ruff: enable[ARG002]
    def stop_all(self) -> bool:
        return self.meter.reached


def plain_live(bench: Bench, seed: int) -> Meter:
    """Tune as documented."""
    with clean_folder() as folder:
        searcher, space = tune_search(bench, seed)
        meter = Meter(bench.goal)
        watch = Watch(meter)
        tracking = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder}/mlflow.db", experiment_name="efficiency")
        tune.Tuner(
            tune.with_resources(train_and_report, {"CPU": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                search_alg=searcher, num_samples=ALLOWANCE // EPOCHS, max_concurrent_trials=SLOTS
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "ray"), callbacks=[tracking, watch], stop=watch, verbose=0
            ),
        ).fit()
    return meter


Side = Callable[[Bench, int], Meter]
OURS, PLAIN = "bnnsearch", "Tune as documented"
REPLAYED: dict[str, Side] = {
    OURS: ours,
    "  without shared pretraining": partial(ours, share=False),
    "  without projected rungs": partial(ours, relaxed=True),
    "  without multi-objective ASHA": partial(ours, scheduler="{name: none}"),
    PLAIN: plain,
}
LIVE: dict[str, Side] = {OURS: ours_live, PLAIN: plain_live}


# The tables


def measured(sides: Mapping[str, Side], bench: Bench, seeds: int, *, kind: str, work: Path) -> list[dict[str, Any]]:
    """One row per side and seed; those that `work` holds are not measured again. The sides take turns."""
    path = work / f"{kind}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rows = [row for row in rows if row["seed"] < seeds]
    for seed in range(seeds):
        for name, side in sides.items():
            if any((row["side"], row["seed"]) == (name, seed) for row in rows):
                continue
            meter = side(bench, seed)
            row = {"side": name, "seed": seed, "epochs": meter.epochs if meter.reached else ALLOWANCE,
                   "seconds": meter.seconds, "finished": len(meter.found), "reached": meter.reached}  # fmt: skip
            rows.append(row)
            with path.open("a") as kept:
                kept.write(json.dumps(row) + "\n")
            if kind == "live":
                print(f"  live, seed {seed}: {name}: {row['epochs']} epochs, {row['seconds']:.0f} s", flush=True)
    return rows


def table(title: str, rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, dict[str, float]]:
    """Print and return the median and spread of `key` for every side."""
    print(f"\n{title}\n{'side':32}{'median':>9}{'lowest':>9}{'highest':>9}{'ratio':>8}{'trials':>8}{'missed':>8}")
    sides: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        sides.setdefault(row["side"], []).append(row)
    summary = {}
    for name, own in sides.items():
        values = [row[key] for row in own]
        summary[name] = {"median": median(values), "lowest": min(values), "highest": max(values)}
    for name, own in sides.items():
        each = summary[name]
        ratio = each["median"] / summary[PLAIN]["median"]
        missed = sum(not row["reached"] for row in own)
        print(
            f"{name:32}{each['median']:9.0f}{each['lowest']:9.0f}{each['highest']:9.0f}{ratio:8.2f}"
            f"{median(row['finished'] for row in own):8.0f}{missed:8}"
        )
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smaller space, fewer seeds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured, so that a second call goes on")
    parser.add_argument("--no-live", action="store_true", help="leave out the wall time")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        report(options, work.absolute())


def report(options: argparse.Namespace, work: Path) -> None:
    choices, seeds, live_seeds = (QUICK, 5, 1) if options.quick else (FULL, 20, 5)
    curves = all_curves(work, choices)
    bench = Bench(choices, curves, Goal(curves))
    replayed = measured(REPLAYED, bench, seeds, kind="replayed", work=work)
    print(f"{len(curves)} configurations; the target is {SHARE:.0%} of the best hypervolume, {bench.goal.best:.4f}")
    epochs = table(f"training epochs to the target, {seeds} seeds, replayed", replayed, "epochs")
    targets = [share_of_tunes("epochs", epochs, 1 / 3)]
    live: list[dict[str, Any]] = []
    if not options.no_live:
        ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
        live = measured(LIVE, bench, live_seeds, kind="live", work=work)
        ray.shutdown()
        table(f"training epochs to the target, {live_seeds} seeds, on Ray", live, "epochs")
        seconds = table(f"seconds to the target, {live_seeds} seeds, on Ray with MLflow", live, "seconds")
        targets.append(share_of_tunes("seconds", seconds, 1))
    show_targets(targets)
    rows = [row | {"kind": kind} for kind, own in (("replayed", replayed), ("live", live)) for row in own]
    write_figures(options.json, rows, targets, packages=("ray", "optuna", "mlflow", "torch"))


def share_of_tunes(what: str, summary: Mapping[str, Mapping[str, float]], bound: float) -> Target:
    share = summary[OURS]["median"] / summary[PLAIN]["median"]
    return Target(f"{what} to the target, share of Tune's", share, bound, better="lower")


if __name__ == "__main__":
    main()
