"""What a sampler is told beyond Optuna: trials that stand at rungs, what was tried already, the order of numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.sampler import GpConfig, TpeConfig
from bnnsearch.study.advised import AdvisedSampler, with_rungs
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ordinal import from_rank, ordinal, with_ranks
from bnnsearch.study.samplers import make_sampler
from bnnsearch.study.study import run_study

UNIT = {"x": FloatDistribution(0.0, 1.0)}


def trial(number: int, state: TrialState, values: list[float] | None = None, x: float = 0.5) -> FrozenTrial:
    made = create_trial(state=state, values=values, params={"x": x}, distributions=UNIT)
    made.number = number
    return made


def test_trials_that_have_not_ended_stand_where_they_would_have_come_to() -> None:
    trials = [
        trial(0, TrialState.COMPLETE, [0.9, 30.0]),
        trial(1, TrialState.COMPLETE, [0.7, 10.0]),
        trial(2, TrialState.PRUNED),
        trial(3, TrialState.RUNNING),
        trial(4, TrialState.RUNNING),
        trial(5, TrialState.FAIL),
    ]
    rungs: dict[int, Any] = {
        2: {0: (0.5, 30.0), 1: (0.5, 10.0), 2: (0.4, 20.0), 3: (0.45, 20.0), 5: (0.1, 1.0)},
        6: {0: (0.8, 30.0), 1: (0.65, 10.0), 3: (0.6, 20.0)},
    }
    seen = with_rungs(trials, rungs)

    # from epoch 2 the two finished ones gained 0.4 and 0.2, from epoch 6 0.1 and 0.05
    assert seen[2].values == pytest.approx([0.4 + 0.3, 20.0])
    assert seen[3].values == pytest.approx([0.6 + 0.075, 20.0])
    assert [each.state for each in seen[:4]] == [TrialState.COMPLETE] * 4
    assert (seen[4], seen[5]) == (trials[4], trials[5])
    assert [each.state for each in trials[2:4]] == [TrialState.PRUNED, TrialState.RUNNING]  # copies were changed
    assert [each.values for each in with_rungs(trials[2:4], rungs)] == [[0.4, 20.0], [0.6, 20.0]]  # no gain known


def test_what_grows_by_a_factor_is_raised_by_it() -> None:
    trials = [trial(number, TrialState.COMPLETE, [0.9, cost]) for number, cost in enumerate((10.0, 20.0, 400.0))]
    trials.append(trial(3, TrialState.PRUNED))
    rung: dict[int, Any] = {1: {0: (0.5, 1.0), 1: (0.6, 2.0), 2: (0.7, 41.0), 3: (0.5, 5.0)}}
    seen = with_rungs(trials, rung)
    assert seen[3].values == pytest.approx([0.5 + 0.3, 50.0])  # by the median difference it would be 23


@pytest.mark.parametrize("sampler", [partial(TPESampler, multivariate=True), GPSampler])
def test_a_sampler_looks_where_stopped_trials_were_good(sampler: Callable[..., TPESampler | GPSampler]) -> None:
    """Forty trials, the fewest of which ended: those near x = 0.9 were best when they were stopped."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for number in range(40):
        study.add_trial(trial(number, TrialState.PRUNED, x=number / 40))
    rung: dict[int, Any] = {1: {number: (-abs(number / 40 - 0.9), 1.0) for number in range(40)}}

    def suggested(seed: int, *, told: bool) -> float:
        study.sampler = AdvisedSampler(
            sampler(n_startup_trials=5, seed=seed),
            seed=seed,
            is_known=lambda _: False,
            seen=lambda: with_rungs(study.get_trials(states=[TrialState.PRUNED]), rung if told else {}),
        )
        running = study.ask()
        x = running.suggest_float("x", 0.0, 1.0)
        study.tell(running, state=TrialState.FAIL)
        return x

    told, untold = ([suggested(seed, told=each) for seed in range(12)] for each in (True, False))
    assert sum(0.75 < x <= 1 for x in told) >= 10
    assert sum(0.75 < x <= 1 for x in untold) <= 6


