"""A study's report: one HTML page that needs no network, the same pictures as PNGs, the front as JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bnnsearch import __version__
from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder
from bnnsearch.results import TrialState, read_results
from bnnsearch.tracking.front import write_front
from bnnsearch.tracking.history import read_history
from bnnsearch.tracking.view import StudyView, label, number_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PAGE = "report.html"


def write_report(folder: StudyFolder, study: StudyConfig) -> Path:
    """Write the report of a finished, running or interrupted study from what its folder holds.

    Returns:
        The folder with `report.html`, the PNGs, `front.json` and `front.csv`.
    """
    view = StudyView(study, tuple(read_results(folder.results)), read_history(folder.epochs))
    folder.report.mkdir(parents=True, exist_ok=True)
    write_front(view.front, folder.report)
    from bnnsearch.tracking.pictures import write_pictures

    write_pictures(view, folder.report)
    draft = folder.report / f".{PAGE}"
    draft.write_text(report_html(view, folder.search_id), encoding="utf-8")
    draft.replace(folder.report / PAGE)
    return folder.report


def report_html(view: StudyView, search_id: str) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs

    study = view.study
    sections = "\n".join(_sections(view))
    description = f"<p class='lead'>{escape(study.description)}</p>" if study.description else ""
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(study.name)}: search report</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head><body><main>
<h1>{escape(study.name)}</h1>
<p class="sub">search {escape(search_id)} · {escape(study.sampler.name)} sampler · seed {study.seed} ·
written {written} by bnnsearch {__version__}</p>
{description}
{_facts(view)}
{sections}
</main></body></html>
"""


def _facts(view: StudyView) -> str:
    counts = view.counts()
    facts = [
        (f"{len(view.results)} / {view.study.budget.trials}", "trials ended"),
        *((str(count), state) for state, count in counts.items() if count),
        (str(len(view.front.results)), "on the front"),
        (f"{view.front.hypervolume:.3f}", "hypervolume"),
    ]
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in facts)
    return f"<div class='facts'>{cells}</div>"


def _sections(view: StudyView) -> Iterator[str]:
    from bnnsearch.tracking import figures

    if not view.complete:
        yield "<p class='empty'>No trial has run to its end yet: there is no front to show.</p>"
    else:
        yield _picture("Pareto front", _CAPTIONS["pareto"], figures.pareto_figure(view))
        yield _front_table(view)
        yield _picture("Hypervolume", _CAPTIONS["hypervolume"], figures.hypervolume_figure(view))
        yield _picture("Importance", _CAPTIONS["importance"], figures.importance_figure(view))
        yield _picture("Parameters", _CAPTIONS["parallel"], figures.parallel_figure(view))
    yield _picture("Learning curves", _CAPTIONS["curves"], figures.curves_figure(view))
    yield _picture("Schedules", _CAPTIONS["schedules"], figures.schedules_figure(view))
    yield _picture("Weight flips", _CAPTIONS["layers"], figures.layers_figure(view))
    yield _failures(view)


def _picture(title: str, caption: str, figure: Figure | None) -> str:
    if figure is None:
        return ""
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}, default_width="100%"
    )
    return f"<section><h2>{title}</h2><p class='caption'>{caption}</p>{drawn}</section>"


def _front_table(view: StudyView) -> str:
    if not view.front.results:
        return "<p class='empty'>No finished trial is within the constraints: the front is empty.</p>"
    names = list(dict.fromkeys(name for result in view.front.results for name in result.params))
    head = "".join(f"<th>{escape(text)}</th>" for text in ["trial", *map(label, view.metrics), *names])
    rows = []
    for result in view.front.results:
        goals = [f"<td class='n'>{_value(name, result.metrics[name])}</td>" for name in view.metrics]
        params = [
            f"<td>{escape(_param(result.params[name]))}</td>" if name in result.params else "<td></td>"
            for name in names
        ]
        star = " ★" if result is view.front.knee else ""
        rows.append(f"<tr><td class='n'>{result.number}{star}</td>{''.join(goals)}{''.join(params)}</tr>")
    return (
        "<section><h2>Trials on the front</h2><p class='caption'>The best of the first objective first; ★ is the knee. "
        "<code>bnnsearch export --trial N</code> writes one of them as a file that <code>bnnsearch train</code> takes."
        f"</p><div class='scroll'>{_table(head, rows)}</div></section>"
    )


def _value(metric: str, value: float) -> str:
    return f"{value:.4f}" if metric.endswith("_acc") else number_text(value)


def _param(value: object) -> str:
    return number_text(value) if isinstance(value, float) else str(value)


def _failures(view: StudyView) -> str:
    causes: dict[str, list[int]] = {}
    for result in view.results:
        if result.state is TrialState.FAILED:
            causes.setdefault(result.reason or "no reason given", []).append(result.number)
    if not causes:
        return ""
    rows = [
        f"<tr><td>{len(numbers)}</td><td>{escape(reason)}</td><td>{', '.join(map(str, numbers[:20]))}</td></tr>"
        for reason, numbers in sorted(causes.items(), key=lambda cause: -len(cause[1]))
    ]
    head = "<th>count</th><th>reason</th><th>trials</th>"
    return f"<section><h2>Failed trials</h2>{_table(head, rows)}</section>"


def _table(head: str, rows: list[str]) -> str:
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


_CAPTIONS = {
    "pareto": "Each point is a trial that ran to its end. Nothing found is better than a point of the front in every "
    "objective at once. The star is the knee, the best compromise.",
    "hypervolume": "How much of the objective space the front dominates, after each finished trial. A curve that has "
    "gone flat says that more trials of this kind would bring little.",
    "importance": "How much of an objective's variance over the trials each parameter explains by itself. The search "
    "samples unevenly, so read it as a hint, not a law.",
    "parallel": "A line is a trial. Drag along an axis to keep only the trials within a range.",
    "curves": "Validation accuracy of the sign network, the one that would be exported. A cross ends a trial that was "
    "stopped or failed.",
    "schedules": "What changed while the knee was trained; the shading shows the method's phases.",
    "layers": "Share of a layer's weights that changed sign in an epoch. Training has settled where it fades.",
}

_STYLE = """
:root { color: #1f2937; background: #f8fafc; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
body { margin: 0 } main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px }
h1 { margin: 0; font-size: 30px } h2 { margin: 0 0 2px; font-size: 19px }
.sub, .caption { color: #6b7280; margin: 2px 0 10px; font-size: 14px } .lead { font-size: 16px }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 }
.facts div, section { background: white; border: 1px solid #e5e7eb; border-radius: 10px }
.facts div { padding: 10px 18px; min-width: 84px } .facts b { display: block; font-size: 21px }
.facts span { color: #6b7280; font-size: 13px }
section { padding: 18px 20px; margin: 16px 0 } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 13.5px; width: 100% }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid #e5e7eb; white-space: nowrap }
th { font-weight: 600; color: #6b7280 } .n { font-variant-numeric: tabular-nums }
.empty { background: white; border: 1px dashed #cbd5e1; border-radius: 10px; padding: 20px }
code { background: #f1f5f9; padding: 1px 5px; border-radius: 4px }
"""
