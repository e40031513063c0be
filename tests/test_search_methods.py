"""Samplers, schedulers, the grid, skipping and warm starts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from pydantic import ValidationError
from search_fixtures import DivergingTrainer, TinyTrainer, tiny

from bnnsearch.config.metrics import Mode
from bnnsearch.config.sampler import SamplerSettings
from bnnsearch.config.scheduler import (
    AshaConfig,
    HyperbandConfig,
    MedianConfig,
    NoSchedulerConfig,
    Rung,
    SchedulerSettings,
)
from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.errors import InputError
from bnnsearch.pareto import GrowingFront, ParetoFront
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import SearchSpace
from bnnsearch.study.grid import grid_points
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.schedulers import ranking, survives
from bnnsearch.study.skipping import certain, reason_to_skip
from bnnsearch.study.study import StudyOutcome, run_study

CONDITIONAL = (
    "trial.method={type: choice, branches: {ste: {}, bop: {gamma: {type: loguniform, min: 1.0e-5, max: 1.0e-2}}}}",
    "trial.optimizer={type: choice, branches: {adam: {lr: {type: uniform, min: 0.001, max: 1.0}}, "
    "sgd: {lr: {type: uniform, min: 0.001, max: 0.5}, momentum: {type: uniform, min: 0.0, max: 0.9, step: 0.3}}}}",
)


def search(folder: Path, *overrides: str) -> StudyOutcome:
    return run_study(
        tiny(folder, "share_pretraining=false", *overrides),
        study_dir=folder / "study",
        executor=LocalExecutor(),
        build_trainer=TinyTrainer,
    )


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "random", "cmaes", "gp"])
def test_every_sampler_draws_valid_configurations_again_alike(tmp_path: Path, sampler: str) -> None:
    one = ("objectives=[{metric: val_acc, mode: max}]",) if sampler == "cmaes" else ()
    overrides = (*CONDITIONAL, *one, f"sampler.name={sampler}", "budget.trials=14")
    first, second = (search(tmp_path / run, *overrides).results for run in "ab")

    for result in first:
        config = TrialConfig.model_validate(result.config)
        assert result.state is TrialState.COMPLETE
        assert ("optimizer.sgd.momentum" in result.params) == (config.optimizer.name == "sgd")
        assert ("method.bop.gamma" in result.params) == (config.method.name == "bop")
    assert [result.params for result in first] == [result.params for result in second]
    assert {result.config["optimizer"]["name"] for result in first} == {"adam", "sgd"}


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "gp"])
def test_what_learns_beats_chance(tmp_path: Path, sampler: str) -> None:
    overrides = ("objectives=[{metric: val_acc, mode: max}]", "budget.trials=25", "trial.plan.epochs=1")
    learned = search(tmp_path / "a", *overrides, f"sampler.name={sampler}").results
    drawn = search(tmp_path / "b", *overrides, "sampler.name=random").results

    def mean_of_last(results: tuple[TrialResult, ...]) -> float:
        return sum(result.config["optimizer"]["lr"] for result in results[15:]) / 10

    assert mean_of_last(learned) > mean_of_last(drawn) + 0.1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("sampler.name=cmaes",), "sampler.name cmaes takes one objective, but got 2"),
        (("scheduler={name: pbt}",), "scheduler.name pbt is refused: its trials take over"),
        (("sampler.name=grid", "warm_start=[best.yaml]"), "warm_start has no sense with sampler.name grid"),
        (
            ("objectives=[{metric: bops, mode: min}]", "scheduler={name: median}"),
            "scheduler.name median needs an objective that training improves",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(tmp_path, *overrides)


def test_the_grid_holds_every_configuration_once(tmp_path: Path) -> None:
    space = tiny(tmp_path, *CONDITIONAL, "trial.model.hidden=[1]").trial
    points = grid_points(space, points=2, seed=0)

    bop = [{"method": "bop", "method.bop.gamma": gamma} for gamma in (1e-5, 1e-2)]
    adam = [{"optimizer": "adam", "optimizer.adam.lr": lr} for lr in (1e-3, 1.0)]
    sgd = [
        {"optimizer": "sgd", "optimizer.sgd.lr": lr, "optimizer.sgd.momentum": pytest.approx(momentum)}
        for lr in (1e-3, 0.5)
        for momentum in (0.0, 0.3, 0.6, 0.9)
    ]
    expected = [a | b for a, b in itertools.product([{"method": "ste"}, *bop], adam + sgd)]
    assert len(points) == len(expected) == 30
    assert all(points.count(point) == 1 for point in expected)


def test_a_range_counts_its_unordered_pairs_once(tmp_path: Path) -> None:
    space = tiny(tmp_path, "trial.optimizer.lr=0.1", "trial.model.hidden=[1]",
                 "trial.precision={bits: {type: range, min: 3, max: 5, step: 1}}").trial  # fmt: skip
    pairs = [space.config_of(point)["precision"]["bits"] for point in grid_points(space, points=2, seed=1)]
    assert sorted(map(tuple, pairs)) == [(3, 3), (3, 4), (3, 5), (4, 4), (4, 5), (5, 5)]


def test_a_grid_search_ends_with_the_grid(tmp_path: Path) -> None:
    outcome = search(tmp_path, "sampler={name: grid, points: 4}", "budget.trials=50")

    assert outcome.stopped == "finished"
    tried = sorted(
        (result.config["model"]["hidden"][0], result.config["optimizer"]["lr"]) for result in outcome.results
    )
    assert tried == [(n, pytest.approx(lr)) for n in (1, 2, 3) for lr in (0.001, 0.334, 0.667, 1.0)]


def test_the_rungs_of_each_scheduler() -> None:
    def rungs(config: Any, number: int = 0) -> list[int]:
        return [epoch for epoch in range(-5, 101) if config.is_rung(number, epoch=epoch, epochs=81)]

    assert rungs(AshaConfig(grace_epochs=1, reduction_factor=3)) == [1, 3, 9, 27]
    assert rungs(AshaConfig(grace_epochs=10, reduction_factor=2)) == [10, 20, 40]  # from 80 there is nothing to save
    assert rungs(AshaConfig(grace_epochs=80)) == [80]
    assert rungs(AshaConfig(grace_epochs=81)) == []
    brackets = HyperbandConfig(grace_epochs=1, reduction_factor=3, brackets=3)
    assert [rungs(brackets, number) for number in range(4)] == [[1, 3, 9, 27], [3, 9, 27], [9, 27], [1, 3, 9, 27]]
    assert rungs(MedianConfig(grace_epochs=78)) == [78, 79, 80]
    assert rungs(NoSchedulerConfig()) == []


def test_several_objectives_are_ranked_by_front_then_spread() -> None:
    """Accuracy up, memory down. Front 0: 0, 1, 2, 3; its ends 0 and 3 are loneliest, 2 has more room than 1."""
    rung = {4: (0.5, 60), 1: (0.6, 20), 2: (0.8, 40), 0: (0.5, 10), 3: (0.9, 90), 5: (0.4, 95)}
    # neighbours of 1: (0.8 - 0.5) / 0.4 + (40 - 10) / 80 = 1.125; of 2: (0.9 - 0.6) / 0.4 + (90 - 20) / 80 = 1.625
    assert ranking(rung, ["max", "min"]) == [3, 0, 2, 1, 4, 5]


@given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=30), st.integers(2, 4))
def test_with_one_objective_the_best_share_goes_on(values: list[float], factor: int) -> None:
    rung = {number: (value,) for number, value in enumerate(values)}
    modes: list[Mode] = ["max"]
    kept = [n for n in rung if survives(AshaConfig(reduction_factor=factor), rung, n, modes)]
    assert len(kept) == -(-len(values) // factor)
    stopped = set(rung) - set(kept)
    assert all(values[keep] >= values[stop] for keep in kept for stop in stopped)


def test_hyperband_compares_within_brackets() -> None:
    rung = {0: (0.1,), 1: (0.9,), 2: (0.2,), 4: (0.8,)}
    config = HyperbandConfig(brackets=2, reduction_factor=3)
    assert [survives(config, rung, number, ["max"]) for number in rung] == [False, True, False, True]


def test_the_median_rule_waits_for_enough_trials() -> None:
    config = MedianConfig(min_trials=3)
    rung = {number: (value,) for number, value in enumerate([0.9, 0.8, 0.1])}
    assert survives(config, rung, 2, ["max"])
    assert not survives(config, rung | {3: (0.2,)}, 3, ["max"])
    assert survives(config, rung | {3: (0.85,)}, 3, ["max"])


class _OwnSampler(SamplerSettings):
    builder: ClassVar[str] = f"{__name__}:_Descending"
    enumerates: ClassVar[bool] = True
    name: Literal["own"] = "own"

    def listed(self, space: SearchSpace, seed: int) -> list[dict[str, Any]]:
        return [{"model.hidden": "[1]", "optimizer.lr": lr} for lr in (0.9, 0.4, 0.2, 0.8)]


class _Descending(RandomSampler):
    def __init__(self, config: _OwnSampler, seed: int) -> None:
        super().__init__(seed)


class _OwnScheduler(SchedulerSettings):
    """Stops after epoch 2 whatever is below a bound, however few trials there are."""

    name: Literal["own"] = "own"
    bound: float = 0.25

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:
        return epoch == 2

    def survives(self, number: int, rivals: Rung) -> bool:
        return rivals[number][0] >= self.bound


def test_a_sampler_and_a_scheduler_of_ones_own_need_no_case(tmp_path: Path) -> None:
    space = tiny(tmp_path, "budget.trials=50")
    study = space.study.model_copy(update={"sampler": _OwnSampler(), "scheduler": _OwnScheduler()})
    outcome = run_study(
        replace(space, study=study),
        study_dir=tmp_path / "study",
        executor=LocalExecutor(),
        build_trainer=TinyTrainer,
    )

    assert outcome.stopped == "finished"
    ended = {result.params["optimizer.lr"]: (result.state, result.epochs) for result in outcome.results}
    assert ended == {
        0.9: (TrialState.COMPLETE, 4),
        0.4: (TrialState.COMPLETE, 4),
        0.2: (TrialState.PRUNED, 2),
        0.8: (TrialState.COMPLETE, 4),
    }


def study(**settings: Any) -> StudyConfig:
    objectives = [{"metric": "val_acc", "mode": "max"}, {"metric": "memory_bytes", "mode": "min"}]
    return StudyConfig.model_validate(
        {"version": 1, "name": "s", "objectives": objectives, "budget": {"trials": 1}} | settings
    )


def front_of(*finished: tuple[int, float, float]) -> GrowingFront:
    """Number, accuracy and memory of each."""
    front = GrowingFront(["max", "min"])
    for number, *values in finished:
        front.add(number, values)
    return front


def test_what_breaks_a_constraint_is_not_trained() -> None:
    limited = study(constraints=[{"metric": "memory_bytes", "max": 100}, {"metric": "val_acc", "min": 0.5}])
    assert reason_to_skip(limited, {"memory_bytes": 130.0}, front_of()) == (
        "not trained: memory_bytes is 130, 30 beyond its bound"
    )
    assert reason_to_skip(limited, {"memory_bytes": 100.0}, front_of()) is None
    off = limited.model_copy(update={"skip": "none"})
    assert reason_to_skip(off, {"memory_bytes": 130.0}, front_of()) is None


def test_what_a_better_trial_dominates_at_any_hope_is_not_trained() -> None:
    front = front_of((0, 0.9, 50), (1, 0.7, 20))
    greedy = study(skip="dominated")
    assert reason_to_skip(greedy, {"memory_bytes": 60.0}, front) == (
        "not trained: trial 0 would dominate it even if it equalled the best values seen so far"
    )
    assert reason_to_skip(greedy, {"memory_bytes": 40.0}, front) is None
    assert reason_to_skip(greedy, {"memory_bytes": 60.0}, front_of()) is None
    assert reason_to_skip(study(), {"memory_bytes": 60.0}, front) is None


def test_a_bound_on_a_cost_is_not_held_against_a_trial() -> None:
    """Evolution knows only what its training costs at most: it may come to less."""
    costs = {"memory_bytes": 130.0, "train_bitops": 9.0}
    data = {"data": {"name": "digits"}}
    assert certain({**data, "model": {"name": "mlp"}, "method": {"name": "ste"}}, costs) == costs
    evolved = {**data, "model": {"name": "xor_mlp"}, "method": {"name": "naive"}}
    assert certain(evolved, costs) == {"memory_bytes": 130.0}


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp", "random"])
def test_constraints_fit_every_sampler_with_trials_that_lack_values(tmp_path: Path, sampler: str) -> None:
    """Failed trials have no values to tell, skipped ones some; the rest has all."""
    limits = "constraints=[{metric: memory_bytes, max: 250}, {metric: val_acc, min: 0.2}]"
    space = tiny(tmp_path, limits, f"sampler.name={sampler}", "budget.trials=16")
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=DivergingTrainer)
    assert len(outcome.results) == 16
    assert {result.state for result in outcome.results} == set(TrialState)
    assert {tuple(result.violations) for result in outcome.results} >= {("memory_bytes",), ("memory_bytes", "val_acc")}


def test_a_search_records_what_it_skips(tmp_path: Path) -> None:
    outcome = search(tmp_path, "constraints=[{metric: memory_bytes, max: 150}]", "budget.trials=12")

    skipped = [result for result in outcome.results if result.config["model"]["hidden"][0] > 1]
    assert 0 < len(skipped) < 12
    for result in outcome.results:
        if result in skipped:
            assert (result.state, result.epochs, result.selectable) == (TrialState.PRUNED, 0, False)
            assert result.reason is not None and result.reason.startswith("not trained: memory_bytes is ")
        else:
            assert result.state is TrialState.COMPLETE


def test_rungs_are_counted_from_the_end_of_pretraining(tmp_path: Path) -> None:
    outcome = search(
        tmp_path,
        "trial.method={name: ste, pretrain_epochs: 3}",
        "trial.plan.epochs=7",
        "objectives=[{metric: val_acc, mode: max}]",
        "scheduler={name: asha, grace_epochs: 2}",
        "budget.trials=6",
    )
    assert {result.epochs for result in outcome.results} == {3 + 2, 7}


def test_a_warm_start_tries_the_front_of_an_earlier_study_first(tmp_path: Path) -> None:
    earlier = search(tmp_path / "earlier", "budget.trials=12")
    front = [result.params for result in ParetoFront.of(earlier.results, earlier.study.objectives).results]
    later = search(tmp_path / "later", f"warm_start=['{tmp_path / 'earlier/study'}']", "budget.trials=12", "seed=9")
    assert [result.params for result in later.results[: len(front)]] == front
    assert len(later.results) == 12

    narrow = search(
        tmp_path / "narrow", f"warm_start=['{tmp_path / 'earlier/study'}']", "budget.trials=3",
        "trial.model.hidden={type: choice, values: [[7], [8]]}",
    )  # fmt: skip
    assert len(narrow.results) == 3


def test_a_warm_start_takes_a_configuration_of_the_space(tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    best.write_text(
        "data: {name: digits}\nmodel: {name: mlp, hidden: [2]}\nmethod: {name: ste}\n"
        "optimizer: {name: adam, lr: 0.25}\nplan: {epochs: 4}\nseed: 3\n"
    )
    outcome = search(tmp_path / "a", f"warm_start=['{best}']")
    first = outcome.results[0].config
    assert (first["model"]["hidden"], first["optimizer"]["lr"]) == ([2], 0.25)

    best.write_text(best.read_text().replace("0.25", "2.5"))
    with pytest.raises(InputError, match=r"best\.yaml: warm_start must name configurations of this space: .*lr"):
        search(tmp_path / "b", f"warm_start=['{best}']")
    with pytest.raises(InputError):
        search(tmp_path / "c", f"warm_start=['{tmp_path / 'nowhere'}']")


@pytest.mark.parametrize(
    ("text", "count"), [("4GB", 4_000_000_000), ("1.5 GiB", 1_610_612_736), ("250MB", 250_000_000), (4096, 4096)]
)
def test_memory_is_read_with_its_unit(text: Any, count: int) -> None:
    assert study(resources={"per_trial": {"memory": text}}).resources.per_trial.memory == count


@pytest.mark.parametrize("text", ["4", "GB", "4 gigabytes", "-1GB", "0", 0])
def test_memory_without_a_unit_or_of_nothing_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError, match=r"an amount of memory is|greater than or equal to 1"):
        study(resources={"per_trial": {"memory": text}})


def test_gpu_hours_need_a_gpu() -> None:
    with pytest.raises(ValidationError, match=r"budget\.gpu_hours needs resources\.per_trial\.gpu > 0, but got 0"):
        study(budget={"trials": 1, "gpu_hours": 2})


def test_wrong_settings_name_what_is_allowed() -> None:
    with pytest.raises(ValidationError, match="nsga3"):
        study(sampler={"name": "bohb"})
