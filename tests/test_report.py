"""The report: what it says about a study, that it needs no network and trusts no text, and its numbers."""

import base64
import hashlib
import html
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from xml.etree import ElementTree

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
from bnnsearch.tracking.fit import Fit
from bnnsearch.tracking.front import write_trials
from bnnsearch.tracking.report import report_html, write_report
from bnnsearch.tracking.view import Axis, StudyView, number_text, round_ticks

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
    assert page.tags.count("script") == 2  # its own, and the table's values, which are no code
    assert re.findall("<script(.*?)>", report_html(view, "1")) == [" type='application/json' id='cells'", ""]
    assert page.tags.count("svg") == 7 + 2 * 3  # menus show three trials' flips and weights


def test_the_pages_own_script_is_the_only_one_that_its_policy_allows(view):
    text = report_html(view, "1")
    (script,) = re.findall("<script>(.*)</script>", text, flags=re.DOTALL)
    (allowed,) = re.findall("script-src 'sha256-(.*?)'", text)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == allowed
    assert "default-src 'none'" in text


def test_the_page_says_what_happened(view):
    text = re.sub(r"<script.*?</script>", "", report_html(view, "20260101"), flags=re.DOTALL)
    facts = dict(re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text))
    assert facts["7 / 9"] == "trials ended"
    assert {"5": "complete", "3": "on the front"}.items() <= facts.items()
    rows = re.findall(r"<tr><td>(\d+)( ★)?</td><td>([\d.]+)</td><td>([\d.kB ]+)</td>", text)
    assert rows == [("3", "", "0.9500", "9 kB"), ("1", " ★", "0.9000", "2 kB"), ("0", "", "0.8000", "100 B")]
    assert "train_loss is nan &lt;/script&gt;" in text


def cells_of(text):
    """The table of all trials, as the page's script reads it."""
    return json.loads(re.search("id='cells'>(.*?)</script>", text)[1])


def trials_of(figure):
    """What stands in a picture, as its page has it: trial numbers, drawn by drawn."""
    root = ElementTree.fromstring(figures.svg(figure, "a", "a picture"))
    groups = [[mark.get("data-trial") for mark in group.iter() if mark.get("data-trial")] for group in root.iter()]
    deepest = [group for group in groups if group]
    return deepest[0] if deepest else []


def test_points_stand_in_their_groups(view):
    (figure,) = figures.pareto(view).values()
    (axes,) = figure.axes
    places = {each.get_label(): each for each in axes.collections if not each.get_label().startswith("_")}
    assert places["Pareto front"].get_offsets()[:, 0].tolist() == [9000, 2000, 100]
    assert places["dominated"].get_offsets()[:, 1].tolist() == [0.85]
    assert places["outside a constraint"].get_offsets()[:, 0].tolist() == [99000]
    assert places["knee"].get_offsets()[:, 0].tolist() == [2000]
    assert trials_of(figure) == ["4", "2", "3", "1", "0", "1"]
    attained = next(line for line in axes.lines if line.get_label() == "attained")
    assert attained.get_xdata()[-1] == axes.get_xlim()[1]  # to the edge: worse memory attains nothing more


def test_three_objectives_are_shown_as_what_two_of_them_say():
    (figure,) = figures.pareto(
        StudyView(make_study("val_acc", "train_bitops", "memory_bytes"), RESULTS, HISTORY)
    ).values()
    names = {line.get_label() for axes in figure.axes for line in axes.lines}
    assert names == {"attained in these two"}


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
    (figure,) = figures.curves(view).values()
    lines = {each.get_label(): each for each in figure.axes[0].collections}
    assert lines["stopped early"].get_segments()[0].tolist() == [[1, 0.1]]
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())  # half an epoch is none
    assert set(trials_of(figure)) <= {str(number) for number in range(8)}
    assert view.rungs() == [1]


