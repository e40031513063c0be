"""The report's pictures, each drawn once, with matplotlib and no screen: for the page (`svg`) and as PNG.

What stands for a trial says so in its artist's gid (`_tell`), from which the page's script knows it. Text that users
wrote is never read as mathematics, and stands escaped in the page.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnnsearch.core.trainer import WEIGHT_BINS
from bnnsearch.pareto import mode_of
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
    short,
)

CURVES = {
    "complete": ("complete", GREY, "-"),
    "pruned": ("stopped early", PRUNED, "-"),
    "failed": ("failed", BAD, ":"),
    "running": ("not ended", GOING, "--"),
    "front": ("Pareto front", FRONT, "-"),
}
PAPER = "#ffffff"
LIGHT = "#fdfdfd"  # in the dark too, on what has colours of its own
DPI = 110
MARKS, CELLS = "marks ", "cells "
SLICES = 6
"""Most parameters that have a slice."""

MOST_DRAWN, MOST_POINTS = 300, 1000
"""Most trials in a picture, and in the front's: enough to see by, few enough for a page of a thousand trials."""

THEME = {INK: "var(--ink)", GRID: "var(--line)", PAPER: "var(--paper)", FRONT: "var(--front)"}
"""Colours that the page sets, light or dark."""

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"

Drawn = dict[str, Figure]
"""A picture by what it shows; the page has a menu where there is more than one, and the first is saved as PNG."""


class Picture(NamedTuple):
    """A picture of the report: file, title, caption (HTML), how it is drawn of a study, if there is something.

    `most` is how many trials have a mark in it, where each would have one.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[StudyView], Drawn]
    most: int | None = None


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG."""
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of a script that the font does not have
        figure.savefig(path, dpi=DPI)
    figure.set_layout_engine("none")  # laid out for the page too, which takes longer than drawing


def svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an element of a page, in the page's font and colours.

    Args:
        figure: what is drawn.
        name: differs from that of every other figure in the page.
        alt: what the picture shows, in a sentence.
    """
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    for prefix, space in (("", _SVG), ("xlink", _LINK)):
        ElementTree.register_namespace(prefix, space[1 : space.index("}")])
    root = ElementTree.fromstring(text.getvalue())
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    shown = root.find(f"{_SVG}g")
    assert shown is not None
    for element in list(shown.iter()):
        _name_marks(element)
    values = " ".join(f"url({value})" if key == _LINK else value for each in root.iter() for key, value in each.items())
    used = dict.fromkeys(re.findall(r"url\(#([\w-]+)\)", values))
    names = {each: f"{name}-{index}" for index, each in enumerate(used)}
    for element in root.iter():
        if element.get("id") not in names:
            element.attrib.pop("id", None)
        element.attrib.update(
            (key, _shorter(key, value, names, is_mark="data-trial" in element.attrib))
            for key, value in element.items()
            if not key.startswith("data-")
        )
        if not element.get("transform"):
            element.attrib.pop("transform", None)
    _tidy(root)
    root.attrib.update({"role": "img", "aria-label": alt, "tabindex": "0"})
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.set("style", f"max-width: {width * 1.5:.0f}px; min-width: {width:.0f}px")
    return ElementTree.tostring(root, encoding="unicode").replace(" />", "/>")


def _name_marks(element: ElementTree.Element) -> None:
    """Give what an artist drew the trials, or the values, that its gid tells."""
    gid = element.get("id", "")
    if gid.startswith(CELLS):
        element.set("data-cells", gid.removeprefix(CELLS))
    if not gid.startswith(MARKS):
        return
    hidden = {each for defs in element.iter(f"{_SVG}defs") for each in defs.iter()}
    marks = [each for each in element.iter() if each.tag in (f"{_SVG}use", f"{_SVG}path") and each not in hidden]
    for mark, told in zip(marks, json.loads(gid.removeprefix(MARKS)), strict=True):
        if isinstance(told, int):
            mark.set("data-trial", str(told))
        else:
            ElementTree.SubElement(mark, f"{_SVG}title").text = told


def _shorter(key: str, value: str, names: Mapping[str, str], *, is_mark: bool) -> str:
    """An attribute with few decimals, short names, the page's font, and the page's colours."""
    if key in ("id", _LINK):
        return value[: value.startswith("#")] + names.get(value.lstrip("#"), value)
    value = re.sub(r"font: (?:[a-z0-9]+ )*?([\d.]+)px [^;]+", r"font-size: \1px", value)
    value = re.sub(r"font-family: [^;]+; |rotate\(-0 [^)]*\)", "", value)
    decimals = 1 if is_mark and key in ("x", "y", "d") else 2
    value = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.{decimals}f}".rstrip("0").rstrip("."), value)
    value = re.sub(r"url\(#([\w-]+)\)", lambda found: f"url(#{names[found[1]]})", value)
    for colour, theirs in THEME.items():
        value = value.replace(colour, theirs)
    value = " ".join(value.split())
    if key == "d" and not set(value) & set("CQz"):
        return re.sub(r" ?[L ] ?", " ", value).replace("M ", "M")  # after a move, points are lines
    return value


def _tidy(group: ElementTree.Element) -> None:
    """Leave out groups that say nothing, and white space; say once what all marks of a group say alike."""
    if group.tag == f"{_SVG}text":
        return
    for place, each in reversed(list(enumerate(group))):
        _tidy(each)
        each.tail = None
        if each.tag == f"{_SVG}g" and not each.attrib and len(each) < 2:
            group[place : place + 1] = list(each)
    if len(group):
        group.text = None
    marks = [each for each in group if each.tag != f"{_SVG}defs"]
    if group.tag == f"{_SVG}g" and all(each.tag in (f"{_SVG}use", f"{_SVG}path") for each in marks):
        _hoist(group, marks)


def _hoist(group: ElementTree.Element, marks: Sequence[ElementTree.Element]) -> None:
    """Move what all of a group's marks say of their look, and of where they end, to the group."""
    clips = {each.get("clip-path", "") for each in marks}
    if len(clips) == 1 and any(clips) and "clip-path" not in group.attrib:
        group.set("clip-path", clips.pop())
        for each in marks:
            del each.attrib["clip-path"]
    looks = [dict.fromkeys(filter(None, each.attrib.pop("style", "").split("; "))) for each in marks]
    common = [part for part in looks[0] if all(part in look for look in looks)] if looks else []
    common = [part for part in common if not part.startswith("opacity")]  # which is of the group as a whole
    if common:
        group.set("style", "; ".join([*filter(None, [group.get("style")]), *common]))
    for each, look in zip(marks, looks, strict=True):
        if left := "; ".join(part for part in look if part not in common):
            each.set("style", left)


