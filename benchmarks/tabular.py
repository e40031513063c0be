"""A tabular benchmark of binary networks: every configuration of a space trained once, and kept epoch by epoch.

    uv run python benchmarks/tabular.py                       # what the tables hold
    uv run python benchmarks/tabular.py train digits_bnew     # make a table anew; a second call goes on

A table NAME is two files of `benchmarks/tables`. NAME.yaml is the space, as `bnnsearch run` takes it. NAME.jsonl has a
line of JSON for each of its configurations, in any order:

- `params`: dotted name to value, lists as JSON, as a study's trials have them;
- `costs`: known before training;
- `metrics`: name to the values after each epoch, to six digits;
- `processor`: on which it was trained. Others round otherwise, so that there a curve may differ by some images.

In Python:

    table = Table.load("digits_bnew")
    table.curve({"model.hidden": "[16]", "model.activation": "rprelu", "method.growth": 30.0})["val_acc"]
    run_study(table.space, study_dir=folder, executor=LocalExecutor(), build_trainer=table.trainer)  # in seconds
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import torch

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.packed.latency import processor
from bnnsearch.pareto import nondominated_ranks
from bnnsearch.space import Space, load_space
from bnnsearch.study.grid import grid_points
from bnnsearch.study.pretraining import pretraining_key
from bnnsearch.trial import build_trainer

TABLES = Path(__file__).parent / "tables"
COSTS = ("memory_bytes", "bops", "params")
METRICS = ("val_acc", "val_loss", "train_acc", "train_loss")
DIGITS = 6


@dataclass(frozen=True)
class Row:
    """One configuration and what its training gave.

    Attributes:
        params: dotted name to value.
        costs: known before training.
        metrics: name to the values after each epoch.
        processor: on which it was trained.
    """

    params: Mapping[str, Any]
    costs: Mapping[str, float]
    metrics: Mapping[str, Sequence[float]]
    processor: str

    def __getitem__(self, metric: str) -> Sequence[float]:
        return self.metrics[metric]

    @property
    def epochs(self) -> int:
        return len(self["val_acc"])


@dataclass(frozen=True)
class Table:
    """A space, and all that it can give."""

    space: Space
    rows: Sequence[Row]

    @classmethod
    def load(cls, name: str) -> Self:
        """The table of the repository that is called `name`.

        Raises:
            SpaceError: there is none.
        """
        space = load_space(TABLES / f"{name}.yaml")
        return cls(space, [Row(**each) for each in read_lines(TABLES / f"{name}.jsonl")])

    def configurations(self) -> list[dict[str, Any]]:
        """Parameters of all configurations of the space, whether they are in the table or not yet."""
        return grid_points(self.space.trial, points=2, seed=0)

    @cached_property
    def by_config(self) -> dict[str, Row]:
        """The rows by `key_of` their configurations."""
        return {key_of(self.space.trial.config_of(dict(row.params))): row for row in self.rows}

    def curve(self, params: Mapping[str, Any]) -> Row:
        """What training with these parameters gave.

        Raises:
            KeyError: it is no configuration of the space.
        """
        return self.curve_of(self.space.trial.config_of(dict(params)))

    def curve_of(self, config: Mapping[str, Any]) -> Row:
        """What training this configuration gave: a whole trial, whatever its seed.

        Raises:
            KeyError: it is no configuration of the space.
        """
        return self.by_config[key_of(config)]

    def trainer(self, config: Mapping[str, Any]) -> Replay:
        """A trainer that knows how its training goes: `build_trainer` of `run_study`."""
        return Replay(self.curve_of(config))

    def front(self) -> list[Row]:
        """The best there is: accuracy after the last epoch up, memory down; the most accurate first."""
        points = [(row["val_acc"][-1], row.costs["memory_bytes"]) for row in self.rows]
        ranks = nondominated_ranks(points, ("max", "min"))
        best = [row for row, rank in zip(self.rows, ranks, strict=True) if rank == 0]
        return sorted(best, key=lambda row: -row["val_acc"][-1])


class Replay:
    """A trainer that gives what is known.

    Args:
        row: what it gives.
        shown: metric to the one that takes its place before the last `hidden` epochs.
        hidden: see `shown`.
    """

    def __init__(self, row: Row, *, shown: Mapping[str, str] | None = None, hidden: int = 0) -> None:
        self.row, self.epoch = row, 0
        self._shown, self._hidden = shown or {}, hidden

    def fit(self) -> Iterator[EpochMetrics]:
        while self.epoch < self.row.epochs:
            self.epoch += 1
            shown = self._shown if self.epoch <= self.row.epochs - self._hidden else {}
            values = {name: self.row[shown.get(name, name)][self.epoch - 1] for name in self.row.metrics}
            yield EpochMetrics(self.epoch, self.row.epochs, "replay", values)

    def costs(self) -> dict[str, float]:
        return dict(self.row.costs)

    def test(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


def key_of(config: Mapping[str, Any]) -> str:
    """What tells a configuration from the others of its space."""
    return json.dumps([config["model"], config["method"], config["optimizer"]], sort_keys=True)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(name: str, *, workers: int) -> None:
    """Train what the table lacks."""
    table = Table.load(name)
    families: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for params in table.configurations():
        config = table.space.trial.config_of(params)
        if key_of(config) not in table.by_config:
            families.setdefault(pretraining_key(config) or key_of(config), []).append((params, config))
    started = time.perf_counter()
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        (TABLES / f"{name}.jsonl").open("a") as kept,
    ):
        for done, rows in enumerate(pool.imap_unordered(train_family, families.values()), start=1):
            kept.writelines(json.dumps(vars(row)) + "\n" for row in rows)
            kept.flush()
            print(f"{done} of {len(families)}, {time.perf_counter() - started:.0f} s", flush=True)


def train_family(family: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[Row]:
    """Train configurations of one pretraining, which is trained once."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    pretrained: dict[str, Any] | None = None
    first: list[EpochMetrics] = []
    for params, config in family:
        trainer = build_trainer(TrialConfig.model_validate(config))
        if pretrained is None:
            epochs = trainer.fit()
            first = list(islice(epochs, config["method"].get("pretrain_epochs", 0)))
            pretrained = deepcopy(trainer.state_dict())
        else:
            trainer.load_state_dict(deepcopy(pretrained))
        course = [each.values for each in (*first, *trainer.fit())]
        costs = trainer.costs()
        rows.append(
            Row(
                params=params,
                costs={cost: costs[cost] for cost in COSTS},
                metrics={metric: [round(each[metric], DIGITS) for each in course] for metric in METRICS},
                processor=processor(),
            )
        )
    return rows


def show() -> None:
    """Print what the tables hold."""
    for path in sorted(TABLES.glob("*.yaml")):
        table = Table.load(path.stem)
        size = path.with_suffix(".jsonl").stat().st_size / 1e6
        epochs = table.rows[0].epochs
        print(f"\n{path.stem}: {len(table.rows)} configurations of {epochs} epochs, {size:.2f} MB; the front:")
        for row in table.front():
            params = " ".join(f"{name.rpartition('.')[2]}={json.dumps(value)}" for name, value in row.params.items())
            print(f"  {row['val_acc'][-1]:.4f} {row.costs['memory_bytes']:9,.0f} bytes  {params}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command")
    training = commands.add_parser("train", help="train what a table lacks")
    training.add_argument("name", choices=sorted(path.stem for path in TABLES.glob("*.yaml")))
    training.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    options = parser.parse_args()
    if options.command == "train":
        train(options.name, workers=options.workers)
    else:
        show()


if __name__ == "__main__":
    main()