def test_layers_and_schedules_show_the_knee_first(view):
    drawn = figures.layers(view)
    assert list(drawn) == ["trial 1 (knee)", "trial 3", "trial 0"]
    heat = drawn["trial 1 (knee)"].axes[0]
    assert [text.get_text() for text in heat.get_yticklabels()] == ["stem", "<b>1</b>"]
    assert heat.images[0].get_array()[1].tolist() == pytest.approx([0.2, 0.1, 0.2 / 3, 0.05])
    shown = figures.svg(drawn["trial 1 (knee)"], "a", "flips")
    cells = json.loads(ElementTree.fromstring(shown).find(".//*[@data-cells]").get("data-cells"))
    assert (cells["names"], cells["values"][1][0]) == (["stem", "<b>1</b>"], 0.2)
    assert "<b>" not in shown
    lines = figures.schedules(view)[""].axes
    assert lines[0].lines[0].get_ydata().tolist() == [4, 3, 4, 3]
    drift = figures.weights(view)["trial 1 (knee)"].axes[0].images[0].get_array()[::-1]
    assert drift[WEIGHT_BINS.index(-1.0)].tolist() == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert drift[WEIGHT_BINS.index(0.0)].tolist() == pytest.approx([0.75, 0.5, 0.25, 0])
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
        "slices",
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
    (figure,) = figures.pareto(StudyView(make_study(*metrics), RESULTS, HISTORY)).values()
    drawn = [each.get_label() for axes in figure.axes for each in axes.collections]
    assert drawn.count("dominated") == pairs


def test_axes_have_round_ticks_and_choices_the_order_of_their_numbers():
    assert round_ticks(1.2e7, 1.1e8) == [1e7, 2e7, 5e7, 1e8]
    assert round_ticks(1, 1e6) == [10.0**power for power in range(7)]
    assert Axis("hidden", ("[128]", "[16]", None, "[64, 32]", "[64]")).categories == [
        "[16]",
        "[64]",
        "[64, 32]",
        "[128]",
    ]
    costs = StudyView(make_study("val_acc", "train_bitops", "flash_bytes"), RESULTS, HISTORY)
    assert costs.learned == ("val_acc",)
    listed = StudyView(make_study("val_acc"), RESULTS, {}, {"method": ("ste", "bnew"), "width": (192, 128, 64)})
    axes = {axis.name: axis.categories for axis in listed.varied}
    assert axes["method"] == ["ste", "bnew"]  # as the file has them
    assert axes["width"] == [64, 128, 192]  # as numbers are


def test_all_trials_are_in_the_table_and_in_files(tmp_path, view):
    rows = cells_of(report_html(view, "1"))
    assert [number for number, *_ in rows] == [result.number for result in RESULTS]
    assert rows[5][1] == "pruned" and rows[3][1:4] == ["front", [0.95, "0.9500"], [9000, "9 kB"]]
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


def fitted(inputs, values, names=("a", "b"), epochs=None, complete=None):
    count = len(values)
    return Fit(
        names,
        np.column_stack(inputs),
        np.asarray(values, dtype=float),
        np.full(count, 4.0) if epochs is None else epochs,
        np.ones(count, dtype=bool) if complete is None else complete,
    )


def test_importance_finds_the_parameters_that_matter():
    generator = np.random.default_rng(0)
    strong, weak, none = generator.random((3, 300))
    fit = fitted(
        (strong, weak, none), 2 * strong + weak + 0.05 * generator.normal(size=300), ("strong", "weak", "none")
    )
    assert fit.shares["strong"] == pytest.approx(0.8, abs=0.12)  # variances 4 : 1
    assert fit.shares["weak"] == pytest.approx(0.2, abs=0.08)
    assert fit.shares["none"] < 0.02
    assert fit.explained > 0.9


def test_importance_is_joint_and_keeps_to_branches():
    generator = np.random.default_rng(1)
    left, right = generator.integers(0, 2, size=(2, 300)).astype(float)
    parity = fitted((left, right), (left != right).astype(float))
    assert parity.shares["a"] == pytest.approx(1, abs=0.2)  # by itself each explains nothing
    method, inner = generator.integers(0, 2, 300).astype(float), generator.random(300)
    branch = np.where(method == 1, inner, np.nan)
    fit = fitted((method, branch), np.where(method == 1, inner, 5.0), ("method", "method.bnew.rate"))
    assert fit.shares["method"] > 0.8
    assert 0 < fit.shares["method.bnew.rate"] < 0.05  # as much as it moves within its branch


def test_importance_learns_from_stopped_trials_and_judges_complete_ones():
    generator = np.random.default_rng(2)
    useful = generator.random(120)
    complete = np.arange(120) % 10 == 0
    epochs = np.where(complete, 9.0, 1.0)
    fit = fitted((useful, generator.random(120)), useful + epochs, epochs=epochs, complete=complete)
    alone = fitted((fit.inputs[complete, 0], fit.inputs[complete, 1]), fit.values[complete])
    assert fit.explained > alone.explained
    assert fitted((useful[:5], useful[:5]), useful[:5]).shares == {"a": 0, "b": 0}  # too few to tell


