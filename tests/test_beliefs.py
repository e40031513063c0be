"""What a space tells the search: combinations that are forbidden, beliefs about its leaves, when it has stagnated."""

from __future__ import annotations

import random
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.sampler import GridConfig
from bnnsearch.errors import InputError
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import SpaceError
from bnnsearch.space.prior import Prior
from bnnsearch.study.believing import BY_PRIOR, MOST, chance
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study

FORBID = (
    "forbid=[{model.hidden: [[2], [3]], optimizer.lr: {min: 0.3}}, {model.hidden: [[2]], optimizer.lr: {max: 0.1}}]"
)


def search(folder: Path, *overrides: str) -> tuple[TrialResult, ...]:
    space = tiny(folder, *overrides)
    study = folder / "study"
    return run_study(space, study_dir=study, executor=LocalExecutor(), build_trainer=TinyTrainer).results


def told(results: tuple[TrialResult, ...]) -> list[dict[str, Any]]:
    return [dict(each.params) for each in results]


def forbidden(config: dict[str, Any]) -> bool:
    neurons, lr = config["model"]["hidden"], config["optimizer"]["lr"]
    return (neurons in ([2], [3]) and lr >= 0.3) or (neurons == [2] and lr <= 0.1)


@pytest.mark.parametrize(
    "sampler",
    [
        "{name: random}",
        "{name: tpe, startup_trials: 3}",
        "{name: nsga2, population: 4}",
        "{name: nsga3, population: 4}",
        "{name: grid, points: 11}",
    ],
)
def test_no_sampler_draws_what_is_forbidden(tmp_path: Path, sampler: str) -> None:
    trials = 20 if "grid" in sampler else 14
    results = search(tmp_path, f"sampler={sampler}", f"budget.trials={trials}", FORBID)
    assert not any(forbidden(dict(each.config)) for each in results)
    assert len(results) == (11 + 3 + 2 if "grid" in sampler else trials)  # .1, .2 of [2]; .001 too of [3]
    assert len({str(each.config["model"]["hidden"]) for each in results}) >= 2


def test_cmaes_draws_nothing_forbidden_with_one_objective(tmp_path: Path) -> None:
    one = "objectives=[{metric: val_acc, mode: max}]"
    results = search(tmp_path, one, "sampler.name=cmaes", "budget.trials=14", FORBID)
    assert len(results) == 14
    assert not any(forbidden(dict(each.config)) for each in results)


def test_a_search_that_was_interrupted_draws_the_same(tmp_path: Path) -> None:
    rules = ("sampler={name: nsga2, population: 4}", FORBID, "trial.optimizer.lr.prior=0.2")
    whole = search(tmp_path / "whole", "budget.trials=12", *rules)
    search(tmp_path / "parts", "budget.trials=5", *rules)
    study = tmp_path / "parts" / "study"
    parts = resume_study(study, executor=LocalExecutor(), trials=12, build_trainer=TinyTrainer).results
    assert told(parts) == told(whole)


def test_a_space_in_which_nothing_else_is_allowed_says_so(tmp_path: Path) -> None:
    rules = "forbid=[{optimizer.lr: {min: 0.001, max: 0.49999999}}, {optimizer.lr: {min: 0.50000001}}]"
    with pytest.raises(InputError, match="random configurations were all forbidden"):
        search(tmp_path, rules, "trial.optimizer.lr.default=0.5")