def _tell(artist: Artist, marks: Sequence[int | str]) -> None:
    """Say of each mark of an artist which trial it is, or what is told of it."""
    artist.set_gid(MARKS + json.dumps(list(marks)))


def new_axes(rows: int = 1, columns: int = 1, *, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """An empty picture, `size` in inches."""
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        axes.spines[:].set_visible(False)
    return figure, list(grid.flat)


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """What the colours and marks of `axes` mean, above the picture."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK)


def scale(axes: Axes, which: str, view: StudyView, metric: str) -> None:
    """Logarithmic where the values need it, with ticks such as 20M, 50M, 100M."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}label")(label(metric) if metric else "trial")
    ticks = view.ticks(metric) if metric else None
    if ticks is None:
        axis.set_major_formatter(lambda value, _: number_text(value))
    else:
        getattr(axes, f"set_{which}scale")("log")
        axis.set_ticks(ticks, [number_text(tick) for tick in ticks])
        axis.set_ticks([], minor=True)


def points(axes: Axes, xs: Sequence[float], ys: Sequence[float], marks: Sequence[int | str], **look: Any) -> None:
    """Marks at the places that are known."""
    known = [place for place, pair in enumerate(zip(xs, ys, strict=True)) if all(map(math.isfinite, pair))]
    if known:
        drawn = axes.scatter([xs[place] for place in known], [ys[place] for place in known], **look)
        _tell(drawn, [marks[place] for place in known])


def pareto(view: StudyView) -> Drawn:
    """Every finished trial in each pair of objectives; with one objective, its value over the trials."""
    if not view.complete:
        return {}
    pairs = view.pairs() or [("", view.metrics[0])]
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure, grid = new_axes(rows, columns, size=(7.5, 4.6) if len(pairs) == 1 else (4.2 * columns, 3.9 * rows))
    shown = view.sample([result.number for result in view.complete], MOST_POINTS)
    for axes, (x, y) in zip(grid, pairs, strict=False):
        _draw_pair(axes, view, x, y, shown)
    for axes in grid[len(pairs) :]:
        axes.set_axis_off()
    legend(figure, grid[0])
    return {"": figure}


