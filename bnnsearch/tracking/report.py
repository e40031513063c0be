"""A study's report: one HTML page that needs no network, the same pictures as PNGs, the front as JSON and CSV."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnsearch.config.metrics import tabled
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder, make_way, replace_file
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import Past, read_past
from bnnsearch.results import TrialResult, TrialState, quantisation_notes
from bnnsearch.space.distribution import Choice
from bnnsearch.tracking.front import write_front, write_trials
from bnnsearch.tracking.page import Cell, Frame, facts, page, paragraph, picture, section, table, trials_table
from bnnsearch.tracking.view import StudyView, label, number_text, value_text

if TYPE_CHECKING:
    from bnnsearch.tracking.figures import Drawn

PAGE = "report.html"

MOST_ROWS = 2000
"""Trials in the page's table; the files have all."""


def write_report(folder: StudyFolder, study: StudyConfig, network: str | None = None) -> Path:
    """Write the report of a finished, running or interrupted study from what its folder holds.

    Args:
        folder: of the study.
        study: its settings.
        network: a page that tries a network, for the report to hold.

    Returns:
        The folder with `report.html`, the PNGs, `front.json`, `front.csv`, `trials.csv` and `trials.parquet`.
    """
    past = read_past(folder, epochs=True)
    view = StudyView(study, past.results, past.history, _orders(past))
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # the first import ever tells that it looks for fonts
    make_way(folder.report, unless=lambda report: report.is_dir() and all(map(Path.is_file, report.iterdir())))
    try:
        _write(view, folder, network)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or folder.report}: cannot be written: {error.strerror}") from error
    return folder.report


def _orders(past: Past) -> dict[str, tuple[Any, ...]]:
    """The choices of the study's space, where it can still be read."""
    try:
        parameters = past.space.trial.parameters()
    except InputError:
        return {}
    return {each.name: each.distribution.categories for each in parameters if isinstance(each.distribution, Choice)}


def _write(view: StudyView, folder: StudyFolder, network: str | None) -> None:
    from bnnsearch.tracking.figures import save

    drawn = draw(view)
    folder.report.mkdir(exist_ok=True)  # not its parents: a study that was moved leaves nothing where it was
    write_front(view.front, folder.report)
    write_trials(view.results, folder.report)
    for name, figures in drawn.items():
        if figures:
            save(next(iter(figures.values())), folder.report / f"{name}.png")
    replace_file(folder.report / PAGE, report_html(view, folder.search_id, drawn, network))


def draw(view: StudyView) -> dict[str, Drawn]:
    """Every picture by its name."""
    from bnnsearch.tracking.figures import PICTURES

    return {each.name: each.draw(view) for each in PICTURES}


def report_html(
    view: StudyView, search_id: str, drawn: Mapping[str, Drawn] | None = None, network: str | None = None
) -> str:
    """The page, of what `draw` has drawn; `network` is as for `write_report`."""
    study = view.study
    about = f"search {search_id} · {study.sampler.name} sampler · seed {study.seed}"
    parts = [paragraph(study.description, "lead"), _facts(view)]
    parts += _sections(view, draw(view) if drawn is None else drawn)
    if network is None:
        return page(study.name, about, parts)
    frame = Frame("The network to try", network)
    return page(study.name, about, [*parts, section("Try it", _CAPTIONS["network"], frame.part)], frame)


def _facts(view: StudyView) -> str:
    repeats = sum(result.confirms is not None for result in view.results)
    return facts(
        [
            (f"{len(view.results) - repeats} / {view.study.budget.trials}", "trials ended"),
            *([(str(repeats), "confirm the front")] if repeats else []),
            *((str(count), state) for state, count in view.counts().items() if count),
            (str(len(view.front.results)), "on the front"),
            (f"{view.front.hypervolume:.3f}", "hypervolume"),
        ]
    )