@pytest.mark.parametrize("config", [TpeConfig(name="tpe", startup_trials=5), GpConfig(name="gp", startup_trials=5)])
def test_a_sampler_learns_which_numbers_of_a_choice_are_close(config: TpeConfig | GpConfig) -> None:
    """The nearest to 0.3 was never tried; as names nothing is known of it, as numbers its neighbours tell."""
    numbers = (1.0, 0.001, 0.1, 10.0, 0.3, 0.01, 0.003, 3.0, 0.03, 30.0)  # in no order
    merit = {value: -abs(rank - sorted(numbers).index(0.3)) for rank, value in enumerate(sorted(numbers))}

    def hits(choices: tuple[Any, ...]) -> int:
        asked = []
        for seed in range(12):
            study = optuna.create_study(directions=["maximize", "minimize"])
            drawn_from: dict[str, Any] = {"rate": CategoricalDistribution(choices)}
            for choice in [each for each in choices if float(each) != 0.3] * 2:
                values = [float(merit[float(choice)]), 1.0]
                study.add_trial(create_trial(values=values, params={"rate": choice}, distributions=drawn_from))
            sampler = make_sampler(config, seed=seed)
            assert isinstance(sampler, TPESampler | GPSampler)
            study.sampler = AdvisedSampler(sampler, seed=seed, is_known=lambda _: False, seen=study.get_trials)
            trial = study.ask()
            asked.append(trial.suggest_categorical("rate", choices))
            assert study.trials[-1].params == {"rate": asked[-1]}
            assert study.trials[-1].distributions == drawn_from
        return sum(float(choice) == 0.3 for choice in asked)

    assert hits(numbers) >= 9
    assert hits(tuple(map(str, numbers))) <= 6


def test_what_has_no_order_is_left_as_it_is() -> None:
    unordered = {"lists": ("[8]", "[16]", "[32]"), "pair": (1, 2), "some": (1, 2, None), "flags": (True, False, 2)}
    distributions: dict[str, Any] = {name: CategoricalDistribution(each) for name, each in unordered.items()}
    tried = create_trial(
        values=[0.5],
        params={"pair": 2, "lists": "[8]"},
        distributions={name: distributions[name] for name in ("pair", "lists")},
    )
    assert with_ranks([tried], distributions) == [tried]
    for name, choices in unordered.items():
        assert ordinal(distributions[name]) is distributions[name]
        assert [from_rank(each, distributions[name]) for each in choices] == list(choices)


def test_numbers_are_ranked_by_size() -> None:
    batches = CategoricalDistribution((128, 32, 64))
    assert ordinal(batches) == IntDistribution(0, 2)
    assert [from_rank(rank, batches) for rank in range(3)] == [32, 64, 128]

    tried = create_trial(values=[0.5], params={"batch": 128, "x": 0.25}, distributions={"batch": batches, **UNIT})
    (seen,) = with_ranks([tried], tried.distributions)
    assert seen.params == {"batch": 2, "x": 0.25}
    assert seen.distributions == {"batch": IntDistribution(0, 2), **UNIT}
    assert tried.params == {"batch": 128, "x": 0.25}


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_what_was_tried_is_not_suggested_again(tmp_path: Path, sampler: str) -> None:
    first = 5  # are drawn independently
    overrides = (
        "trial.seed=0",
        "trial.optimizer.lr={type: choice, values: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}",
        f"sampler={{name: {sampler}, startup_trials: {first}}}",
        "budget.trials=15",
    )
    space = tiny(tmp_path, *overrides)
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    tried = [str(result.params) for result in outcome.results]
    assert len(tried) == 15
    assert not [number for number in range(first, 15) if tried[number] in tried[:number]]


def test_a_space_with_nothing_new_left_is_searched_on(tmp_path: Path) -> None:
    overrides = ("trial.seed=0", "trial.optimizer.lr=0.5", "sampler={name: tpe, startup_trials: 1}", "budget.trials=6")
    space = tiny(tmp_path, *overrides)
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert len(outcome.results) == 6
