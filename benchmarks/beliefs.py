"""What a search gains by good beliefs, and loses by bad ones: priors, and earlier studies, on LCBench.

    uv run python benchmarks/beliefs.py --root DIR [--quick] [--work FOLDER] [--json FILE]

Each search is one of `public_surrogates.py`: a space with halving, all else at its default, one worker, simulated. The
sides have it know, before it begins:

- nothing;
- good priors: for each parameter `prior:` at its value in the best configuration of 2,000 random ones;
- bad priors: the same of the worst one;
- the same task: `warm_start:` from a study of it, of half as many evaluations, with another seed;
- another task: the same of the next data set of LCBench;
- an opposite task: the same of this data set with its accuracy reversed, so that what was good is bad here.

Good and bad are by accuracy, where there are two objectives too: experts believe in what learns well. Printed are the
epochs that a side needs to where the side that knows nothing stands in the end (or to 95 %, if that gets there), as a
share of what that one needs: the median over tasks of a ratio of medians over seeds. The epochs of earlier studies do
not count.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from figures import Target, show_targets, write_figures

sys.path.insert(0, str(Path(__file__).parent))  # the space's guest is found there

import numpy as np
from public_surrogates import SCRATCH, SHARE, Case, Meter, Spent, all_rows, caught_up, goal_of, searched, space_of
from surrogates import Problem, problems

RANDOM = 2000
NOTHING = "nothing"
GOOD, BAD = ("good priors", "the same task", "another task"), ("bad priors", "an opposite task")
SIDES = (NOTHING, *GOOD, *BAD)
OPPOSITE = "opposite "


class Opposite(Problem):
    """A task on which the best accuracy of another is the worst."""

    def curve(self, config: Mapping[str, Any]) -> np.ndarray:
        rows = problems()[self.name.removeprefix(OPPOSITE)].curve(config)
        return np.column_stack([1 - rows[:, 0], rows[:, 1]])

    def sample(self) -> np.ndarray:
        raise NotImplementedError


@cache
def extremes(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best and the worst of random configurations."""
    problem, rng = problems()[name], np.random.default_rng(1)
    columns = {each.name: each.drawn(rng, RANDOM) for each in problem.parameters}
    whole = {each.name for each in problem.parameters if each.whole}
    configs = [
        {key: int(value) if key in whole else float(value) for key, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]
    scores = [problem.curve(config)[-1, 0] for config in configs]
    return configs[int(np.argmax(scores))], configs[int(np.argmin(scores))]


def space(case: Case, folder: Path) -> dict[str, Any]:
    """What the side searches, and what it knows."""
    own = space_of(problems()[case.problem], objectives=case.objectives, seed=case.seed)
    if case.side.endswith("priors"):
        believed = extremes(case.problem)[case.side == "bad priors"]
        for key, leaf in own["trial"]["trainer"]["params"].items():
            leaf["prior"] = believed[key]
    elif case.side != NOTHING:
        task, seed, half = earlier_task(case.problem, case.side), case.seed + 1000, case.evaluations // 2
        own["warm_start"] = [str(study_of(task, case.objectives, seed, half, folder))]
    return own


def earlier_task(name: str, side: str) -> str:
    names = [each for each in problems() if not each.startswith(OPPOSITE)]
    return {
        "the same task": name,
        "another task": names[(names.index(name) + 1) % len(names)],
        "an opposite task": OPPOSITE + name,
    }[side]


def study_of(name: str, objectives: int, seed: int, evaluations: int, folder: Path) -> Path:
    """The folder of an earlier study."""
    path = folder / f"{name} {objectives} {seed}".replace(" ", "_")
    if not path.exists():
        problem = problems()[name]
        goal = goal_of(name.removeprefix(OPPOSITE), objectives)
        meter = Meter(problem, goal, evaluations * problem.epochs)
        with suppress(Spent):
            searched(space_of(problem, objectives=objectives, seed=seed), meter, workers=1, folder=path)
    return path / "study"


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """The row of a case; earlier studies lie in the folder."""
    problem, told = problems()[case.problem], space(case, folder)
    meter, began = (
        Meter(problem, goal_of(case.problem, case.objectives), case.evaluations * problem.epochs),
        perf_counter(),
    )
    with suppress(Spent), tempfile.TemporaryDirectory(dir=SCRATCH) as own:
        searched(told, meter, workers=case.workers, folder=Path(own))
    return vars(case) | {"trace": meter.trace(), "seconds": round(perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, required=True, help="LCBench in YAHPO's form")
    parser.add_argument("--quick", action="store_true", help="two tasks, one seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=7, help="how many of LCBench's, evenly spread")
    parser.add_argument("--evaluations", type=int, default=40, help="full evaluations that a side is given")
    parser.add_argument("--objectives", type=int, nargs="*", default=[2, 1])
    parser.add_argument("--sides", nargs="*", default=SIDES)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--work", type=Path, help="folder that keeps what was measured, so that a second call goes on")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["BNN_LCBENCH"] = str(options.root.absolute())
    table: dict[str, Problem] = problems()  # type: ignore[assignment]
    names = [name for name in table if name.startswith("lcbench")]
    for name in names:
        table[OPPOSITE + name] = Opposite(OPPOSITE + name, table[name].parameters, table[name].epochs)
    names = names[:: -(-len(names) // (2 if options.quick else options.tasks))]
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        seeds = range(1 if options.quick else options.seeds)
        every = itertools.product(seeds, (1,), options.objectives, names, options.sides)
        cases = [Case(*each, options.evaluations) for each in every]
        rows = all_rows(cases, work / "beliefs.jsonl", partial(measured, folder=work))
    report(rows, names, options)


def report(rows: list[dict[str, Any]], names: list[str], options: argparse.Namespace) -> None:
    targets = []
    for objectives in options.objectives:
        print(
            f"\n{objectives} objectives, {len(names)} tasks: epochs as a share of those of a search that knows nothing"
        )
        for side in options.sides:
            ratios = []
            for name in names:
                here = [row for row in rows if (row["objectives"], row["problem"]) == (objectives, name)]
                own, plain = ([row for row in here if row["side"] == each] for each in (side, NOTHING))
                ratios.append(caught_up(own, plain, SHARE))
            print(f"{side:20}{median(ratios):8.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")
            if side != NOTHING:
                targets.append(
                    Target(
                        f"{side}, {objectives} objectives", median(ratios), 0.6 if side in GOOD else 1.1, better="lower"
                    )
                )
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=("optuna",), seeds=options.seeds)


if __name__ == "__main__":
    main()