def _sections(view: StudyView, drawn: Mapping[str, Drawn]) -> Iterator[str]:
    from bnnsearch.tracking.figures import PICTURES

    if not view.complete:
        yield paragraph("No trial has run to its end yet: there is no front to show.", "empty")
    for each in PICTURES:
        if each.name == "learning_curves":
            yield _all_trials(view)
        sampled = each.most is not None and len(view.results) > each.most
        caption = f"{each.caption} {_SAMPLED.format(most=each.most)}" if sampled else each.caption
        yield picture(each.name, each.title, caption, drawn[each.name])
        if each.name == "pareto" and view.complete:
            yield _front_table(view)
    yield _failures(view)


def _front_table(view: StudyView) -> str:
    front = view.front
    if not front.results:
        return paragraph("No finished trial is within the constraints: the front is empty.", "empty")
    names = list(dict.fromkeys(name for result in front.results for name in result.params))
    metrics = tabled(view.metrics, (result.metrics for result in front.results))
    rows = [
        [
            f"{result.number} ★" if result is front.knee else str(result.number),
            *(_value(front, result, name) for name in metrics),
            *(_param(result.params[name]) if name in result.params else "" for name in names),
        ]
        for result in front.results
    ]
    said = "".join(paragraph(f"{note}.", "note") for note in [*front.noise, *quantisation_notes(front.results)])
    shown = table("trials on the front", ["trial", *map(label, metrics), *names], rows) + said
    return section("Trials on the front", _CAPTIONS["front"], shown)


def _all_trials(view: StudyView) -> str:
    """Every ended trial, for whoever looks for one."""
    if not view.results:
        return ""
    results = view.results[:MOST_ROWS]
    names = list(dict.fromkeys(name for result in results for name in result.params))
    metrics = tabled(view.metrics, (result.metrics for result in results))
    rows = []
    for result in results:
        measured = [(name, result.metrics.get(name)) for name in metrics]
        cells = [
            Cell(str(result.number), float(result.number)),
            Cell("front" if result.number in view.front.numbers else str(result.state)),
            *(Cell("") if value is None else Cell(value_text(name, value), value) for name, value in measured),
            *(_sampled(result.params[name]) if name in result.params else Cell("") for name in names),
            Cell(str(result.epochs), float(result.epochs)),
            Cell(f"{result.seconds:.0f}", result.seconds),
        ]
        rows.append(cells)
    head = ["trial", "state", *map(label, metrics), *names, "epochs", "seconds"]
    shown = trials_table(head, ["trial", "state", *metrics, *names, "epochs", "seconds"], rows)
    more = "" if len(results) == len(view.results) else f" The first {MOST_ROWS:,} of {len(view.results):,}."
    return section("All trials", _CAPTIONS["trials"] + more, shown)


def _sampled(value: object) -> Cell:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return Cell(_param(value), number)


def _value(front: ParetoFront, result: TrialResult, metric: str) -> str:
    if metric not in result.metrics:
        return ""
    deviation = front.deviation(result.number, metric)
    spread = "" if deviation is None else f" ± {value_text(metric, deviation)}"
    return value_text(metric, result.metrics[metric]) + spread


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
        [str(len(numbers)), reason, ", ".join(map(str, numbers[:20]))]
        for reason, numbers in sorted(causes.items(), key=lambda cause: -len(cause[1]))
    ]
    return section("Failed trials", "Grouped by cause.", table("failed trials", ["count", "reason", "trials"], rows))


_SAMPLED = (
    "At most {most:,} trials are drawn: the front, those that ran to their end, an even sample where they are more. "
    "The table has all."
)

_CAPTIONS = {
    "front": "The best of the first objective first; ★ is the knee. <code>bnnsearch export --trial N</code> writes one "
    "of them as a file that <code>bnnsearch train</code> takes, and <code>bnnsearch report --network MODEL</code> "
    "has it, once it is packed, in this page to be tried. Where <code>confirm</code> trained them again, values "
    "are means over the other seeds, ± their standard deviation.",
    "network": "A network of <code>bnnsearch train</code>, packed, that runs in this page.",
    "trials": "Heads sort; words and limits such as <code>memory_bytes&lt;20000</code> filter; a row marks its points "
    "in the charts, and a box drawn in a chart is what the table shows. In a chart, arrow keys go from trial to "
    "trial, and Enter marks one. The same is in <code>trials.csv</code> and <code>trials.parquet</code>.",
}
