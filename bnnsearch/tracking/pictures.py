"""The report's pictures as PNGs, drawn with matplotlib without a screen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from bnnsearch.core.trainer import WEIGHT_BINS
from bnnsearch.results import TrialResult
from bnnsearch.tracking.view import (
    BAD,
    BIT_WIDTHS,
    FRONT,
    GOING,
    GREY,
    GRID,
    INK,
    KNEE,
    MAX_AXES,
    OBJECTIVES,
    PRUNED,
    SHARE_SHOWN,
    Array,
    Axis,
    StudyView,
    label,
    number_text,
)

CURVES = {
    "complete": ("complete", GREY),
    "pruned": ("stopped early", PRUNED),
    "failed": ("failed", BAD),
    "running": ("not ended", GOING),
    "front": ("Pareto front", FRONT),
}
BANDS = ("#f1f5f9", "#e2e8f0", "#dbeafe", "#ede9fe")
DPI = 110


def write_pictures(view: StudyView, directory: Path) -> None:
    """Write `pareto.png`, `hypervolume.png` and so on into `directory`; what cannot be shown yet is left out."""
    drawings: dict[str, Callable[[StudyView], Figure | None]] = {
        "pareto": pareto_picture,
        "hypervolume": hypervolume_picture,
        "importance": importance_picture,
        "parallel": parallel_picture,
        "learning_curves": curves_picture,
        "schedules": schedules_picture,
        "flip_rate": layers_picture,
        "weights": weights_picture,
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a script that the font does not have
        for name, draw in drawings.items():
            figure = draw(view)
            if figure is not None:
                FigureCanvasAgg(figure)
                figure.savefig(directory / f"{name}.png", dpi=DPI)


def _axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.spines[:].set_visible(False)
    return figure, list(grid.flat)


def pareto_picture(view: StudyView) -> Figure | None:
    """Every finished trial in each pair of objectives; with one objective, its value over the trials."""
    if not view.complete:
        return None
    pairs = view.pairs() or [("", view.metrics[0])]
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    size = (7.5, 4.6) if len(pairs) == 1 else (4.6 * columns, 3.9 * rows)
    figure, grid = _axes(rows, columns, size=size)
    for axes, (x, y) in zip(grid, pairs, strict=True):
        _draw_pair(axes, view, x, y)
    handles, names = grid[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def _draw_pair(axes: Axes, view: StudyView, x: str, y: str) -> None:
    def points(results: Sequence[TrialResult]) -> tuple[list[float], list[float]]:
        across = view.column(results, x) if x else [float(result.number) for result in results]
        return across, view.column(results, y)

    if x and len(view.metrics) == 2:
        axes.plot(*view.front_line(x, y), color=FRONT, linewidth=1.2, linestyle=":")
    groups = view.groups
    if groups["infeasible"]:
        hollow = {"facecolors": "none", "edgecolors": GREY}
        axes.scatter(*points(groups["infeasible"]), s=28, label="outside a constraint", **hollow)  # type: ignore[arg-type]
    if groups["dominated"]:
        axes.scatter(*points(groups["dominated"]), s=22, color=GREY, alpha=0.7, linewidths=0, label="dominated")
    if groups["front"]:
        axes.scatter(*points(groups["front"]), s=46, color=FRONT, edgecolors="white", label="Pareto front")
        if x:
            axes.scatter(*points([view.front.knee]), s=170, marker="*", color=KNEE, edgecolors="white", label="knee")
    axes.set_xlabel(label(x) if x else "trial")
    axes.set_ylabel(label(y))
    for metric, axis, scale in ((x, axes.xaxis, axes.set_xscale), (y, axes.yaxis, axes.set_yscale)):
        if metric and (ticks := view.ticks(metric)) is not None:
            scale("log")
            axis.set_ticks(ticks, [number_text(tick) for tick in ticks])
            axis.set_ticks([], minor=True)


def hypervolume_picture(view: StudyView) -> Figure | None:
    """What the front dominates, over the finished trials."""
    if not view.front.candidates:
        return None
    figure, (axes,) = _axes(size=(7.5, 3.2))
    numbers = [result.number for result in view.front.candidates]
    series = view.front.hypervolume_series()
    axes.step(numbers, series, where="post", color=FRONT, linewidth=1.8)
    axes.fill_between(numbers, series, step="post", color=FRONT, alpha=0.08, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trial")
    axes.set_ylabel("hypervolume")
    return figure


def importance_picture(view: StudyView) -> Figure | None:
    """What each parameter explains of each objective."""
    if not view.parameters or not view.learned:
        return None
    names = [axis.name for axis in view.parameters]
    bars = len(view.learned)
    figure, (axes,) = _axes(size=(7.5, 1.4 + len(names) * 0.22 * (1 + bars)))
    for index, (metric, colour) in enumerate(zip(view.learned, OBJECTIVES, strict=False)):
        at = np.arange(len(names)) + (index - (bars - 1) / 2) * 0.8 / bars
        axes.barh(at, list(view.importance(metric).values()), height=0.8 / bars, color=colour, label=label(metric))
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of variance explained")
    figure.legend(loc="outside upper right", ncols=bars, frameon=False, fontsize=9)
    return figure


def parallel_picture(view: StudyView) -> Figure | None:
    """The complete trials' parameters and objectives as parallel axes, coloured by the first objective."""
    if not view.parameters:
        return None
    metrics = [Axis(name, tuple(view.column(view.complete, name))) for name in view.metrics]
    shown = [*view.parameters[:MAX_AXES], *metrics]
    figure, (axes,) = _axes(size=(1.5 * len(shown) + 1.5, 4.4))
    heights = np.array([_heights(axis) for axis in shown])  # (axes, trials), 0 to 1
    first = heights[len(shown) - len(metrics)]
    order = np.argsort(first)  # the best are drawn last, on top
    lines = [np.column_stack([range(len(shown)), heights[:, trial]]) for trial in order]
    axes.add_collection(LineCollection(lines, array=first[order], cmap="viridis", linewidths=0.9, alpha=0.7))
    axes.autoscale_view()
    for index, axis in enumerate(shown):
        axes.axvline(index, color=INK, linewidth=0.8)
        for height, text in _ticks(axis):
            patch = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}
            axes.text(index + 0.04, height, text, fontsize=8, va="center", bbox=patch, parse_math=False)
    axes.set_xticks(range(len(shown)), [label(axis.name) for axis in shown], rotation=15, ha="right", parse_math=False)
    axes.set_yticks([])
    axes.grid(visible=False)
    return figure


