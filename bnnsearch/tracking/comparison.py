"""Several studies' fronts in one picture and one table, measured against one reference point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bnnsearch.config.study import Objective, StudyConfig
from bnnsearch.errors import InputError
from bnnsearch.files import write_whole
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront, hypervolume, losses, reference_point
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult
from bnnsearch.tracking.figures import PAPER, legend, new_axes, points
from bnnsearch.tracking.page import page, picture, section, table
from bnnsearch.tracking.view import is_wide, label, number_text, round_ticks, value_text

LOOKS = (
    ("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"), ("#e69f00", "v"), ("#56b4e9", "P"),
    ("#8f96a3", "X"), ("#b3a100", "<"),
)  # fmt: skip
"""Colours that all kinds of sight tell apart (Okabe and Ito, 2008), and marks."""


@dataclass(frozen=True)
class Compared:
    """One study of a comparison: its name there, its ended trials, and their front in the common objectives."""

    name: str
    results: tuple[TrialResult, ...]
    front: ParetoFront
    hypervolume: float


def compare(studies: Sequence[tuple[StudyFolder, StudyConfig]]) -> list[Compared]:
    """The studies in the objectives that all of them have.

    The hypervolume of each is a share of the box between the ideal and the reference point of all finished trials
    together.

    Raises:
        InputError: fewer than two studies, or no objective that all of them have, or nothing finished in any, or the
            best epoch's accuracy would stand beside the last epoch's.
    """
    if len(studies) < 2:
        raise InputError(f"a comparison takes two studies or more, but got {len(studies)}")
    common = _common_objectives([study for _, study in studies])
    named = [(f"{study.name} {folder.search_id}", read_past(folder).results) for folder, study in studies]
    if "val_acc" in [each.metric for each in common]:
        _check_alike(named)
    fronts = [ParetoFront.of(results, common) for _, results in named]
    values = [[result.metrics[each.metric] for each in common] for front in fronts for result in front.candidates]
    if not values:
        raise InputError("there is nothing to compare: no trial of these studies has finished within its constraints")
    modes = fronts[0].modes
    reference = reference_point(values, modes)
    box = float(np.prod(losses([reference], modes)[0] - losses(values, modes).min(axis=0)))
    return [
        Compared(name, results, front, hypervolume(front.values, modes, reference) / box)
        for (name, results), front in zip(named, fronts, strict=True)
    ]


def _common_objectives(studies: Sequence[StudyConfig]) -> tuple[Objective, ...]:
    first, *others = studies
    common = tuple(each for each in first.objectives if all(each in other.objectives for other in others))
    if not common:
        goals = "; ".join(f"{study.name}: {', '.join(each.metric for each in study.objectives)}" for study in studies)
        raise InputError(f"the studies must share an objective, but have {goals}")
    return common


def _check_alike(named: Sequence[tuple[str, Sequence[TrialResult]]]) -> None:
    rules = {name: result.config.get("plan", {}).get("keep", "last") for name, results in named for result in results}
    if len(set(rules.values())) > 1:
        kept = "; ".join(f"{name}: {rule}" for name, rule in rules.items())
        raise InputError(
            f"the studies must have the same plan.keep, for their val_acc to mean the same, but have {kept}"
        )


def write_comparison(studies: Sequence[tuple[StudyFolder, StudyConfig]], path: Path) -> list[Compared]:
    """Write the comparison to the HTML file `path`, which needs no network.

    Raises:
        InputError: as `compare`.
        EnvironmentProblem: it cannot be written.
    """
    compared = compare(studies)
    objectives = compared[0].front.objectives
    rows = [
        [
            each.name,
            f"{len(each.front.candidates)} of {len(each.results)}",
            str(len(each.front.results)),
            f"{each.hypervolume:.4f}",
            *(value_text(goal.metric, _best(each.front, column)) for column, goal in enumerate(objectives)),
        ]
        for each in sorted(compared, key=lambda each: -each.hypervolume)
    ]
    head = ["study", "finished", "on the front", "hypervolume", *(f"best {label(goal.metric)}" for goal in objectives)]
    summary = section(
        "Studies", "Hypervolume is measured in one box for all, so it compares them.", table("studies", head, rows)
    )
    caption = "Every finished trial, faint, and each study's front, in the objectives that the studies share."
    drawn = picture("fronts", "Fronts", caption, {"": fronts_figure(compared)})
    write_whole(path, page("Comparison", f"{len(compared)} studies", [summary, drawn]).encode())
    return compared


def _best(front: ParetoFront, column: int) -> float:
    if not front.results:
        return float("nan")
    values = front.values[:, column]
    return float(values.max() if front.modes[column] == "max" else values.min())


def fronts_figure(compared: Sequence[Compared]) -> Figure:
    """The fronts over the first two common objectives; over the trials' numbers where there is one."""
    objectives = compared[0].front.objectives
    y, x = objectives[0].metric, objectives[1].metric if len(objectives) > 1 else None
    figure, (axes,) = new_axes(size=(7.5, 4.8))

    def place(result: TrialResult) -> float:
        return result.metrics[x] if x else result.number

    for index, each in enumerate(compared):
        colour, mark = LOOKS[index % len(LOOKS)]
        front = sorted(each.front.results, key=place)
        axes.plot(list(map(place, front)), [result.metrics[y] for result in front], color=colour, linewidth=1.4)
        for results, look in (
            (each.front.candidates, {"s": 14, "alpha": 0.3}),
            (front, {"s": 44, "edgecolors": PAPER, "label": each.name.replace("$", r"\$")}),
        ):
            told = [f"{each.name}, trial {result.number}" for result in results]
            heights = [result.metrics[y] for result in results]
            points(axes, list(map(place, results)), heights, told, color=colour, marker=mark, **look)
    everything = [place(result) for each in compared for result in each.front.candidates]
    axes.set_xlabel(label(x) if x else "trial")
    axes.set_ylabel(label(y))
    axes.xaxis.set_major_formatter(lambda value, _: number_text(value))
    if x and is_wide(everything):
        ticks = round_ticks(min(everything), max(everything))
        axes.set_xscale("log")
        axes.set_xticks(ticks, [number_text(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
    legend(figure, axes, columns=2)
    return figure
