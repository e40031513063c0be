"""What the terminal shows, from the events of a search."""

import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from bnnsearch.config.study import BudgetConfig, Objective, StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.invocation import command
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.terminal.ending import front_lines
from bnnsearch.terminal.live import screen
from bnnsearch.terminal.output import wrapped
from bnnsearch.terminal.progress import StudyProgress, summary_lines
from bnnsearch.terminal.text import duration_text, metric_text, params_text, range_text
from bnnsearch.terminal.views import JsonView, LiveView, PlainView, view_for


@pytest.fixture
def progress() -> StudyProgress:
    objectives = (Objective(metric="val_acc", mode="max"), Objective(metric="memory_bytes", mode="min"))
    return StudyProgress(StudyConfig(version=1, name="demo", objectives=objectives, budget=BudgetConfig(trials=4)))


def ended(number: int, state: TrialState = TrialState.COMPLETE, *, acc: float = 0.9, size: float = 2000.0,
          seconds: float = 2.0, reason: str | None = None) -> TrialResult:  # fmt: skip
    metrics = {"val_acc": acc, "memory_bytes": size} if state is TrialState.COMPLETE else {}
    return TrialResult(number, state, {}, {"optimizer.adam.lr": 0.0123456}, metrics, seconds=seconds, reason=reason)


def tell(progress: StudyProgress, result: TrialResult) -> None:
    progress.trial_started(result.number, {}, {})
    progress.trial_finished(result)


def test_progress_counts_what_ended_by_state(progress: StudyProgress) -> None:
    tell(progress, ended(0))
    tell(progress, ended(1, TrialState.FAILED, reason="loss is nan"))
    tell(progress, ended(2, TrialState.PRUNED))
    progress.trial_started(3, {}, {})
    assert progress.counts == {TrialState.COMPLETE: 1, TrialState.FAILED: 1, TrialState.PRUNED: 1}
    assert list(progress.running) == [3]


def test_the_front_holds_complete_trials_only(progress: StudyProgress) -> None:
    tell(progress, ended(0, acc=0.9, size=2000))
    tell(progress, ended(1, acc=0.8, size=3000))
    tell(progress, ended(2, acc=0.95, size=9000))
    tell(progress, ended(3, TrialState.PRUNED))
    assert progress.front.numbers == {0, 2}
    assert "best val_acc 0.9500; best memory_bytes 2 kB" in summary_lines(progress)[1]


def test_time_left_is_a_range_once_two_trials_ended(progress: StudyProgress) -> None:
    tell(progress, ended(0, seconds=1))
    assert progress.remaining() is None
    tell(progress, ended(1, seconds=3))
    low, high = progress.remaining() or (0, 0)
    assert 0 <= low < high


def test_plain_view_prints_one_line_per_ended_trial_with_its_reason(progress: StudyProgress) -> None:
    text = io.StringIO()
    with PlainView(progress, Console(file=text, width=40)) as view:
        for result in (ended(0), ended(1, TrialState.FAILED, reason="loss is nan [after] epoch 2")):
            tell(progress, result)
            view.trial_finished(result)
    assert text.getvalue().splitlines() == [
        "[1/4] trial 0 complete val_acc=0.9000 memory_bytes=2 kB in 2 s; front 1; lr=0.0123",
        "[2/4] trial 1 failed in 2 s; loss is nan [after] epoch 2; front 1; lr=0.0123",
    ]