def _span(axis: Axis) -> tuple[float, float]:
    known = axis.positions[~np.isnan(axis.positions)]
    low, high = float(known.min()), float(known.max())
    return low, (high - low) or 1.0


def _heights(axis: Axis) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Places of the trials on an axis from 0 to 1; those without the parameter run below it."""
    low, span = _span(axis)
    return np.nan_to_num((axis.positions - low) / span, nan=-0.15)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    low, span = _span(axis)
    ticks = [((at - low) / span, text) for at, text in zip(*axis.ticks(), strict=True)]
    return [*ticks, (-0.15, "none")] if np.isnan(axis.positions).any() else ticks


def curves_picture(view: StudyView) -> Figure | None:
    """Validation accuracy over the epochs of every trial; where a trial was stopped early there is a cross."""
    curves = view.curves()
    if not curves:
        return None
    figure, (axes,) = _axes(size=(7.5, 4.2))
    for kind, (name, colour) in CURVES.items():
        chosen = [curve for curve in curves if curve[0] == kind]
        if not chosen:
            continue
        lines = [np.column_stack([epochs, values]) for _, _, epochs, values in chosen]
        strong = kind == "front"
        looks = {"linewidths": 1.8 if strong else 0.9, "alpha": 1.0 if strong else 0.5}
        axes.add_collection(LineCollection(lines, colors=colour, label=name, **looks))
        if kind in ("pruned", "failed"):
            ends = np.array([line[-1] for line in lines])
            axes.plot(ends[:, 0], ends[:, 1], "x", color=colour, markersize=5)
    axes.autoscale_view()
    for rung in view.rungs():
        axes.axvline(rung, color=GRID, linewidth=1.5, zorder=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(label("val_acc"))
    figure.legend(loc="outside upper right", ncols=5, frameon=False, fontsize=9)
    return figure


def schedules_picture(view: StudyView) -> Figure | None:
    """What changed over the epochs of the knee; phases are shaded."""
    shown = view.of_shown(view.schedules)
    if not shown:
        return None
    number, schedules = next(iter(shown.items()))
    figure, rows = _axes(len(schedules), size=(7.5, 1.2 + 1.3 * len(schedules)))
    for axes, (name, (epochs, values)) in zip(rows, schedules.items(), strict=True):
        axes.plot(epochs, values, color=FRONT, drawstyle="steps-post" if name in BIT_WIDTHS else "default")
        axes.set_ylabel(label(name))
        axes.sharex(rows[-1])
        for index, (phase, first, last) in enumerate(view.phases(number)):
            axes.axvspan(first - 0.5, last + 0.5, color=BANDS[index % len(BANDS)], linewidth=0, zorder=0)
            if axes is rows[0]:
                at = {"x": (first + last) / 2, "y": 1.02, "transform": axes.get_xaxis_transform()}
                axes.text(s=phase, ha="center", fontsize=9, parse_math=False, **at)  # type: ignore[arg-type]
        axes.label_outer()
    rows[-1].set_xlabel(f"epoch of trial {number}")
    return figure


def layers_picture(view: StudyView) -> Figure | None:
    """Flip rate of every layer over the epochs of the knee."""
    shown = view.of_shown(view.layer_map)
    if not shown:
        return None
    number, (epochs, layers, values) = next(iter(shown.items()))
    figure, (axes,) = _axes(size=(7.5, 1.6 + 0.22 * len(layers)))
    axes.set_yticks(range(len(layers)), layers, parse_math=False)
    _draw_heat(axes, number, epochs, values, rows=(len(layers) - 0.5, -0.5), what="flip rate")
    return figure


def weights_picture(view: StudyView) -> Figure | None:
    """Where the latent weights are, over the epochs of the knee."""
    shown = view.of_shown(view.weight_map)
    if not shown:
        return None
    number, (epochs, shares) = next(iter(shown.items()))
    figure, (axes,) = _axes(size=(7.5, 3.6))
    half = (WEIGHT_BINS[1] - WEIGHT_BINS[0]) / 2
    rows = (WEIGHT_BINS[0] - half, WEIGHT_BINS[-1] + half)
    _draw_heat(axes, number, epochs, shares[::-1], rows=rows, what="share of weights", most=SHARE_SHOWN)
    axes.set_yticks([-1, 0, 1])
    axes.set_ylabel("latent weight")
    return figure


def _draw_heat(
    axes: Axes,
    number: int,
    epochs: Sequence[int],
    values: Array,
    *,
    rows: tuple[float, float],
    what: str,
    most: float | None = None,
) -> None:
    """What changes over the epochs of trial `number`: `values` (rows, epochs), the first row on top.

    `rows` are the upright coordinates of the lower and the upper edge, `most` what has the darkest colour.
    """
    axes.grid(visible=False)
    lowest = None if most is None else 0
    extent = (epochs[0] - 0.5, epochs[-1] + 0.5, *rows)
    image = axes.imshow(values, aspect="auto", cmap="Blues", extent=extent, vmin=lowest, vmax=most)
    axes.set_xlabel(f"epoch of trial {number}")
    axes.figure.colorbar(image, ax=axes, label=what)