def test_the_surface_is_what_the_forest_expects():
    generator = np.random.default_rng(3)
    a, b = generator.random((2, 300))
    surface = fitted((a, b), a + 3 * b).surface(("a", "b"), [0.2, 0.8], [0.2, 0.8])
    assert surface == pytest.approx(np.array([[0.8, 1.4], [2.6, 3.2]]), abs=0.25)


def test_axes_place_numbers_categories_and_absence():
    wide = Axis("lr", (1e-4, 1e-1, None))
    assert wide.logarithmic
    assert wide.positions[:2] == pytest.approx([-4, -1])
    assert math.isnan(wide.positions[2])
    assert wide.ticks() == ([-4.0, -1.0], ["1e-4", "0.1"])
    assert Axis("lr", tuple(np.geomspace(2e-4, 0.9, 20))).ticks()[1] == ["0.001", "0.01", "0.1"]
    assert Axis("lr", tuple(np.geomspace(0.01, 0.3, 20))).ticks()[1] == ["0.01", "0.02", "0.05", "0.1", "0.2"]
    assert Axis("acc", tuple(np.linspace(0.502, 0.9987, 20))).ticks()[1] == ["0.6", "0.7", "0.8", "0.9"]
    assert Axis("size", tuple(range(1, 10))).ticks()[1] == ["2", "4", "6", "8"]
    assert Axis("shift", tuple(np.linspace(-1, 1, 20))).ticks()[1] == ["-1", "-0.5", "0", "0.5", "1"]
    named = Axis("method", ("ste", "bnew", "ste"))
    assert named.positions.tolist() == [1, 0, 1]
    assert named.ticks() == ([0.0, 1.0], ["bnew", "ste"])
    assert not Axis("flag", (True, False)).numeric


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (1234, "1.23k"),
        (0.00012, "1e-4"),
        (3.2e15, "3.2P"),
        (999.6, "1k"),
        (-1234, "-1.23k"),
        (1e6, "1M"),
    ],
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
    assert page.tags.count("script") == 1
    assert page.tags.count("title") == 1 + 4 + 4  # its own, and one for each trial and each point of a front
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


def test_a_thousand_trials_are_a_page_under_a_megabyte():
    """A third of them stopped early; the front, those that ran to their end and a sample are drawn, all are listed."""
    generator = np.random.default_rng(0)
    results, history = [], {}
    for number in range(1000):
        accuracy, memory, stopped = generator.random(), 10 ** generator.uniform(3, 6), number % 3 == 2
        params = {"method": "bnew" if number % 2 else "ste"}
        params |= {f"rate{place}": float(10 ** generator.uniform(-4, 0)) for place in range(8)}
        metrics = {"val_acc": accuracy, "memory_bytes": memory, "train_bitops": memory * generator.random()}
        state = TrialState.PRUNED if stopped else TrialState.COMPLETE
        epochs = 4 if stopped else 20
        results.append(TrialResult(number, state, {"seed": number}, params, metrics, epochs=epochs))
        history[number] = tuple(
            EpochMetrics(epoch, 20, "train", {"val_acc": accuracy * epoch / 20}, {"flip_rate": {"a": 0.1 / epoch}},
                         [round(float(share), 5) for share in generator.dirichlet(np.ones(len(WEIGHT_BINS)))])
            for epoch in range(1, epochs + 1)
        )  # fmt: skip
    view = StudyView(make_study("val_acc", "memory_bytes", "train_bitops"), tuple(results), history)
    text = report_html(view, "1")
    assert len(text.encode()) < 1e6
    assert len(cells_of(text)) == 1000
    shown = view.sample(range(1000), 300)
    assert (len(shown), view.front.numbers - shown) == (300, set())
    assert {"pruned", "complete"} == {results[number].state.value for number in shown - view.front.numbers}
    marks = set(map(int, trials_of(figures.curves(view)[""])))
    assert marks <= shown and "At most 300 trials are drawn" in text
    stopped = [replace(each, state=TrialState.PRUNED) for each in results[40:]]
    survivors = {each.number for each in results[:40] if each.state is TrialState.COMPLETE}
    few = StudyView(view.study, (*results[:40], *stopped), {}).sample(range(1000), 300)
    assert survivors <= few and len(few) == 300


chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")


def browse(tmp_path, text, script, *more):
    """What a browser without network makes of a page, with a script in it as a person would use it."""
    policy = re.compile("<meta http-equiv[^>]*>")
    used = policy.sub("", text).replace("</body>", f"<script>{script}</script></body>")
    page = tmp_path / "page.html"
    page.write_text(used)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", *more]
    command = ["chromium", *flags, "--virtual-time-budget=20000", "--dump-dom", page.as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)


@pytest.mark.slow
@chromium
def test_a_browser_without_network_draws_every_picture_and_links_them(tmp_path, view):
    script = """
      document.querySelector("th[data-name=val_acc] button").click();
      const filter = document.getElementById("filter");
      filter.value = "memory_bytes<6000 complete";
      filter.dispatchEvent(new Event("input"));
    """
    text = browse(tmp_path, report_html(view, "1"), script)
    for words in (
        "validation accuracy", "weight memory (bytes)", "hypervolume", "share of variance lost without it", "quantise",
    ):  # fmt: skip
        assert f">{words}</text>" in text, words
    assert "<img" not in text
    table = text.partition('<table id="trials">')[2].partition("</table>")[0]
    rows = re.findall(r"<tr data-trial=\"(\d)\"[^>]*?( hidden=\"\")?>", table)
    assert [number for number, _ in rows] == ["6", "5", "0", "2", "1", "3", "4"]
    assert {number for number, hidden in rows if not hidden} == {"2"}  # 0 and 1 are of the front, which is their state
    assert ">1 of 7 trials</output>" in text
    assert 'data-name="val_acc" aria-sort="ascending"' in table
    lit = re.findall(r'<(?:use|path)[^>]*data-trial="(\d)"[^>]*class="lit"', text)
    assert set(lit) == {"2"} and len(lit) >= 5  # in each chart that has it


@pytest.mark.slow
@chromium
def test_a_box_in_a_chart_and_keys_choose_trials(tmp_path, view):
    script = """
      const chart = document.querySelector(".picture svg"), box = chart.getBoundingClientRect();
      chart.setPointerCapture = () => {};
      const mark = chart.querySelector("[data-trial='2']").getBoundingClientRect();
      const at = (kind, x, y) => chart.dispatchEvent(new PointerEvent(kind, {clientX: x, clientY: y, bubbles: true}));
      at("pointerdown", mark.left - 4, mark.top - 4);
      at("pointerup", mark.right + 4, mark.bottom + 4);
      document.title = [...document.querySelectorAll("#trials tbody tr:not([hidden])")].map(row => row.dataset.trial);
      chart.focus();
      for (const key of ["Escape", "ArrowRight", "ArrowRight", "Enter"])
        chart.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    """
    text = browse(tmp_path, report_html(view, "1"), script)
    assert "<title>2</title>" in text
    assert re.findall(r'data-trial="(\d)"[^>]*aria-selected="true"', text) == ["2"]  # the second point: 4 is the first
    assert "trial: 2\nstate: complete" in text  # what is told of it


@pytest.mark.slow
@chromium
@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(tmp_path, view, look):
    axe = (files("axe_playwright_python") / "axe.min.js").read_text()
    first = make_folder(tmp_path, "a", RESULTS[:2]), make_study("val_acc", "memory_bytes", name=OTHER_NAME)
    second = make_folder(tmp_path, "b", RESULTS[2:]), make_study("val_acc", "memory_bytes")
    write_comparison([first, second], tmp_path / "both.html")
    ask = """
      axe.run().then(found => {
        document.title = "judged " + found.passes.length;
        document.body.dataset.found = JSON.stringify(
          found.violations.map(each => [each.id, each.nodes.map(node => node.html.slice(0, 200))]));
      });
    """
    for text in (report_html(view, "1"), (tmp_path / "both.html").read_text()):
        drawn = browse(
            tmp_path,
            text,
            f"{axe}</script><script>{ask}",
            f"--blink-settings=preferredColorScheme={int(look == 'light')}",
        )
        judged = re.search(r"<title>judged (\d+)</title>", drawn)
        assert judged and int(judged[1]) > 15
        assert html.unescape(re.search('data-found="([^"]*)"', drawn)[1]) == "[]"