def test_plain_view_speaks_when_nothing_ends(progress: StudyProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnsearch.terminal.views.HEARTBEAT_SECONDS", 0.05)
    text = io.StringIO()
    view = PlainView(progress, Console(file=text))
    with view:
        view.spoken.wait()
    assert text.getvalue().startswith("0/4 trials (none ended), 0 running")


WIDE = {"model.hidden": [256, 128], "method": "bnew", "method.bnew.growth": 36.5, "optimizer.adam.lr": 0.0123}


@pytest.fixture
def busy(progress: StudyProgress) -> StudyProgress:
    """A search with four on the front, one that failed, one under way and one that waits."""
    for number in range(4):
        progress.trial_started(number, {}, {})
        metrics = {"val_acc": 0.9 + number / 100, "memory_bytes": 2000.0 + 1000 * number}
        progress.trial_finished(
            TrialResult(number, TrialState.COMPLETE, {}, WIDE, metrics, epochs=10, seconds=1.0 + number)
        )
    tell(progress, ended(4, TrialState.FAILED, reason="loss is nan after epoch 2"))
    for number in (5, 6):
        progress.trial_started(number, {}, WIDE)
        progress.epoch_finished(number, EpochMetrics(2, 5, "train", {"val_acc": 0.5, "train_bitops": 1e6}))
    progress.trial_waits(6)
    return progress


def shown(progress: StudyProgress, width: int, height: int = 24, **settings: Any) -> str:
    text = io.StringIO()
    Console(file=text, width=width, **settings).print(screen(progress, width=width, height=height))
    return text.getvalue()


@pytest.mark.parametrize("width", [*range(12), 20, 40])
def test_no_window_is_too_narrow(busy: StudyProgress, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen(busy, width=width, height=width)
    monkeypatch.setenv("COLUMNS", str(width))
    console = Console(file=io.StringIO())
    front = ParetoFront.of(busy.results, busy.study.objectives)
    assert len(front_lines(front, console.width)) > len(front.results)
    Console(file=io.StringIO(), width=max(1, width)).print(screen(busy, width=width, height=9))


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_live_screen_fits_and_keeps_every_column(busy: StudyProgress, width: int) -> None:
    lines = shown(busy, width).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert any(line.split() == ["memory_"] for line in lines)
    header = next(line for line in lines if line.startswith("trial"))
    assert header.split()[:4] == ["trial", "state", "val_acc", "bytes"]
    rows = {line.split()[0]: line.split() for line in lines if line.split()[:1] and line.split()[0].isdigit()}
    assert rows["3"][1:4] == ["front", "0.9300*", "5"]  # the best of its column, and its unit is behind it
    assert rows["0"][1:5] == ["front", "0.9000", "2", "kB*"]
    assert rows["5"][1:4] == ["epoch", "2/5", "0.5000"]
    assert rows["4"][1] == "failed"
    text = " ".join(" ".join(lines).split())
    for part in ("growth=36.5", "loss is nan after epoch 2", "44 of about", "5/4 trials", "1 waiting at rungs", "left"):
        assert part in text


def test_the_whole_parameters_of_the_front_are_read_where_there_is_room(busy: StudyProgress) -> None:
    whole = "hidden=[256,128] method=bnew growth=36.5 lr=0.0123"
    assert sum(whole in line for line in shown(busy, 200).splitlines()) == 5  # the four of the front, and the running
    assert sum(whole in line for line in shown(busy, 60).splitlines()) == 4  # below


def test_a_low_screen_shows_the_best_of_each_objective_first(busy: StudyProgress) -> None:
    lines = shown(busy, 60, height=12).splitlines()
    assert len(lines) <= 12
    numbers = [line.split()[0] for line in lines if line.split()[1:2] in (["front"], ["knee"])]
    assert {"3", "0"} <= set(numbers) < {"0", "1", "2", "3"}
    assert "more on the front" in "".join(lines)


def test_many_objectives_on_a_narrow_screen_are_told_in_words() -> None:
    names = ("val_acc", "memory_bytes", "train_bitops", "latency_ms")
    objectives = tuple(Objective(metric=name, mode="max" if name == "val_acc" else "min") for name in names)
    progress = StudyProgress(StudyConfig(version=1, name="demo", objectives=objectives, budget=BudgetConfig(trials=4)))
    tell(progress, TrialResult(0, TrialState.COMPLETE, {}, WIDE, dict.fromkeys(names, 0.5)))
    text = shown(progress, 40)
    assert max(map(len, text.splitlines())) <= 40
    for name in names:
        assert name in text


def test_the_screen_without_colour_says_the_same(busy: StudyProgress) -> None:
    coloured = shown(busy, 80, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert "\x1b[" not in shown(busy, 80)
    assert Text.from_ansi(coloured).plain.split()[5:] == shown(busy, 80).split()[5:]  # behind the bar


def test_before_the_first_epoch_the_screen_says_what_keeps_it_busy(progress: StudyProgress) -> None:
    progress.stage_started("starting Ray")
    assert "starting Ray ..." in shown(progress, 60)
    progress.trial_started(0, {}, WIDE)
    assert "starts" in shown(progress, 60)
    progress.epoch_finished(0, EpochMetrics(1, 14, "train", {}))
    assert "starting Ray" not in shown(progress, 60)
    assert progress.epochs() == (1, 56)
    progress.stage_started("opening MLflow's store")
    progress.stage_started("")
    assert "..." not in shown(progress, 200)


def test_trials_to_come_are_as_long_as_those_that_ended(progress: StudyProgress) -> None:
    for number, epochs in enumerate((10, 2)):
        progress.trial_started(number, {}, {})
        progress.trial_finished(replace(ended(number), epochs=epochs))
    assert progress.epochs() == (12, 24)


def test_the_front_of_a_search_that_ended_is_whole_at_80_columns(busy: StudyProgress) -> None:
    lines = [line.plain for line in front_lines(busy.front, 80)]
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Pareto front: 4 of 4 finished trials"
    assert sum("hidden=[256,128] method=bnew growth=36.5 lr=0.0123" in line for line in lines) == 4
    assert any(line.split() == ["trial", "state", "(max)", "(min)"] for line in lines)


def test_json_view_writes_one_event_per_line(progress: StudyProgress, capsys: pytest.CaptureFixture[str]) -> None:
    with JsonView() as view:
        view.trial_started(0, {}, {"lr": 0.1})
        view.epoch_finished(0, EpochMetrics(1, 2, "train", {"val_acc": 0.5}))
        view.trial_finished(ended(0))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["trial_started", "epoch", "trial_finished"]
    assert events[1]["values"] == {"val_acc": 0.5}
    assert events[2]["state"] == "complete"


@pytest.mark.parametrize(
    ("terminal", "term", "as_json", "kind"),
    [(True, "xterm", False, LiveView), (True, "dumb", False, PlainView), (False, "xterm", False, PlainView),
     (True, "xterm", True, JsonView)],
)  # fmt: skip
def test_the_view_suits_where_the_output_goes(
    progress: StudyProgress, terminal: bool, term: str, as_json: bool, kind: type
) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, _environ={"TERM": term})
    assert isinstance(view_for(progress, as_json=as_json, console=console), kind)


def test_numbers_as_a_person_reads_them() -> None:
    assert [metric_text("memory_bytes", value) for value in (0, 999, 1384.0, 547_357_000)] == [
        "0 B", "999 B", "1.384 kB", "547.4 MB",
    ]  # fmt: skip
    assert metric_text("val_acc", 0.98765) == "0.9877"
    assert [duration_text(seconds) for seconds in (0.4, 59.4, 185, 7620)] == ["0 s", "59 s", "3 min 05 s", "2 h 07 min"]
    assert range_text(None) == "not known yet"
    assert range_text((60, 120)) == "1 min 00 s to 2 min 00 s"
    assert params_text({"a": 1.23456, "b": "adam"}) == "a=1.23 b=adam"
    assert params_text({"method.bnew.lambda_rate": 2.0, "model.hidden": [64, 32]}) == "lambda_rate=2 hidden=[64,32]"
    two = {"optimizer.adam.lr": 0.1, "teacher.lr": 0.2, "plan.epochs": 3}
    assert params_text(two) == "optimizer.adam.lr=0.1 teacher.lr=0.2 epochs=3"


def test_lines_are_broken_between_words_and_never_within_what_is_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    resume = command("resume", "runs/a name/20260101-000000")
    assert wrapped(f"stopped, and saved up to here; to go on with it: {resume}", 50) == (
        f"stopped, and saved up to here; to go on with it:\n  {resume}"
    )
    assert wrapped("`pip install 'bnnsearch[lightning]'` installs what this space uses, or leave it", 40) == (
        "`pip install 'bnnsearch[lightning]'`\n  installs what this space uses, or\n  leave it"
    )
    assert wrapped(f"  {resume}", 20) == f"  {resume}"
    assert wrapped("a/path/that/is/longer/than/the/terminal is whole", 20) == (
        "a/path/that/is/longer/than/the/terminal\n  is whole"
    )
    assert wrapped("ok     disk    60 GB are free where runs are written", 36) == (
        "ok     disk    60 GB are free where\n               runs are written"
    )
    table = "runs/first/20260101-000000    done    12 trials, all complete"
    assert wrapped(table, 40) == table
    short = "as it is"
    assert (wrapped(short, 8), wrapped(table, None)) == (short, table)
    monkeypatch.setenv("TERM", "dumb")
    assert wrapped("one word after another", 10) == "one word after another"


@pytest.mark.parametrize(("columns", "broken"), [(60, True), (300, False)])
def test_a_command_keeps_to_the_width_of_its_terminal(columns: int, broken: bool, tmp_path: Any) -> None:
    """What it says, word by word, is what it says into a pipe."""
    (tmp_path / "space.yaml").write_text("version: 1\nname: x\nobjectives: [{metric: accuracy, mode: max}]\n")
    words = [sys.executable, "-m", "bnnsearch", "validate", "space.yaml"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    ours, theirs = os.openpty()
    ran = subprocess.run(words, cwd=tmp_path, env=environment, stderr=theirs, check=False)
    os.close(theirs)
    text = ""
    with os.fdopen(ours, newline="") as terminal, suppress(OSError):
        for line in terminal:
            text += line
    piped = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, piped.returncode) == (2, 2)
    assert text.split() == piped.stderr.split()
    longest = max(map(len, piped.stderr.split()))
    assert max(map(len, text.splitlines())) <= max(columns, longest + 2)
    assert (len(text.splitlines()) > len(piped.stderr.splitlines())) is broken
