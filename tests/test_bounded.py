"""The bounded view of a sampler: what is seen of many trials, and that nothing else is suggested for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.results import TrialResult, TrialState
from bnnsearch.study import bounded
from bnnsearch.study.bounded import Generations, View
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study


def ended(
    number: int, *, violations: float = 0.0, state: TrialState = TrialState.COMPLETE, **params: int
) -> TrialResult:
    return TrialResult(
        number=number,
        state=state,
        config={},
        params=params or {"x": number},
        metrics={},
        violations={"memory_bytes": violations},
        epochs=1,
        seconds=1.0,
        reason=None,
        retry_of=None,
    )


def suggested(folder: Path, *overrides: str, trials: int, before: int = 0) -> list[object]:
    """Parameters of all trials of a search, which was ended after `before` of them and resumed."""
    space = tiny(folder, f"budget.trials={before or trials}", *overrides)
    executor = LocalExecutor()
    outcome = run_study(space, study_dir=folder / "study", executor=executor, build_trainer=TinyTrainer)
    if before:
        outcome = resume_study(folder / "study", executor=executor, trials=trials, build_trainer=TinyTrainer)
    return [result.params for result in sorted(outcome.results, key=lambda each: each.number)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST", 20)
    monkeypatch.setattr(bounded, "SLACK", 5)


@pytest.mark.usefixtures("few")
def test_the_best_the_last_those_that_run_and_one_of_each_kind_are_seen() -> None:
    view = View(["max", "min"])
    view.ended(ended(0, other=1), [0.1, 1.0])
    for number in range(1, 24):
        view.ended(ended(number), [number / 100, 1.0])
        assert view.whole
    view.ended(ended(24, violations=1.0), [9.0, 0.1])  # not allowed: the best of none
    for number in range(25, 60):
        view.ended(ended(number, state=TrialState.FAILED), None)
    assert not view.whole
    seen = view.numbers([99])
    assert len(seen) <= 20 + 5 + 3
    assert {0, 1, 99, *range(14, 24), *range(50, 60)} <= set(seen)
    assert 24 not in seen
    assert seen == sorted(seen)


@pytest.mark.usefixtures("few")
def test_a_trial_that_goes_on_is_among_the_last_again() -> None:
    view = View(["max"])
    for number in range(24):
        view.stands(number)
    view.stands(0)
    view.stands(24)
    assert 0 in view.numbers([])
    assert 1 not in view.numbers([])


@pytest.mark.usefixtures("few")
def test_a_search_that_is_resumed_beyond_the_bound_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    overrides = ("sampler={name: tpe}", "scheduler={name: asha, type: stopping, grace_epochs: 1}")
    whole = suggested(tmp_path / "whole", *overrides, trials=50)
    assert suggested(tmp_path / "resumed", *overrides, trials=50, before=41) == whole


@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_genetic_samplers_suggest_what_they_would_among_all_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    overrides = (f"sampler={{name: {name}, population: 5}}", "scheduler={name: asha, type: stopping, grace_epochs: 1}")
    bounded_ones = suggested(tmp_path / "bounded", *overrides, trials=40, before=25)
    seen: list[int] = []
    trials = Generations.trials
    monkeypatch.setattr(Generations, "trials", lambda *given: seen.append(len(found := trials(*given))) or found)
    assert suggested(tmp_path / "again", *overrides, trials=40) == bounded_ones
    assert max(seen) <= 4 * 5 + 2
    monkeypatch.setattr(Ledger, "_last_generations", Ledger._trials)
    assert suggested(tmp_path / "all", *overrides, trials=40) == bounded_ones
