"""The report: what it says about a study, that it needs no network and trusts no text, and its numbers."""

import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas
import pytest
from matplotlib.image import imread
from record_fixtures import record_past

from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import WEIGHT_BINS, EpochMetrics
from bnnsearch.errors import InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking import figures
from bnnsearch.tracking.comparison import compare, write_comparison
from bnnsearch.tracking.front import write_trials
from bnnsearch.tracking.report import report_html, write_report
from bnnsearch.tracking.view import Axis, StudyView, explained_share, number_text, round_ticks

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


OTHER_NAME = "a.b-c_1"


def make_study(*metrics, **settings):
    objectives = [{"metric": name, "mode": "max" if name == "val_acc" else "min"} for name in metrics]
    return StudyConfig.model_validate(
        {"version": 1, "name": "shown", "objectives": objectives, "budget": {"trials": 9}, **settings}
    )


def make_result(number, accuracy, memory=100.0, state=TrialState.COMPLETE, **fields):
    params = {"width": 64 * (1 + number % 3), "method": "bnew" if number % 2 else "ste", "note": NASTY}
    if number % 2:
        params["method.bnew.lambda_rate"] = 10.0 ** -(1 + number % 4)
    metrics = {"val_acc": accuracy, "memory_bytes": memory, "train_bitops": memory * 1e6 + number}
    return TrialResult(number, state, {"seed": number}, params, metrics, **{"epochs": 4, **fields})


def make_epochs(number, epochs=4, accuracy=0.9):
    return tuple(
        EpochMetrics(
            epoch,
            4,
            "pretrain" if epoch < 3 else "quantise",
            {"val_acc": accuracy * epoch / 4, "lr": 0.1 / epoch, "bits_weights": 3 + epoch % 2},
            {"flip_rate": {"stem": 0.1 / epoch, f"<b>{number}</b>": 0.2 / epoch}},
            [0.0] * 5 + [epoch / 8] + [0.0] * 9 + [1 - epoch / 4] + [0.0] * 9 + [epoch / 8] + [0.0] * 5,
        )
        for epoch in range(1, epochs + 1)
    )


RESULTS = (
    make_result(0, 0.80, 100),
    make_result(1, 0.90, 2000),
    make_result(2, 0.85, 5000),
    make_result(3, 0.95, 9000),
    make_result(4, 0.99, 99000, violations={"memory_bytes": 9.0}),
    make_result(5, 0.40, 100, TrialState.PRUNED, reason="stopped at the rung of epoch 1", epochs=1),
    make_result(6, 0.10, 100, TrialState.FAILED, reason=f"train_loss is nan {NASTY}"),
)
HISTORY = {
    number: make_epochs(number, 1 if number == 5 else 4, RESULTS[number].metrics["val_acc"]) for number in range(7)
}
HISTORY[7] = make_epochs(7, 2)


@pytest.fixture
def view():
    return StudyView(make_study("val_acc", "memory_bytes", description=NASTY), RESULTS, HISTORY)


