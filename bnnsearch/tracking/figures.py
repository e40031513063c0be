"""The report's interactive pictures, drawn with plotly from a `StudyView`. Text that users wrote is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bnnsearch.core.trainer import WEIGHT_BINS
from bnnsearch.results import TrialResult
from bnnsearch.tracking.page import escape
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
    value_text,
)

CLEAR = "rgba(0,0,0,0)"
BANDS = ("#f1f5f9", "#e2e8f0", "#dbeafe", "#ede9fe")


def pareto_figure(view: StudyView) -> go.Figure:
    """Every finished trial in each pair of objectives; with one objective, its value over the trials."""
    pairs = view.pairs() or [("", view.metrics[0])]
    columns = min(len(pairs), 3)
    rows = math.ceil(len(pairs) / columns)
    figure = make_subplots(rows=rows, cols=columns, horizontal_spacing=0.09, vertical_spacing=0.14)
    for index, (x, y) in enumerate(pairs):
        row, column = index // columns + 1, index % columns + 1
        for trace in _pareto_traces(view, x, y):
            figure.add_trace(trace.update(showlegend=index == 0 and trace.mode == "markers"), row=row, col=column)
        figure.update_xaxes(title=label(x) if x else "trial", row=row, col=column, **_scale(view, x))
        figure.update_yaxes(title=label(y), row=row, col=column, **_scale(view, y))
    return styled(figure, height=430 if rows == 1 else 330 * rows)


def _scale(view: StudyView, metric: str) -> dict[str, Any]:
    """Axis settings: logarithmic where the values need it, with ticks such as 20M, 50M, 100M."""
    ticks = view.ticks(metric) if metric else None
    if ticks is None:
        return {"exponentformat": "SI"}
    return {"type": "log", "tickvals": ticks, "ticktext": [number_text(tick) for tick in ticks]}


def _pareto_traces(view: StudyView, x: str, y: str) -> list[go.Scatter]:
    looks: dict[str, tuple[str, dict[str, Any]]] = {
        "infeasible": ("outside a constraint", {"symbol": "circle-open", "color": GREY, "size": 8}),
        "dominated": ("dominated", {"symbol": "circle", "color": GREY, "size": 7, "opacity": 0.65}),
        "front": ("Pareto front", {"color": FRONT, "size": 10, "line": {"color": "white", "width": 1}}),
    }
    traces = []
    if x and len(view.metrics) == 2:
        xs, ys = view.front_line(x, y)
        line = {"color": FRONT, "width": 1.5, "dash": "dot"}
        traces.append(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip", legendgroup="Pareto front"))
    for group, (name, marker) in looks.items():
        results = view.groups[group]
        if results:
            traces.append(_points(view, results, (x, y)).update(marker=marker, name=name, legendgroup=name))
    if view.front.results and x:
        marker = {"symbol": "star", "color": KNEE, "size": 16, "line": {"color": "white", "width": 1}}
        traces.append(_points(view, [view.front.knee], (x, y)).update(marker=marker, name="knee", legendgroup="knee"))
    return traces


def _points(view: StudyView, results: Sequence[TrialResult], pair: tuple[str, str]) -> go.Scatter:
    x, y = pair
    return go.Scatter(
        x=view.column(results, x) if x else [result.number for result in results],
        y=view.column(results, y),
        mode="markers",
        text=[_hover(view, result) for result in results],
        customdata=[result.number for result in results],  # by which the table of trials knows them
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(view: StudyView, result: TrialResult) -> str:
    goals = [f"{label(name)}: {_full(name, result.metrics.get(name, math.nan))}" for name in view.metrics]
    params = [f"{escape(name)} = {escape(_short(value))}" for name, value in result.params.items()]
    return "<br>".join([f"<b>trial {result.number}</b>", *goals, *params[:12]])


def _full(metric: str, value: float) -> str:
    return value_text(metric, value) if metric.endswith("_acc") else f"{value:,.6g}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def hypervolume_figure(view: StudyView) -> go.Figure:
    """What the front dominates, over the finished trials; trials that came onto the front of their time are marked."""
    series = view.front.hypervolume_series()
    numbers = [result.number for result in view.front.candidates]
    figure = go.Figure(
        go.Scatter(
            x=numbers,
            y=series,
            mode="lines",
            line={"color": FRONT, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(0,114,178,.1)",
            hovertemplate="after trial %{x}: %{y:.4f}<extra></extra>",
        )
    )
    figure.update_xaxes(title="trial")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return styled(figure, height=330)


def parallel_figure(view: StudyView) -> go.Figure | None:
    """The complete trials' parameters and objectives as parallel axes, coloured by the first objective."""
    if not view.parameters:
        return None
    metrics = [Axis(name, tuple(view.column(view.complete, name))) for name in view.metrics]
    first = metrics[0]
    figure = go.Figure(
        go.Parcoords(
            dimensions=[*(_dimension(axis) for axis in view.parameters[:MAX_AXES]), *map(_dimension, metrics)],
            line={
                "color": first.positions,
                "colorscale": "Viridis",
                "showscale": True,
                "colorbar": {"title": {"text": label(first.name), "side": "right"}, "thickness": 12},
            },
            labelangle=-12,
            labelfont={"size": 11, "color": INK},
        )
    )
    return styled(figure, height=430, margin={"l": 70, "r": 30, "t": 90, "b": 30})


