"""Several studies' fronts in one picture and one table, measured against one reference point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from bnnsearch.config.study import Objective, StudyConfig
from bnnsearch.errors import InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront, hypervolume, losses, reference_point
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult
from bnnsearch.tracking.figures import styled
from bnnsearch.tracking.page import escape, page, picture, section, table
from bnnsearch.tracking.view import is_wide, label, value_text

COLOURS = ("#2563eb", "#f97316", "#10b981", "#8b5cf6", "#dc2626", "#0891b2", "#ca8a04", "#6b7280")


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
    summary = section("Studies", "Hypervolume is measured in one box for all, so it compares them.", table(head, rows))
    caption = "Every finished trial, faint, and each study's front, in the objectives that the studies share."
    drawn = picture("Fronts", caption, fronts_figure(compared))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page("Comparison", f"{len(compared)} studies", [summary, drawn]), encoding="utf-8")
    return compared


def _best(front: ParetoFront, column: int) -> float:
    if not front.results:
        return float("nan")
    values = front.values[:, column]
    return float(values.max() if front.modes[column] == "max" else values.min())


def fronts_figure(compared: Sequence[Compared]) -> go.Figure:
    """The fronts over the first two common objectives; over the trials' numbers where there is one."""
    objectives = compared[0].front.objectives
    y, x = objectives[0].metric, objectives[1].metric if len(objectives) > 1 else None
    figure = go.Figure()
    for index, each in enumerate(compared):
        colour = COLOURS[index % len(COLOURS)]
        front = sorted(each.front.results, key=lambda result: result.metrics[x] if x else result.number)
        for results, look in (
            (each.front.candidates, {"mode": "markers", "marker": {"color": colour, "size": 5, "opacity": 0.25}}),
            (front, {"mode": "lines+markers", "line": {"color": colour, "width": 1.5}, "marker": {"size": 9}}),
        ):
            figure.add_trace(
                go.Scatter(
                    x=[result.metrics[x] if x else result.number for result in results],
                    y=[result.metrics[y] for result in results],
                    text=[f"{escape(each.name)}<br>trial {result.number}" for result in results],
                    hovertemplate="%{text}<br>%{x:,.5g}, %{y:.5g}<extra></extra>",
                    name=escape(each.name),
                    legendgroup=each.name,
                    showlegend=look["mode"] != "markers",
                    **look,
                )
            )
    everything = [result.metrics[x] for each in compared for result in each.front.candidates] if x else []
    scale = "log" if is_wide(everything) else "linear"
    figure.update_xaxes(title=label(x) if x else "trial", type=scale, exponentformat="SI")
    figure.update_yaxes(title=label(y), exponentformat="SI")
    return styled(figure, height=520)
