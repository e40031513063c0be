"""What a search costs beside the training: milliseconds per trial over bare training, for trials that train nothing.

    uv run python benchmarks/overhead.py [--quick] [--json FILE]

Every side runs the same trials (a real space, three epochs that return at once), records every epoch in MLflow in an
SQLite store of its own, and has the same two Ray slots; workers load torch, as any training would. The sides take
turns; the whole call is timed, the start of Ray and a short run of each side before are not. The sides:

- bnnsearch: `run_study` with the Ray executor and the MLflow tracker.
- bnnsearch, one process: the same with the local executor.
- Tune as its documentation shows: a function that reports, OptunaSearch, MLflowLoggerCallback.
- Tune with `reuse_actors`: the same with a class, so that workers are kept.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from figures import Target, show_targets, write_figures

os.environ.update(OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_AIR_NEW_OUTPUT="0")

import optuna
import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.space import load_space
from bnnsearch.study.executor import Executor
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.tracking.tracker import Tracker

SLOTS, EPOCHS = 2, 3
SPACE = """
version: 1
name: overhead
seed: {seed}
objectives: [{{metric: val_acc, mode: max}}, {{metric: memory_bytes, mode: min}}]
sampler: {{name: tpe}}
budget: {{trials: {trials}}}
resources: {{per_trial: {{cpu: 1}}, max_concurrent: 2}}
tracking: {{uri: "sqlite:///{folder}/mlflow.db"}}
trial:
  data: {{name: digits}}
  model: {{name: mlp, hidden: {{type: choice, values: [[16], [32], [64]]}}}}
  method: {{name: ste}}
  optimizer: {{name: adam, lr: {{type: loguniform, min: 0.001, max: 0.1}}}}
  plan: {{epochs: 3}}
"""


def values(lr: float, neurons: int, epoch: int) -> dict[str, float]:
    """What an epoch reports: as many numbers as a real one."""
    accuracy = 1 - lr - 0.5**epoch
    names = ("train_loss", "train_acc", "flip_rate", "binary_fraction", "lr", "images_per_s", "val_loss")
    return {"val_acc": accuracy, "memory_bytes": 100.0 * neurons} | dict.fromkeys(names, accuracy)


class Trivial:
    """A trainer that trains nothing."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.lr, self.neurons = config["optimizer"]["lr"], config["model"]["hidden"][0]

    def fit(self) -> Iterator[EpochMetrics]:
        for epoch in range(1, EPOCHS + 1):
            yield EpochMetrics(epoch, EPOCHS, "train", values(self.lr, self.neurons, epoch))

    def costs(self) -> dict[str, float]:
        return {"memory_bytes": 100.0 * self.neurons}

    def test(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def bare(_: Path, trials: int, seed: int) -> None:
    for _ in range(trials):
        for _ in Trivial({"optimizer": {"lr": 0.01}, "model": {"hidden": [seed]}}).fit():
            pass


def ours(executor: Executor) -> Callable[[Path, int, int], None]:
    def search(folder: Path, trials: int, seed: int) -> None:
        path = folder / "space.yaml"
        path.write_text(SPACE.format(seed=seed, trials=trials, folder=folder))
        space = load_space(path)
        study = StudyFolder(folder / "study")
        with Tracker(space.study, study) as tracker:
            outcome = run_study(
                space, study_dir=study.path, executor=executor, observers=[tracker], build_trainer=Trivial
            )
        assert len(outcome.results) == trials
        assert not tracker.undelivered

    return search


def reports(config: dict[str, Any]) -> None:
    import torch  # noqa: F401

    for epoch in range(1, EPOCHS + 1):
        tune.report(values(config["lr"], config["hidden"], epoch))


class Reports(tune.Trainable):
    """The same as a class, so that its process can be kept."""

    def setup(self, config: dict[str, Any]) -> None:
        import torch  # noqa: F401

        self.epoch, self.now = 0, config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        return values(self.now["lr"], self.now["hidden"], self.epoch) | {"done": self.epoch == EPOCHS}


def plain(trainable: Any, *, reuse: bool) -> Callable[[Path, int, int], None]:
    def search(folder: Path, trials: int, seed: int) -> None:
        uri = f"sqlite:///{folder}/mlflow.db"
        grid = tune.Tuner(
            tune.with_resources(trainable, {"CPU": 1}),
            param_space={"lr": tune.loguniform(0.001, 0.1), "hidden": tune.choice([16, 32, 64])},
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    metric=["val_acc", "memory_bytes"],
                    mode=["max", "min"],
                    sampler=optuna.samplers.TPESampler(seed=seed),
                ),
                num_samples=trials,
                max_concurrent_trials=SLOTS,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                storage_path=str(folder / "ray"),
                callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="overhead")],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False) if reuse else None,
                verbose=0,
            ),
        ).fit()
        assert len(grid) == trials
        assert not grid.errors

    return search


def measure(trials: int, rounds: int, slow_trials: int) -> list[dict[str, Any]]:
    """Milliseconds per trial of each side, the sides in turn."""
    sides: dict[str, tuple[Callable[[Path, int, int], None], int]] = {
        "bare training": (bare, trials),
        "bnnsearch": (ours(RayExecutor()), trials),
        "bnnsearch, one process": (ours(LocalExecutor()), trials),
        "Tune as documented": (plain(reports, reuse=False), slow_trials),
        "Tune with reuse_actors": (plain(Reports, reuse=True), trials),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for side, _ in sides.values():
        with tempfile.TemporaryDirectory() as folder:
            side(Path(folder), 2, 0)
    for seed in range(rounds):
        for name, (side, amount) in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                side(Path(folder), amount, seed)
                times[name].append((time.perf_counter() - start) / amount * 1000)
            print(f"  round {seed + 1}: {name:24} {times[name][-1]:9.1f} ms per trial", flush=True)
    floor = median(times["bare training"])
    return [
        {
            "side": name,
            "trials": sides[name][1],
            "ms_per_trial_over_bare": median(own) - floor,
            "lowest": min(own) - floor,
            "highest": max(own) - floor,
        }
        for name, own in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one round, the slowest side with fewer trials")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    ray.init(address="local", num_cpus=SLOTS, include_dashboard=False, log_to_driver=False)
    rows = measure(100, 1, 10) if options.quick else measure(100, 3, 30)
    ray.shutdown()

    by_side = {row["side"]: row["ms_per_trial_over_bare"] for row in rows}
    print(f"\n{'side':26}{'ms per trial over bare':>24}{'lowest':>10}{'highest':>10}{'of ours':>10}")
    for row in rows:
        ms, ratio = row["ms_per_trial_over_bare"], row["ms_per_trial_over_bare"] / by_side["bnnsearch"]
        print(f"{row['side']:26}{ms:24.1f}{row['lowest']:10.1f}{row['highest']:10.1f}{ratio:9.1f}x")
    targets = [
        Target(f"ms per trial, bnnsearch, below {rival}", by_side["bnnsearch"], by_side[rival], better="lower")
        for rival in ("Tune as documented", "Tune with reuse_actors")
    ]
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("ray", "optuna", "mlflow", "torch"))


if __name__ == "__main__":
    main()
