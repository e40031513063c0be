"""Who waits at a rung, who goes on, who is released."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import AshaConfig, HyperbandConfig
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.promotion import Promotion
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import StudyOutcome, run_study

MAX: list[Mode] = ["max"]


def test_the_best_third_of_a_rung_goes_on_rounded_up_once_nobody_can_come() -> None:
    rung: dict[int, Any] = {0: (0.5,), 1: (0.7,), 2: (0.6,), 3: (0.9,), 4: (0.1,)}
    promotion = Promotion(AshaConfig(reduction_factor=3), MAX, {1: rung}, {})
    waiting = dict.fromkeys(rung, 1)

    assert promotion.next(waiting, lambda *_: 1) == 3
    del waiting[3]
    assert promotion.next(waiting, lambda *_: 1) is None  # the one place of five is taken
    assert promotion.next(waiting, lambda *_: 0) == 1  # two of five, rounded up
    rung[5] = (0.65,)
    assert promotion.next(waiting, lambda *_: 1) == 1  # two of six
    assert promotion.lost(waiting, lambda *_: 3) == [2, 0, 4]  # three of nine at most: 3, 1 and 5
    assert promotion.lost(waiting, lambda *_: 4) == [0, 4]


def test_the_highest_rung_comes_first() -> None:
    rungs: dict[int, Any] = {1: {0: (0.1,), 1: (0.2,), 2: (0.3,), 3: (0.4,)}, 2: {0: (0.5,), 1: (0.6,)}}
    promotion = Promotion(AshaConfig(reduction_factor=2), MAX, rungs, {})
    assert promotion.next({0: 2, 1: 2, 2: 1, 3: 1}, lambda *_: 9) == 1
    assert promotion.next({0: 2, 2: 1, 3: 1}, lambda *_: 9) == 3


def test_brackets_of_hyperband_contend_apart() -> None:
    rung: dict[int, Any] = {0: (0.9,), 2: (0.8,), 1: (0.2,), 3: (0.1,)}
    promotion = Promotion(HyperbandConfig(brackets=2, reduction_factor=2), MAX, {4: rung}, {})
    assert promotion.next({1: 4, 2: 4, 3: 4}, lambda *_: 9) == 1
    assert promotion.lost({1: 4, 2: 4, 3: 4}, lambda *_: 0) == [2, 3]


@given(
    values=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 5)), min_size=1, max_size=40),
    factor=st.integers(2, 4),
)
@settings(max_examples=100, deadline=None)
def test_in_the_end_everyone_in_the_best_share_has_gone_on(values: list[Any], factor: int) -> None:
    modes: list[Mode] = ["max", "min"]
    rung: dict[int, Any] = {}
    waiting: dict[int, int] = {}
    released: dict[int, set[int]] = {1: set()}
    promotion = Promotion(AshaConfig(reduction_factor=factor), modes, {1: rung}, released)
    went_on: list[int] = []
    for number, value in enumerate(values):
        rung[number], waiting[number] = value, 1
        left = len(values) - number - 1
        while (chosen := promotion.next(waiting, lambda *_, left=left: left)) is not None:
            del waiting[chosen]
            went_on.append(chosen)
        assert not left or len(went_on) >= len(rung) // factor
        for lost in promotion.lost(waiting, lambda *_, left=left: left):
            del waiting[lost]
            released[1].add(lost)
    assert not waiting
    assert len(went_on) >= -(-len(values) // factor)


class Diary(StudyObserver):
    def __init__(self) -> None:
        self.epochs: dict[int, list[int]] = {}
        self.standing: dict[int, str] = {}
        self.waited: set[int] = set()

    def trial_started(self, number: int, config: Any, params: Any) -> None:
        assert self.standing.get(number) in (None, "waits")
        self.standing[number] = "runs"

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        assert self.standing[number] == "runs"
        self.epochs.setdefault(number, []).append(metrics.epoch)

    def trial_waits(self, number: int) -> None:
        self.standing[number] = "waits"
        self.waited.add(number)

    def trial_finished(self, result: TrialResult) -> None:
        self.standing[result.number] = "ended"


def search(folder: Path, diary: Diary, *overrides: str, ray: bool = False) -> StudyOutcome:
    space = tiny(folder, "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}", *overrides)
    executor = RayExecutor() if ray else LocalExecutor()
    return run_study(space, study_dir=folder / "study", executor=executor, observers=[diary], build_trainer=TinyTrainer)


@pytest.mark.parametrize("ray", [False, True])
def test_trials_go_on_where_they_waited_and_the_best_of_each_rung_have(
    tmp_path: Path, ray: bool, request: pytest.FixtureRequest
) -> None:
    if ray:
        request.getfixturevalue("small_ray")
    diary = Diary()
    objective = "objectives=[{metric: val_acc, mode: max}]"
    outcome = search(tmp_path, diary, objective, "budget.trials=12", "checkpoint.interval=60", ray=ray)

    assert outcome.stopped == "finished"
    assert [result.number for result in outcome.results] == list(range(12))
    assert set(diary.standing.values()) == {"ended"}
    assert diary.waited
    for result in outcome.results:  # nothing was trained twice, though states are saved at rungs alone
        assert diary.epochs[result.number] == list(range(1, result.epochs + 1))
        assert result.epochs in {1, 2, 4}
        assert result.state is (TrialState.COMPLETE if result.epochs == 4 else TrialState.PRUNED)
        assert result.reason == (None if result.epochs == 4 else f"stopped at the rung of epoch {result.epochs}")
    best_first = sorted(outcome.results, key=lambda result: -result.config["optimizer"]["lr"])
    assert all(result.epochs > 1 for result in best_first[:6])
    second = [result for result in best_first if result.epochs > 1]
    assert all(result.epochs == 4 for result in second[: len(second) // 2])
    assert not list((tmp_path / "study/checkpoints").iterdir())


def test_a_short_search_ends_with_a_finished_trial(tmp_path: Path) -> None:
    outcome = search(tmp_path, Diary(), "budget.trials=2", "trial.plan.epochs=40")
    assert [result.state for result in outcome.results].count(TrialState.COMPLETE) >= 1


@pytest.mark.parametrize("trials", [6, 11])
def test_each_bracket_of_hyperband_goes_on_by_itself_to_a_finished_trial(tmp_path: Path, trials: int) -> None:
    """Six trials are two a bracket, of which no whole third goes on: a bracket must not wait for the others' trials."""
    config = HyperbandConfig(brackets=3, reduction_factor=3)
    scheduler = "scheduler={name: hyperband, brackets: 3, reduction_factor: 3}"
    diary = Diary()
    objective = "objectives=[{metric: val_acc, mode: max}]"
    outcome = search(tmp_path, diary, objective, scheduler, f"budget.trials={trials}", "trial.plan.epochs=27")

    assert [result.number for result in outcome.results] == list(range(trials))
    assert set(diary.standing.values()) == {"ended"}
    for bracket in range(3):
        own = [result for result in outcome.results if config.bracket(result.number) == bracket]
        rungs = [epoch for epoch in (1, 3, 9) if epoch >= 3**bracket]
        assert {result.epochs for result in own} <= {*rungs, 27}
        for rung in rungs:  # the best third of those that came to it, by the ranks of this trainer, went on
            came = sorted((r for r in own if r.epochs >= rung), key=lambda r: -r.config["optimizer"]["lr"])
            assert all(result.epochs > rung for result in came[: -(-len(came) // 3)])
        assert any(result.state is TrialState.COMPLETE for result in own)