def _draw_pair(axes: Axes, view: StudyView, x: str, y: str, shown: Set[int]) -> None:
    def draw(results: Sequence[TrialResult], **look: Any) -> None:
        results = [result for result in results if result.number in shown]
        if results:
            numbers = [result.number for result in results]
            points(axes, view.column(results, x) if x else numbers, view.column(results, y), numbers, **look)

    scale(axes, "x", view, x)
    scale(axes, "y", view, y)
    groups = view.groups
    draw(groups["infeasible"], s=28, label="outside a constraint", facecolors="none", edgecolors=GREY)
    draw(groups["dominated"], s=22, color=GREY, alpha=0.7, linewidths=0, label="dominated")
    draw(groups["front"], s=46, color=FRONT, edgecolors=PAPER, label="Pareto front")
    if x and view.front.results:
        draw([view.front.knee], s=170, marker="*", color=KNEE, edgecolors=PAPER, label="knee")
        _draw_attained(axes, view, x, y)


def _draw_attained(axes: Axes, view: StudyView, x: str, y: str) -> None:
    """The steps within which a trial is dominated, to the edges; of three objectives, by what these two alone say."""
    xs, ys = view.front_line(x, y)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    worst_x = right if mode_of(x, view.study.objectives) == "min" else left
    worst_y = low if mode_of(y, view.study.objectives) == "max" else high
    xs, ys = [xs[0], *xs, worst_x], [worst_y, *ys, ys[-1]]
    steps = "attained" if len(view.metrics) == 2 else "attained in these two"
    axes.plot(xs, ys, color=FRONT, linewidth=1.2, linestyle="-" if len(view.metrics) == 2 else ":", label=steps)
    axes.fill_between(xs, ys, worst_y, color=FRONT, alpha=0.06, linewidth=0)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def hypervolume(view: StudyView) -> Drawn:
    """What the front dominates, over the finished trials."""
    if not view.front.candidates:
        return {}
    figure, (axes,) = new_axes(size=(7.5, 3.2))
    every, reached = [result.number for result in view.front.candidates], view.front.hypervolume_series()
    ends = (0, len(every) - 1)
    kept = [place for place in range(len(every)) if place in ends or reached[place] != reached[place - 1]]
    numbers, series = [every[place] for place in kept], [reached[place] for place in kept]
    axes.step(numbers, series, where="post", color=FRONT, linewidth=1.8)
    axes.fill_between(numbers, series, step="post", color=FRONT, alpha=0.08, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trial")
    axes.set_ylabel("hypervolume")
    return {"": figure}


def importance(view: StudyView) -> Drawn:
    """What each parameter explains of each objective that training decides."""
    if not view.parameters or not view.learned:
        return {}
    names = [axis.name for axis in view.parameters]
    bars = len(view.learned)
    figure, (axes,) = new_axes(size=(7.5, 1.4 + len(names) * 0.22 * (1 + bars)))
    for index, (metric, colour) in enumerate(zip(view.learned, OBJECTIVES, strict=False)):
        at = np.arange(len(names)) + (index - (bars - 1) / 2) * 0.8 / bars
        told = f"{label(metric)}: all together {view.fits[metric].explained:.0%}"
        widths = [view.importance(metric)[name] for name in names]
        axes.barh(at, widths, height=0.8 / bars, color=colour, label=told)
        for place, width in zip(at, widths, strict=True):
            axes.text(width + 0.01, place, f"{width:.0%}", fontsize=8, va="center", color=INK)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of variance lost without it")
    legend(figure, axes, columns=min(bars, 2))
    return {"": figure}


def slices(view: StudyView) -> Drawn:
    """Each objective that training decides over each of the parameters that matter most."""
    shown = view.parameters[:SLICES]
    return {label(metric): _slices_of(view, metric, shown) for metric in view.learned if shown}


def _slices_of(view: StudyView, metric: str, shown: Sequence[Axis]) -> Figure:
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure, grid = new_axes(rows, columns, size=(max(5.0, 3.4 * columns), 0.5 + 2.7 * rows))
    drawn = view.sample([each.number for each in view.complete], MOST_DRAWN)
    places = [place for place, each in enumerate(view.complete) if each.number in drawn]
    best = [place for place in places if view.complete[place].number in view.front.numbers]
    values = view.column(view.complete, metric)
    others = [place for place in places if view.complete[place].number not in view.front.numbers]
    for axes, parameter in zip(grid, shown, strict=False):
        scale(axes, "y", view, metric)
        _spread(axes, "x", parameter)
        for chosen, colour, what, size in ((others, GREY, "complete", 18), (best, FRONT, "Pareto front", 34)):
            xs, ys = [_jittered(parameter, place) for place in chosen], [values[place] for place in chosen]
            numbers = [view.complete[place].number for place in chosen]
            points(axes, xs, ys, numbers, s=size, color=colour, edgecolors=PAPER, linewidths=0.5, label=what)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    legend(figure, grid[0])
    return figure


def _jittered(axis: Axis, place: int) -> float:
    """Where a trial stands on the axis: those of one choice side by side, by a fixed shift."""
    shift = 0.0 if axis.numeric and len(axis.categories) > 6 else 0.2 * ((place * 0.618034) % 1 - 0.5)
    step = float(np.diff(axis.ticks()[0]).min()) if shift else 1.0
    return float(axis.positions[place]) + shift * step


def _spread(axes: Axes, which: str, parameter: Axis) -> None:
    """An axis of a parameter."""
    at, texts = parameter.ticks()
    long = which == "x" and max(map(len, texts)) * len(texts) > 24
    slanted: dict[str, Any] = {"rotation": 25, "ha": "right"} if long else {}
    getattr(axes, f"set_{which}ticks")(at, texts, parse_math=False, **slanted)
    getattr(axes, f"set_{which}label")(parameter.name, parse_math=False)


def contour(view: StudyView) -> Drawn:
    """What the forest expects of an objective over the two parameters that matter most and come together."""
    found = {metric: _contour_of(view, metric) for metric in view.learned if view.fits[metric].explained > 0}
    return {label(metric): figure for metric, figure in found.items() if figure is not None}


def _contour_of(view: StudyView, metric: str) -> Figure | None:
    shares = view.importance(metric)
    ranked = sorted(view.parameters, key=lambda axis: -shares[axis.name])[:MAX_AXES]
    pairs = [(a, b) for place, a in enumerate(ranked) for b in ranked[place + 1 :] if _together(a, b).sum() >= 8]
    if not pairs:
        return None
    across, up = pairs[0]
    both = _together(across, up)
    figure, (axes,) = new_axes(size=(7.5, 4.2))
    lines = [_lines(each) for each in (across, up)]
    raw = [10**line if axis.logarithmic else line for axis, line in zip((across, up), lines, strict=True)]
    expected = view.fits[metric].surface((across.name, up.name), *(each.tolist() for each in raw))
    axes.grid(visible=False)
    image = axes.contourf(*lines, expected, levels=12, cmap="cividis", zorder=0)
    bar = figure.colorbar(image, ax=axes, format=lambda value, _: number_text(value))
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_edgecolor(GRID)
    bar.set_label(f"{label(metric)}, expected", color=INK)
    drawn = view.sample([each.number for each, has in zip(view.complete, both, strict=True) if has], MOST_DRAWN)
    chosen = [place for place, each in enumerate(view.complete) if each.number in drawn]
    xs, ys = ([_jittered(each, place) for place in chosen] for each in (across, up))
    points(axes, xs, ys, [view.complete[place].number for place in chosen], s=20, color=LIGHT, edgecolors="black")
    _spread(axes, "x", across)
    _spread(axes, "y", up)
    return figure


def _together(a: Axis, b: Axis) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(~np.isnan(a.positions) & ~np.isnan(b.positions))


def _lines(axis: Axis) -> Array:
    """Places (n,) along an axis at which the forest is asked, of a choice every value."""
    known = axis.positions[~np.isnan(axis.positions)]
    if not axis.numeric:
        return np.unique(known)
    return np.linspace(known.min(), known.max(), 20)


def parallel(view: StudyView) -> Drawn:
    """The complete trials' parameters and objectives as parallel axes, coloured by the first objective."""
    if not view.parameters:
        return {}
    metrics = [Axis(name, tuple(view.column(view.complete, name))) for name in view.metrics]
    shown = [*view.parameters[:MAX_AXES], *metrics]
    figure, (axes,) = new_axes(size=(1.2 * len(shown) + 1.5, 4.4))
    heights = np.array([_heights(axis) for axis in shown])  # (axes, trials), 0 to 1
    first = heights[len(shown) - len(metrics)]
    drawn_ones = view.sample([each.number for each in view.complete], MOST_DRAWN)
    order = [place for place in np.argsort(first).tolist() if view.complete[place].number in drawn_ones]  # best on top
    lines = [np.column_stack([range(len(shown)), heights[:, trial]]) for trial in order]
    drawn = LineCollection(lines, array=first[order], cmap="viridis", linewidths=0.9, alpha=0.7)
    _tell(drawn, [view.complete[place].number for place in order])
    axes.add_collection(drawn)
    axes.autoscale_view()
    for index, axis in enumerate(shown):
        axes.axvline(index, color=INK, linewidth=0.8)
        for height, text in _ticks(axis):
            patch = {"facecolor": PAPER, "alpha": 0.75, "linewidth": 0, "pad": 0.6}
            axes.text(index + 0.04, height, text, fontsize=8, va="center", bbox=patch, color=INK, parse_math=False)
    axes.set_xticks(range(len(shown)), [label(axis.name) for axis in shown], rotation=15, ha="right", parse_math=False)
    axes.set_yticks([])
    axes.grid(visible=False)
    return {"": figure}


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


def curves(view: StudyView) -> Drawn:
    """Validation accuracy over the epochs of every trial; where a trial was stopped early there is a cross."""
    every = view.curves(MOST_DRAWN)
    if not every:
        return {}
    figure, (axes,) = new_axes(size=(7.5, 4.2))
    for kind, (name, colour, dashes) in CURVES.items():
        chosen = [curve for curve in every if curve[0] == kind]
        if not chosen:
            continue
        lines = [np.column_stack([epochs, values]) for _, _, epochs, values in chosen]
        strong = kind == "front"
        looks: dict[str, Any] = {"linewidths": 1.8 if strong else 0.9, "alpha": 1.0 if strong else 0.5}
        drawn = LineCollection(lines, colors=colour, label=name, linestyles=dashes, **looks)
        _tell(drawn, [number for _, number, _, _ in chosen])
        axes.add_collection(drawn)
        if kind in ("pruned", "failed"):
            ends = np.array([line[-1] for line in lines])
            axes.plot(ends[:, 0], ends[:, 1], "x", color=colour, markersize=5)
    axes.autoscale_view()
    for rung in view.rungs():
        axes.axvline(rung, color=GRID, linewidth=1.5, zorder=0)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label("val_acc"))
    legend(figure, axes)
    return {"": figure}


