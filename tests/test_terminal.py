"""What the terminal shows, from the events of a search."""

import io
import json

import pytest
from rich.console import Console

from bnnsearch.config.study import BudgetConfig, Objective, StudyConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.terminal.progress import StudyProgress
from bnnsearch.terminal.text import duration_text, metric_text, params_text, range_text
from bnnsearch.terminal.views import JsonView, LiveView, PlainView, summary_lines, view_for


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
    assert "best val_acc 0.9500; best memory_bytes 2k" in summary_lines(progress)[1]


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
        "[1/4] trial 0 complete val_acc=0.9000 memory_bytes=2k in 2 s; front 1; lr=0.0123",
        "[2/4] trial 1 failed in 2 s; loss is nan [after] epoch 2; front 1; lr=0.0123",
    ]


def test_plain_view_speaks_when_nothing_ends(progress: StudyProgress, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnsearch.terminal.views.HEARTBEAT_SECONDS", 0.05)
    text = io.StringIO()
    view = PlainView(progress, Console(file=text))
    with view:
        view.spoken.wait()
    assert text.getvalue().startswith("0/4 trials (none ended), 0 running")


def test_live_view_shows_running_and_ended_trials(progress: StudyProgress) -> None:
    tell(progress, ended(0))
    progress.trial_started(1, {}, {})
    progress.epoch_finished(1, EpochMetrics(2, 5, "train", {"val_acc": 0.5}))
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    console.print(LiveView(progress, console).render())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("complete *", "epoch 2/5", "0.5000", "1/4 trials (1 complete), 1 running"):
        assert part in shown


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
        "0", "999", "1.384k", "547.4M",
    ]  # fmt: skip
    assert metric_text("val_acc", 0.98765) == "0.9877"
    assert [duration_text(seconds) for seconds in (0.4, 59.4, 185, 7620)] == ["0 s", "59 s", "3 min 05 s", "2 h 07 min"]
    assert range_text(None) == "not known yet"
    assert range_text((60, 120)) == "1 min 00 s to 2 min 00 s"
    assert params_text({"a": 1.23456, "b": "adam"}) == "a=1.23 b=adam"
    assert params_text({"method.bnew.lambda_rate": 2.0, "model.hidden": [64, 32]}) == "lambda_rate=2 hidden=[64,32]"
    two = {"optimizer.adam.lr": 0.1, "teacher.lr": 0.2, "plan.epochs": 3}
    assert params_text(two) == "optimizer.adam.lr=0.1 teacher.lr=0.2 epochs=3"