def test_forbidden_combinations_need_not_be_valid(tmp_path: Path) -> None:
    choice = "trial.plan.epochs={type: choice, values: [4, 1]}"
    phases = "trial.method={type: choice, branches: {ste: {}, bnew: {pretrain_epochs: 1, finetune_epochs: 1}}}"
    with pytest.raises(SpaceError, match="pretrain_epochs"):
        tiny(tmp_path, choice, phases)
    space = tiny(tmp_path, choice, phases, "forbid=[{method.name: bnew, plan.epochs: 1}]")
    assert "forbidden: method.name is 'bnew', plan.epochs is 1" in space.describe()
    points = GridConfig(points=2).listed(space.trial, 0)
    assert len(points) == 3 * 2 * 3  # widths, rates, and three of the four


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{optimizer.rate: 1}", "forbid.0.optimizer.rate: no setting of the trial, did you mean"),
        ("{optimizer.name: sgd}", "forbid.0.optimizer.name: no configuration has 'sgd'; allowed: 'adam'"),
        ("{optimizer.lr: 3.0}", "forbid.0.optimizer.lr: no configuration has 3.0; allowed: uniform [0.001, 1.0]"),
        ("{optimizer.lr: {mn: 3.0}}", "forbid.0.optimizer.lr: bounds are min, max or both, numbers"),
        ("{optimizer.lr: {min: 0.2, max: 0.1}}", "forbid.0.optimizer.lr: min <= max must hold"),
        ("{optimizer.lr: {min: 0.1}}", "forbid.0: the defaults must be allowed"),
        ("{}", "forbid.0: "),
        ("3", "forbid.0: "),
    ],
)
def test_rules_that_are_wrong(tmp_path: Path, rule: str, message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        tiny(tmp_path, f"forbid=[{rule}]")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("2.0", "prior must be in [0.001, 1.0], but got 2.0"),
        ("{at: 0.1, confidence: hihg}", "unknown confidence 'hihg', did you mean 'high'?"),
        ("{at: 0.1, sure: high}", "unknown key 'sure'"),
        ("{confidence: high}", "a prior is a value, or a mapping with at and confidence"),
    ],
)
def test_priors_that_are_wrong(tmp_path: Path, prior: str, message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        tiny(tmp_path, f"trial.optimizer.lr.prior={prior}")
    assert message in str(raised.value)


BELIEF = ("trial.optimizer.lr.prior={at: 0.9, confidence: high}", "trial.model.hidden.prior=[1]")


def test_the_first_trial_is_what_is_believed_and_a_good_belief_goes_on(tmp_path: Path) -> None:
    results = search(tmp_path, *BELIEF, "budget.trials=30")
    assert results[0].params == {"optimizer.lr": 0.9, "model.hidden": "[1]"}
    near = [abs(each.config["optimizer"]["lr"] - 0.9) < 0.15 for each in results[1:]]
    assert sum(near) >= 10  # at random, 7 of 29 would be


def test_what_was_good_in_an_earlier_study_is_drawn_from_and_needs_it_no_more(tmp_path: Path) -> None:
    narrow = "trial.optimizer.lr={type: uniform, min: 0.85, max: 0.95}"
    one = "objectives=[{metric: val_acc, mode: max}]"
    search(tmp_path / "earlier", narrow, one, "budget.trials=6")
    warm = (f"warm_start=['{tmp_path / 'earlier/study'}']", one, "sampler.name=random")
    whole = search(tmp_path / "whole", *warm, "budget.trials=30")
    near = [abs(each.config["optimizer"]["lr"] - 0.9) < 0.15 for each in whole[1:]]
    assert sum(near) >= 10  # at random, 7 of 29 would be

    search(tmp_path / "parts", *warm, "budget.trials=5")
    rmtree(tmp_path / "earlier")
    study = tmp_path / "parts" / "study"
    parts = resume_study(study, executor=LocalExecutor(), trials=30, build_trainer=TinyTrainer).results
    assert told(parts) == told(whole)


def test_a_belief_in_what_bounds_do_not_hold_any_more_is_drawn_within_them() -> None:
    generator = random.Random(1)
    assert {Prior(7).choice(generator, [1, 2]) for _ in range(20)} == {1, 2}
    assert all(3 <= Prior(9.0, "high").number(generator, 3, 5, log=False) <= 5 for _ in range(20))


def test_a_bad_belief_is_given_up_and_a_good_one_kept() -> None:
    def after(believed: float, others: float, trials: int = 20) -> float:
        values = [believed if number % 4 == 0 else others + 0.01 * number for number in range(trials)]
        attributes = [{BY_PRIOR: True} if number % 4 == 0 else {} for number in range(trials)]
        told = [
            create_trial(state=OptunaState.COMPLETE, value=value, system_attrs=own)
            for value, own in zip(values, attributes, strict=True)
        ]
        for number, each in enumerate(told):
            each.number = number
        return chance(told, ["max"])

    assert chance([], ["max"]) == after(1.0, 0.0) == MOST
    assert after(0.0, 1.0) < 0.1
    assert after(0.0, 1.0, trials=80) < after(0.0, 1.0)


def test_a_search_that_finds_no_more_begins_no_more(tmp_path: Path) -> None:
    one = "objectives=[{metric: val_acc, mode: max}]"
    results = search(tmp_path, one, "budget={trials: 100, stagnation: {trials: 5}}")
    best = max(range(len(results)), key=lambda number: results[number].metrics["val_acc"])
    assert len(results) == best + 1 + 5
    assert all(each.state is TrialState.COMPLETE for each in results)


def test_halving_ends_with_nobody_waiting_when_the_search_stagnates(tmp_path: Path) -> None:
    asha = "scheduler={name: asha, reduction_factor: 2}"
    results = search(tmp_path, asha, "budget={trials: 200, stagnation: {trials: 3, gain: 0.2}}")
    assert len(results) < 200
    assert {each.state for each in results} == {TrialState.COMPLETE, TrialState.PRUNED}
