"""Training epochs and wall time until a search's front is as good as 95 % of the best there is.

    uv run python benchmarks/search_efficiency.py [--quick] [--json FILE] [--work FOLDER]

The space is that of the table `digits_bnew` (`benchmarks/tabular.py`): perceptrons for scikit-learn's digits trained by
BNEW as in its paper, by ten shapes, two activations and eleven growths. Two objectives: validation accuracy up, memory
down. The table has the learning curve of every configuration, so that the best there is, the target and its
hypervolume (accuracy against the logarithm of memory) are known exactly.

Epochs are counted by replaying those curves: each side searches as it would, one trial at a time, and pays every epoch
it asks for; pretraining that is shared is paid once. The sides:

- bnnsearch: the default sampler, shared pretraining, multi-objective halving on the accuracy of the sign network.
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
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Self

from figures import Target, show_targets, write_figures

os.environ.update(OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_AIR_NEW_OUTPUT="0")

import numpy as np
import optuna
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch
from tabular import TABLES, Replay, Row, Table, read_lines

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import hypervolume, hypervolume_series, reference_point
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.space import Space, load_space
from bnnsearch.space.search_space import SearchSpace
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.tracking.tracker import Tracker
from bnnsearch.trial import build_trainer

SLOTS, SHARE = 2, 0.95
FINETUNE, EPOCHS = 4, 48
ALLOWANCE = 120 * EPOCHS
"""Epochs after which a side gives up."""

SPACE = TABLES / "digits_bnew.yaml"
QUICK = ["[8]", "[16]", "[64]", "[256]", "[64,64]"]
"""Shapes of the smaller space."""

ASHA = "{name: asha, grace_epochs: 2, reduction_factor: 4}"


def space_of(folder: Path, bench: Bench, *, seed: int = 0, scheduler: str = ASHA, share: bool = True) -> Space:
    """What a side of ours searches, recorded in `folder`."""
    overrides = [
        f"seed={seed}", f"scheduler={scheduler}", f"share_pretraining={str(share).lower()}",
        f"tracking.uri=sqlite:///{folder}/mlflow.db",
        f"trial.model.hidden.values=[{','.join(bench.choices['model.hidden'])}]",
    ]  # fmt: skip
    return load_space(SPACE, overrides=overrides)


# The target


def outcome(row: Row) -> tuple[float, float]:
    """Accuracy and bytes at the end of a run."""
    return row["val_acc"][-1], row.costs["memory_bytes"]


class Goal:
    """How much of the best front has been found: 1 is all of its hypervolume."""

    modes = ("max", "min")

    def __init__(self, rows: Sequence[Row]) -> None:
        points = [self.point(*outcome(row)) for row in rows]
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


# The sides


@dataclass(frozen=True)
class Bench:
    """What all searches have in common.

    Attributes:
        table: the curves.
        choices: values of each parameter.
        goal: what is to be found.
    """

    table: Table
    choices: Mapping[str, list[Any]]
    goal: Goal

    @classmethod
    def of(cls, table: Table, shapes: Sequence[str] | None) -> Self:
        """The bench of the table, or of its networks with these shapes alone."""
        rows = [row for row in table.rows if shapes is None or row.params["model.hidden"] in shapes]
        choices = {name: list(dict.fromkeys(row.params[name] for row in rows)) for name in table.rows[0].params}
        return cls(Table(table.space, rows), choices, Goal(rows))


def ours(bench: Bench, seed: int, *, scheduler: str = ASHA, share: bool = True, relaxed: bool = False) -> Meter:
    """bnnsearch, replayed."""
    hidden = {"shown": {"val_acc": "train_acc"}, "hidden": FINETUNE} if relaxed else {}

    def build(config: dict[str, Any]) -> Replay:
        return Replay(bench.table.curve_of(config), **hidden)

    with clean_folder() as folder, suppress(Reached):
        space = space_of(folder, bench, seed=seed, scheduler=scheduler, share=share)
        meter = Meter(bench.goal, ALLOWANCE)
        run_study(space, study_dir=folder / "study", executor=LocalExecutor(), observers=[meter], build_trainer=build)
    return meter


def ours_live(bench: Bench, seed: int) -> Meter:
    """Bnnsearch on Ray, recorded in MLflow."""
    with clean_folder() as folder, suppress(Reached):
        space, study = space_of(folder, bench, seed=seed), StudyFolder(folder / "study")
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
    searcher = OptunaSearch(metric=["val_acc", "memory_bytes"], mode=["max", "min"], seed=seed)
    return searcher, {name: tune.choice(values) for name, values in bench.choices.items()}


def plain(bench: Bench, seed: int) -> Meter:
    """OptunaSearch, replayed."""
    meter = Meter(bench.goal, ALLOWANCE)
    searcher, space = tune_search(bench, seed)
    searcher.set_search_properties(None, None, space)
    while not meter.reached and meter.epochs < ALLOWANCE:
        trial = str(len(meter.found))
        accuracy, memory = outcome(bench.table.curve(searcher.suggest(trial)))
        meter.epochs += EPOCHS
        meter.finished(accuracy, memory)
        result = {"val_acc": accuracy, "memory_bytes": memory, "training_iteration": EPOCHS}
        searcher.on_trial_complete(trial, result)
    return meter


def train_and_report(choice: dict[str, Any], *, space: SearchSpace) -> None:
    torch.set_num_threads(1)
    trainer = build_trainer(TrialConfig.model_validate(space.config_of(choice)))
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
            tune.with_resources(partial(train_and_report, space=bench.table.space.trial), {"CPU": 1}),
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
    rows = [row for row in read_lines(path) if row["seed"] < seeds]
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
    shapes, seeds, live_seeds = (QUICK, 5, 1) if options.quick else (None, 40, 5)
    bench = Bench.of(Table.load("digits_bnew"), shapes)
    replayed = measured(REPLAYED, bench, seeds, kind="replayed", work=work)
    best = f"the best hypervolume, {bench.goal.best:.4f}"
    print(f"{len(bench.table.rows)} configurations; the target is {SHARE:.0%} of {best}")
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