def schedules(view: StudyView) -> Drawn:
    """What changed over the epochs of the knee; phases are shaded."""
    shown = view.of_shown(view.schedules)
    if not shown:
        return {}
    number, found = next(iter(shown.items()))
    figure, rows = new_axes(len(found), size=(7.5, 1.2 + 1.3 * len(found)))
    for axes, (name, (epochs, values)) in zip(rows, found.items(), strict=True):
        axes.plot(epochs, values, color=FRONT, drawstyle="steps-post" if name in BIT_WIDTHS else "default")
        axes.set_ylabel(label(name))
        axes.sharex(rows[-1])
        if name in BIT_WIDTHS:
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        for index, (phase, first, last) in enumerate(view.phases(number)):
            axes.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=(0.08, 0.2)[index % 2], linewidth=0, zorder=0)
            if axes is rows[0]:
                at = {"x": (first + last) / 2, "y": 1.02, "transform": axes.get_xaxis_transform()}
                axes.text(s=phase, ha="center", fontsize=9, color=INK, parse_math=False, **at)  # type: ignore[arg-type]
        axes.label_outer()
    rows[-1].set_xlabel(f"epoch of trial {number}")
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return {"": figure}


def layers(view: StudyView) -> Drawn:
    """Flip rate of every layer over the epochs of each trial of the front, the knee first."""
    drawn = {}
    for number, (epochs, names, values) in view.of_shown(view.layer_map).items():
        figure, (axes,) = new_axes(size=(7.5, 1.6 + 0.22 * len(names)))
        axes.set_yticks(range(len(names)), names, parse_math=False)
        _draw_heat(axes, number, epochs, values, names, rows=(len(names) - 0.5, -0.5), what="flip rate")
        drawn[_called(view, number)] = figure
    return drawn