def _dimension(axis: Axis) -> dict[str, Any]:
    """An axis; trials without the parameter run below it, where the tick says `none`."""
    at, texts = axis.ticks()
    known = axis.positions[~np.isnan(axis.positions)]
    low, high = float(known.min()), float(known.max())
    span = (high - low) or 1.0
    if np.isnan(axis.positions).any():
        low -= 0.15 * span
        at, texts = [low, *at], ["none", *texts]
    return {
        "label": escape(label(axis.name)),
        "values": np.nan_to_num(axis.positions, nan=low),
        "tickvals": at,
        "ticktext": [escape(text) for text in texts],
        "range": [low, high] if high > low else [low - 0.5, high + 0.5],
    }


def importance_figure(view: StudyView) -> go.Figure | None:
    """What each parameter explains of each objective."""
    if not view.parameters or not view.learned:
        return None
    names = [axis.name for axis in view.parameters][::-1]
    figure = go.Figure()
    for metric, colour in list(zip(view.learned, OBJECTIVES, strict=False))[::-1]:
        shares = view.importance(metric)
        figure.add_trace(
            go.Bar(
                y=[escape(name) for name in names],
                x=[shares[name] for name in names],
                orientation="h",
                name=label(metric),
                marker={"color": colour},
                hovertemplate="%{y}: %{x:.0%}<extra>" + label(metric) + "</extra>",
            )
        )
    figure.update_layout(barmode="group", legend_traceorder="reversed", bargap=0.3)
    figure.update_xaxes(title="share of variance explained", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(automargin=True)
    return styled(figure, height=130 + len(names) * (16 + 16 * len(view.learned)))


def curves_figure(view: StudyView) -> go.Figure | None:
    """Validation accuracy over the epochs of every trial; where a trial was stopped early there is a cross."""
    curves = view.curves()
    if not curves:
        return None
    looks = {
        "complete": ("complete", GREY, 1.0),
        "pruned": ("stopped early", PRUNED, 1.0),
        "failed": ("failed", BAD, 1.0),
        "running": ("not ended", GOING, 1.2),
        "front": ("Pareto front", FRONT, 2.0),
    }
    figure = go.Figure()
    for kind, (name, colour, width) in looks.items():
        chosen = [curve for curve in curves if curve[0] == kind]
        if not chosen:
            continue
        xs = [epoch for _, _, epochs, _ in chosen for epoch in (*epochs, None)]
        ys = [value for _, _, _, values in chosen for value in (*values, None)]
        texts = [f"trial {number}" for _, number, epochs, _ in chosen for _ in (*epochs, None)]
        figure.add_trace(
            go.Scatter(
                x=xs,
                y=ys,
                text=texts,
                mode="lines",
                name=name,
                legendgroup=name,
                line={"color": colour, "width": width, "dash": "dot" if kind == "failed" else "solid"},
                opacity=1.0 if kind == "front" else 0.5,
                hovertemplate="%{text}, epoch %{x}: %{y:.4f}<extra></extra>",
            )
        )
        if kind in ("pruned", "failed"):
            ends = [(epochs[-1], values[-1]) for _, _, epochs, values in chosen]
            marker = {"symbol": "x", "color": colour, "size": 6}
            figure.add_trace(
                go.Scatter(
                    x=[x for x, _ in ends],
                    y=[y for _, y in ends],
                    mode="markers",
                    marker=marker,
                    legendgroup=name,
                    showlegend=False,
                    hoverinfo="skip",
                )
            )
    for rung in view.rungs():
        figure.add_vline(x=rung, line={"color": GRID, "width": 1.5}, layer="below")
    figure.update_xaxes(title="epoch")
    figure.update_yaxes(title=label("val_acc"))
    return styled(figure, height=400)


def layers_figure(view: StudyView) -> go.Figure | None:
    """Flip rate of every layer over the epochs of one trial of the front; a menu chooses the trial."""
    maps = view.of_shown(view.layer_map)
    if not maps:
        return None
    figure = go.Figure(
        [
            _heat(number, epochs, [escape(layer) for layer in layers], values, "flip rate")
            for number, (epochs, layers, values) in maps.items()
        ]
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    tallest = max(len(layers) for _, layers, _ in maps.values())
    return _with_menu(styled(figure, height=max(260, 110 + 18 * tallest)), view, list(maps))


def weights_figure(view: StudyView) -> go.Figure | None:
    """Where the latent weights are, over the epochs of one trial of the front; a menu chooses the trial."""
    maps = view.of_shown(view.weight_map)
    if not maps:
        return None
    figure = go.Figure(
        [
            _heat(number, epochs, WEIGHT_BINS, shares, "share of weights").update(zmin=0, zmax=SHARE_SHOWN)
            for number, (epochs, shares) in maps.items()
        ]
    )
    figure.update_yaxes(title="latent weight", tickvals=[-1, 0, 1])
    return _with_menu(styled(figure, height=380), view, list(maps))


def _heat(number: int, epochs: Sequence[int], rows: Sequence[Any], values: Array, what: str) -> go.Heatmap:
    """What changes over the epochs of trial `number`, one row each."""
    return go.Heatmap(
        x=epochs,
        y=rows,
        z=values,
        colorscale="Blues",
        colorbar={"title": {"text": what, "side": "right"}, "thickness": 12},
        hovertemplate=f"trial {number}<br>%{{y}}, epoch %{{x}}: %{{z:.3g}}<extra></extra>",
    )


def schedules_figure(view: StudyView) -> go.Figure | None:
    """What changed over the epochs of the knee: lambda, tau, bit-widths, learning rates, flips; phases are shaded."""
    shown = view.of_shown(view.schedules)
    if not shown:
        return None
    number, schedules = next(iter(shown.items()))
    figure = make_subplots(rows=len(schedules), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    for row, (name, (epochs, values)) in enumerate(schedules.items(), start=1):
        line = {"color": FRONT, "width": 2, "shape": "hv" if name in BIT_WIDTHS else "linear"}
        hover = f"epoch %{{x}}: %{{y:.4g}}<extra>{escape(label(name))}</extra>"
        figure.add_trace(go.Scatter(x=epochs, y=values, mode="lines", line=line, hovertemplate=hover), row=row, col=1)
        figure.update_yaxes(title=label(name), exponentformat="power", row=row, col=1)
    phases = view.phases(number)
    for index, (name, first, last) in enumerate(phases):
        figure.add_vrect(
            x0=first - 0.5, x1=last + 0.5, fillcolor=BANDS[index % len(BANDS)], line_width=0, layer="below"
        )
        figure.add_annotation(
            x=(first + last) / 2, y=1.0, yref="paper", yanchor="bottom", showarrow=False, text=escape(name)
        )
    figure.update_xaxes(title="epoch", row=len(schedules), col=1)
    return styled(figure, height=90 + 140 * len(schedules), legend=False)


def _with_menu(figure: go.Figure, view: StudyView, numbers: list[int]) -> go.Figure:
    """A menu that shows the trace of one trial at a time, by its epochs."""
    figure.update_xaxes(title="epoch")
    for place, trace in enumerate(figure.data):
        trace.visible = place == 0
    if len(numbers) < 2:
        return figure
    knee = view.front.knee.number
    buttons = [
        {
            "label": f"trial {number}" + (" (knee)" if number == knee else ""),
            "method": "update",
            "args": [{"visible": [chosen == place for place in range(len(numbers))]}],
        }
        for chosen, number in enumerate(numbers)
    ]
    menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "showactive": True}
    return figure.update_layout(updatemenus=[menu])


def styled(figure: go.Figure, *, height: int, legend: bool = True, margin: dict[str, int] | None = None) -> go.Figure:
    """The look that all pictures share."""
    figure.update_layout(
        template="plotly_white",
        paper_bgcolor=CLEAR,  # the page's, light or dark
        plot_bgcolor=CLEAR,
        modebar={"bgcolor": CLEAR, "color": GREY, "activecolor": FRONT},
        height=height,
        margin=margin or {"l": 70, "r": 20, "t": 64, "b": 55},
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": INK},
        showlegend=legend and len(figure.data) > 1 and not isinstance(figure.data[0], go.Heatmap),
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"color": INK}},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID)
    return figure