class Page(HTMLParser):
    """What a browser would load and run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(view):
    page = Page(report_html(view, "20260101"))
    assert page.links == []
    assert "img" not in page.tags
    assert "iframe" not in page.tags
    assert page.tags.count("script") == 1 + 8 + 1  # plotly once, one for each picture, and the table's


def test_the_page_says_what_happened(view):
    text = re.sub(r"<script.*?</script>", "", report_html(view, "20260101"), flags=re.DOTALL)
    facts = dict(re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text))
    assert facts["7 / 9"] == "trials ended"
    assert {"5": "complete", "3": "on the front"}.items() <= facts.items()
    rows = re.findall(r"<tr><td>(\d+)( ★)?</td><td>([\d.]+)</td><td>([\d.kB ]+)</td>", text)
    assert rows == [("3", "", "0.9500", "9 kB"), ("1", " ★", "0.9000", "2 kB"), ("0", "", "0.8000", "100 B")]
    assert "train_loss is nan &lt;/script&gt;" in text


def test_points_stand_in_their_groups(view):
    traces = {trace.name: trace for trace in figures.pareto_figure(view).data if trace.mode == "markers"}
    assert list(traces["Pareto front"].x) == [9000, 2000, 100]
    assert list(traces["dominated"].y) == [0.85]
    assert list(traces["outside a constraint"].x) == [99000]
    assert traces["outside a constraint"].marker.symbol == "circle-open"
    assert list(traces["knee"].x) == [2000]


def test_the_front_line_bounds_what_is_dominated(view):
    xs, ys = view.front_line("memory_bytes", "val_acc")
    assert list(zip(xs, ys, strict=True)) == [(100, 0.8), (2000, 0.8), (2000, 0.9), (9000, 0.9), (9000, 0.95)]


def test_learning_curves_know_how_trials_ended(view):
    kinds = {number: kind for kind, number, _, _ in view.curves()}
    assert kinds == {
        0: "front",
        1: "front",
        2: "complete",
        3: "front",
        4: "complete",
        5: "pruned",
        6: "failed",
        7: "running",
    }
    traces = {trace.name: trace for trace in figures.curves_figure(view).data if trace.name}
    assert list(traces["stopped early"].x) == [1, None]
    assert view.rungs() == [1]


def test_layers_and_schedules_show_the_knee_first(view):
    heat = figures.layers_figure(view)
    assert list(heat.data[0].y) == ["stem", "&lt;b&gt;1&lt;/b&gt;"]
    assert heat.data[0].z[1] == pytest.approx([0.2, 0.1, 0.2 / 3, 0.05])
    assert [button.label for button in heat.layout.updatemenus[0].buttons] == ["trial 1 (knee)", "trial 3", "trial 0"]
    assert list(figures.schedules_figure(view).data[0].y) == [4, 3, 4, 3]
    drift = figures.weights_figure(view).data[0]
    assert drift.z[drift.y.index(-1.0)] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert drift.z[drift.y.index(0.0)] == pytest.approx([0.75, 0.5, 0.25, 0])
    assert view.phases(1) == [("pretrain", 1, 2), ("quantise", 3, 4)]


@pytest.mark.parametrize(
    "metrics", [("val_acc",), ("val_acc", "memory_bytes"), ("val_acc", "train_bitops", "memory_bytes")]
)
def test_every_number_of_objectives_is_drawn(tmp_path, metrics):
    folder = StudyFolder(tmp_path / "shown" / "1")
    folder.path.mkdir(parents=True)
    record_past(folder, RESULTS, HISTORY)
    report = write_report(folder, make_study(*metrics))
    pictures = (
        "pareto",
        "hypervolume",
        "importance",
        "parallel",
        "learning_curves",
        "schedules",
        "flip_rate",
        "weights",
    )
    for name in pictures:
        pixels = imread(report / f"{name}.png")
        assert pixels[..., :3].std() > 0.02, f"{name} is blank"
    pairs = len(metrics) * (len(metrics) - 1) // 2 or 1
    figure = figures.pareto_figure(StudyView(make_study(*metrics), RESULTS, HISTORY))
    assert len([trace for trace in figure.data if trace.name == "dominated"]) == pairs


def test_axes_have_round_ticks_and_choices_the_order_of_their_numbers():
    assert round_ticks(1.2e7, 1.1e8) == [1e7, 2e7, 5e7, 1e8]
    assert round_ticks(1, 1e6) == [10.0**power for power in range(7)]
    assert Axis("hidden", ("[128]", "[16]", None, "[64, 32]", "[64]")).categories == [
        "[16]",
        "[64]",
        "[64, 32]",
        "[128]",
    ]
    costs = StudyView(make_study("val_acc", "train_bitops"), RESULTS, HISTORY)
    assert costs.learned == ("val_acc",)


def test_all_trials_are_in_the_table_and_in_files(tmp_path, view):
    rows = re.findall(r"<tr data-trial='(\d+)' tabindex='0'><td data-value='[\d.]+'>\d+</td><td>(\w+)</td>",
                      report_html(view, "1"))  # fmt: skip
    assert [int(number) for number, _ in rows] == [result.number for result in RESULTS]
    assert dict(rows)["5"] == "pruned" and dict(rows)["3"] == "front"
    write_trials(RESULTS, tmp_path)
    for table in (pandas.read_csv(tmp_path / "trials.csv"), pandas.read_parquet(tmp_path / "trials.parquet")):
        assert list(table["trial"]) == list(range(7))
        assert table["val_acc"][3] == 0.95
        assert "train_loss is nan" in table["reason"][6]


def test_a_study_without_a_finished_trial_has_a_report(tmp_path):
    folder = StudyFolder(tmp_path / "shown" / "1")
    folder.path.mkdir(parents=True)
    record_past(folder, history={0: make_epochs(0, 2)})
    report = write_report(folder, make_study("val_acc", "memory_bytes"))
    text = (report / "report.html").read_text()
    assert "No trial has run to its end yet" in text
    assert "<h2>Learning curves</h2>" in text
    assert not (report / "pareto.png").exists()


def test_a_study_whose_trials_are_all_infeasible_has_a_report():
    view = StudyView(make_study("val_acc", "memory_bytes"), (RESULTS[4],), {})
    assert "No finished trial is within the constraints" in report_html(view, "1")


def test_explained_share_by_hand():
    # two groups with means 1 and 3, each +-1: within 4, total 8; corrected 1 - (4 / 2) / (8 / 3)
    assert explained_share(Axis("a", ("x", "x", "y", "y")), [0, 2, 2, 4]) == pytest.approx(0.25)
    assert explained_share(Axis("a", ("x", "x", "y", "y")), [1, 1, 3, 3]) == 1
    assert explained_share(Axis("a", ("x", "x", "y", "y")), [1, 3, 1, 3]) == 0
    assert explained_share(Axis("a", (1, None, 1, None)), [1, 3, 1, 3]) == 1  # absence is a group
    assert explained_share(Axis("a", ("x", "y")), [1, 3]) == 0  # too few to tell


def test_explained_share_finds_the_parameter_that_matters():
    generator = np.random.default_rng(0)
    useful, useless = generator.random(200), generator.random(200)
    values = (10 * useful + generator.normal(size=200)).tolist()
    assert explained_share(Axis("useful", tuple(useful)), values) > 0.7
    assert explained_share(Axis("useless", tuple(useless)), values) < 0.05


def test_axes_place_numbers_categories_and_absence():
    wide = Axis("lr", (1e-4, 1e-1, None))
    assert wide.logarithmic
    assert wide.positions[:2] == pytest.approx([-4, -1])
    assert math.isnan(wide.positions[2])
    assert wide.ticks() == ([-4.0, -1.0], ["1e-4", "0.1"])
    named = Axis("method", ("ste", "bnew", "ste"))
    assert named.positions.tolist() == [1, 0, 1]
    assert named.ticks() == ([0.0, 1.0], ["bnew", "ste"])
    assert not Axis("flag", (True, False)).numeric


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (1234, "1.23k"), (0.00012, "1e-4"), (3.2e15, "3.2P"), (999.6, "1e+03")]
)
def test_numbers_are_short(value, text):
    assert number_text(value) == text


def many(tmp_path, trials, epochs):
    folder = StudyFolder(tmp_path / "shown" / "1")
    folder.path.mkdir(parents=True)
    generator = np.random.default_rng(0)
    results, history = [], {}
    for number in range(trials):
        accuracy, memory = generator.random(), float(generator.integers(1000, 100000))
        for epoch in range(1, epochs + 1):
            values = {"val_acc": accuracy * epoch / epochs, "train_loss": 1 / epoch}
            flips = {"flip_rate": {"a": 0.1, "b": 0.2}}
            weights = [1 / len(WEIGHT_BINS)] * len(WEIGHT_BINS)
            history.setdefault(number, []).append(EpochMetrics(epoch, epochs, "train", values, flips, weights))
        results.append(make_result(number, accuracy, memory))
    record_past(folder, results, history)
    return folder


def make_folder(tmp_path, name, results):
    folder = StudyFolder(tmp_path / name / "20260101")
    folder.path.mkdir(parents=True)
    record_past(folder, results)
    return folder


def test_studies_are_compared_in_the_objectives_they_share(tmp_path):
    first = make_folder(tmp_path, "a", RESULTS[:2]), make_study("val_acc", "memory_bytes", name=OTHER_NAME)
    second = make_folder(tmp_path, "b", RESULTS[2:]), make_study("val_acc", "memory_bytes", "train_bitops")
    path = tmp_path / "comparison.html"
    compared = {each.name: each for each in write_comparison([first, second], path)}
    assert [each.front.numbers for each in compared.values()] == [{0, 1}, {2, 3}]
    # together: accuracy .80 to .95, memory 100 to 9000; reference .785 and 9890, a box of .165 x 9790
    assert compared[f"{OTHER_NAME} 20260101"].hypervolume == pytest.approx(
        ((0.80 - 0.785) * 9790 + (0.90 - 0.80) * 7890) / (0.165 * 9790)
    )
    page = Page(path.read_text())
    assert page.links == []
    assert page.tags.count("script") == 3
    assert page.tags.count("tr") == 3


def test_studies_that_cannot_be_compared_are_refused(tmp_path):
    accuracy = make_folder(tmp_path, "a", RESULTS), make_study("val_acc")
    memory = make_folder(tmp_path, "b", RESULTS), make_study("memory_bytes")
    empty = make_folder(tmp_path, "c", []), make_study("val_acc")
    with pytest.raises(InputError, match="takes two studies or more, but got 1"):
        compare([accuracy])
    with pytest.raises(InputError, match="must share an objective, but have shown: val_acc; shown: memory_bytes"):
        compare([accuracy, memory])
    with pytest.raises(InputError, match="there is nothing to compare"):
        compare([empty, empty])
    best = make_folder(tmp_path, "d", [replace(each, config={"plan": {"keep": "best"}}) for each in RESULTS])
    with pytest.raises(InputError, match=r"have the same plan\.keep, .* shown 20260101: last; other 20260101: best"):
        compare([accuracy, (best, make_study("val_acc", name="other"))])


def test_many_trials_are_all_read_and_drawn(tmp_path):
    folder = many(tmp_path, 300, 3)
    write_report(folder, make_study("val_acc", "memory_bytes"))
    assert len(read_past(folder, epochs=True).history) == 300
    assert "300 / " in (folder.report / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_a_browser_without_network_draws_every_picture(tmp_path, view):
    page = tmp_path / "report.html"
    use = """<script>
      document.querySelector("th[data-name=val_acc] button").click();
      const filter = document.getElementById("filter");
      filter.value = "memory_bytes<6000 complete";
      filter.dispatchEvent(new Event("input"));
    </script></body>"""  # as a person would: sort by a head, filter by a limit and a word
    page.write_text(report_html(view, "1").replace("</body>", use))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *flags, "--virtual-time-budget=20000", "--dump-dom", page.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)
    assert text.count('class="plotly-graph-div js-plotly-plot"') == 8
    for words in (
        "validation accuracy",
        "weight memory (bytes)",
        "hypervolume",
        "share of variance explained",
        "quantise",
    ):
        assert f">{words}</text>" in text, words
    assert "<img" not in text
    table = drawn.partition('<table id="trials">')[2].partition("</table>")[0]
    rows = re.findall(r"<tr data-trial=\"(\d)\"[^>]*?( hidden=\"\")?>", table)
    assert [number for number, _ in rows] == ["6", "5", "0", "2", "1", "3", "4"]
    assert {number for number, hidden in rows if not hidden} == {"2"}  # 0 and 1 are of the front, which is their state
    assert ">1 of 7 trials</output>" in drawn
    assert 'data-name="val_acc" aria-sort="ascending"' in table