def weights(view: StudyView) -> Drawn:
    """Where the latent weights are, over the epochs of each trial of the front, the knee first."""
    half = (WEIGHT_BINS[1] - WEIGHT_BINS[0]) / 2
    rows = (WEIGHT_BINS[0] - half, WEIGHT_BINS[-1] + half)
    drawn = {}
    for number, (epochs, shares) in view.of_shown(view.weight_map).items():
        figure, (axes,) = new_axes(size=(7.5, 3.6))
        names = [f"weight {place:.3g}" for place in reversed(WEIGHT_BINS)]
        _draw_heat(axes, number, epochs, shares[::-1], names, rows=rows, what="share of weights", most=SHARE_SHOWN)
        axes.set_yticks([-1, 0, 1])
        axes.set_ylabel("latent weight")
        drawn[_called(view, number)] = figure
    return drawn


def _called(view: StudyView, number: int) -> str:
    return f"trial {number}" + (" (knee)" if number == view.front.knee.number else "")


def _draw_heat(
    axes: Axes,
    number: int,
    epochs: Sequence[int],
    values: Array,
    names: Sequence[str],
    *,
    rows: tuple[float, float],
    what: str,
    most: float | None = None,
) -> None:
    """What changes over the epochs of trial `number`: `values` (rows, epochs), the first row on top, called `names`.

    `rows` are the upright coordinates of the lower and the upper edge, `most` what has the darkest colour.
    """
    axes.grid(visible=False)
    lowest = None if most is None else 0
    extent = (epochs[0] - 0.5, epochs[-1] + 0.5, *rows)
    image = axes.imshow(
        values, aspect="auto", cmap="Blues", extent=extent, vmin=lowest, vmax=most, interpolation="none"
    )
    known = [[None if math.isnan(value) else short(value, 3) for value in row] for row in values.tolist()]
    told = {"what": what, "epochs": list(epochs), "names": list(names), "values": known}
    image.set_gid(CELLS + json.dumps(told, separators=(",", ":")))
    axes.set_xlabel(f"epoch of trial {number}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bar = axes.figure.colorbar(image, ax=axes)
    bar.ax.tick_params(colors=INK, labelsize=9)
    bar.outline.set_edgecolor(GRID)
    bar.set_label(what, color=INK)


PICTURES = (
    Picture(
        "pareto",
        "Pareto front",
        "Each point is a trial that ran to its end. Nothing found is better than a point of the front in every "
        "objective at once. The line bounds what is attained. The star is the knee, the best compromise. Of three "
        "objectives, a point of the front may lie inside the dotted line: it is better in the third.",
        pareto,
        most=MOST_POINTS,
    ),
    Picture(
        "hypervolume",
        "Hypervolume",
        "How much of the objective space the front dominates, after each finished trial. A curve that has "
        "gone flat says that more trials of this kind would bring little.",
        hypervolume,
    ),
    Picture(
        "importance",
        "Importance",
        "Share of an objective's variance that is lost without a parameter, by a forest of all of them together, asked "
        "about trials that it did not see; it learns from trials that were stopped early too. The choice of a branch "
        "has its branch's parameters in it, and parameters that act together both have the share, so the sum may "
        "exceed what all explain together. Where that is little, do not trust the parts. Costs that the configuration "
        "alone decides are left out: nothing is learned of them.",
        importance,
    ),
    Picture(
        "slices",
        "Slices",
        "An objective over each of the parameters that matter most, all others as the search had them.",
        slices,
        most=MOST_DRAWN,
    ),
    Picture(
        "contour",
        "Two parameters together",
        "What the same forest expects over the two parameters that matter most, averaged over what trials had besides; "
        "points are trials. Where there are none, it is a guess.",
        contour,
        most=MOST_DRAWN,
    ),
    Picture(
        "parallel",
        "Parameters",
        "A line is a trial; draw a box over an axis to keep those within.",
        parallel,
        MOST_DRAWN,
    ),
    Picture(
        "learning_curves",
        "Learning curves",
        "Validation accuracy of the sign network, the one that would be exported. A cross ends a trial that was "
        "stopped or failed; a grey line is an epoch at which trials were compared and some stopped.",
        curves,
        most=MOST_DRAWN,
    ),
    Picture(
        "schedules",
        "Schedules",
        "What changed while the knee was trained; the shading shows the method's phases.",
        schedules,
    ),
    Picture(
        "flip_rate",
        "Weight flips",
        "Share of a layer's weights that changed sign in an epoch. Training has settled where it fades.",
        layers,
    ),
    Picture(
        "weights",
        "Weights",
        "Where the latent weights of the binary layers are. Methods that binarise by degrees move them to -1 "
        "and +1 as the epochs go by.",
        weights,
    ),
)
"""In the report's order; the tables of trials stand after the first, and before the learning curves."""
