"""The sampler `auto`: its Gaussian process, what it looks at, what it finds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.optimize import check_grad

from bnnsearch.config.sampler import AutoConfig, TpeConfig
from bnnsearch.pareto import hypervolume
from bnnsearch.study import auto, process
from bnnsearch.study.process import Process
from bnnsearch.study.samplers import make_sampler


def test_the_posterior_of_two_observations_is_that_of_the_formula() -> None:
    points, values = np.array([[0.2], [0.8]]), np.array([1.0, 3.0])
    fitted = Process.fit(points, values, np.zeros(2))
    length = fitted.lengths[0]

    def kernel(distance: float) -> float:
        r = np.sqrt(5) * distance / length
        return float((1 + r + r**2 / 3) * np.exp(-r))

    between = kernel(0.3), kernel(0.3)
    inverse = np.linalg.inv([[1.0, kernel(0.6)], [kernel(0.6), 1.0]])
    variance = 1 - between @ inverse @ between
    mean, deviation = fitted.predict(np.array([[0.5]]))
    assert mean[0] == pytest.approx(2.0)  # half-way, by symmetry
    assert deviation[0] == pytest.approx(np.sqrt(variance) * values.std(), rel=0.02)  # the common noise is small


def test_the_gradient_of_the_posterior_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    points = rng.random((20, 3))
    rows, columns = np.tril_indices(20, -1)
    squares = np.square(points[rows] - points[columns]).T
    told = 20 * rows + columns, squares, np.sin(5 * points[:, 0]), np.full(20, 0.01), np.log([0.5, 0.5, 0.5, 1e-4])
    at = np.log([0.3, 1.2, 0.7, 1e-3])
    error = check_grad(lambda x: process._loss(x, *told)[0], lambda x: process._loss(x, *told)[1], at)
    assert error < 1e-4


def test_what_is_unsure_is_smoothed_and_what_is_exact_is_met() -> None:
    points = np.linspace(0, 1, 9)[:, None]
    values = np.where(np.arange(9) == 4, 1.0, 0.0)
    exact = Process.fit(points, values, np.zeros(9)).predict(points)[0]
    smooth = Process.fit(points, values, np.where(np.arange(9) == 4, 1.0, 0.0)).predict(points)[0]
    assert exact[4] > 0.9
    assert smooth[4] < 0.3


SPACE = {
    "x": FloatDistribution(0.0, 1.0),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "width": IntDistribution(16, 256, log=True),
    "kind": CategoricalDistribution(("a", "b", "c")),
}


def outcome(params: dict[str, Any]) -> tuple[float, float]:
    """Accuracy and cost: best at x = .3, rate = .01 and kind b; width helps and costs."""
    miss = (params["x"] - 0.3) ** 2 + (np.log10(params["rate"]) + 2) ** 2 / 10 + 0.2 * (params["kind"] != "b")
    return 1 - miss - 2 / params["width"], float(params["width"])


def found(sampler: optuna.samplers.BaseSampler, trials: int) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for number in range(trials):
        study.sampler = (
            sampler if not isinstance(sampler, auto.AutoSampler) else make_sampler(AutoConfig(), seed=number)
        )
        trial = study.ask(SPACE)
        study.tell(trial, outcome(trial.params))
    return study


def volume(trials: Sequence[FrozenTrial]) -> float:
    points = [(each.values[0], np.log2(each.values[1])) for each in trials]
    return hypervolume(points, ("max", "min"), (0.0, 8.0))


def test_it_finds_in_forty_trials_more_than_random_draws_in_a_hundred() -> None:
    ours, random = found(make_sampler(AutoConfig(), seed=0), 40), found(RandomSampler(seed=0), 100)
    assert volume(ours.trials) > volume(random.trials)


def test_at_most_so_many_trials_are_looked_at_the_best_among_them() -> None:
    study = found(RandomSampler(seed=1), 300)
    chosen = auto._chosen(study.trials, study.directions)
    assert len(chosen) == auto.MOST
    assert {each.number for each in study.best_trials} <= {each.number for each in chosen}


def test_points_of_the_cube_are_parameters_and_back() -> None:
    cube = auto._Cube(SPACE)
    told = [trial.params for trial in found(RandomSampler(seed=2), 20).trials]
    points = cube.points(told)
    assert ((points >= 0) & (points <= 1)).all()
    for row, params in zip(points, told, strict=True):
        assert cube.params(row) == {name: pytest.approx(value) for name, value in params.items()}
    snapped = cube.snapped(np.random.default_rng(0).random((50, cube.width)))
    assert cube.points([cube.params(row) for row in snapped]) == pytest.approx(snapped)


def test_what_a_constraint_forbids_is_soon_left_alone() -> None:
    """Beyond a width of 64, where the best accuracy lies; such trials are pruned, as those that are not trained are."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    broken = []
    for number in range(40):
        study.sampler = make_sampler(AutoConfig(), seed=number)
        trial = study.ask(SPACE)
        violation = trial.params["width"] - 64.0
        noted = create_trial(state=TrialState.FAIL, constraints={"width": violation}).system_attrs
        for key, value in noted.items():
            study._storage.set_trial_system_attr(trial._trial_id, key, value)
        broken.append(violation > 0)
        if violation > 0:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, outcome(trial.params))
    assert sum(broken[-20:]) <= 4
    assert volume([each for each in study.trials if each.values]) > 3


def test_where_parameters_depend_on_a_branch_it_suggests_as_tpe_does() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=RandomSampler(seed=3))
    for _ in range(15):
        trial = study.ask()
        branch = trial.suggest_categorical("branch", ("a", "b"))
        value = trial.suggest_float(f"branch.{branch}", 0.0, 1.0)
        study.tell(trial, (value, 1 - value))

    def suggested(settings: Any) -> dict[str, Any]:
        study.sampler = make_sampler(settings, seed=5)
        trial = study.ask()
        branch = trial.suggest_categorical("branch", ("a", "b"))
        trial.suggest_float(f"branch.{branch}", 0.0, 1.0)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return trial.params

    assert suggested(AutoConfig()) == suggested(TpeConfig())


def test_processes_are_fitted_on_one_thread() -> None:
    """More would wait for one another, and for the trials: a suggestion took seconds where it takes milliseconds."""
    code = (
        "from bnnsearch.study import auto\n"
        "with auto._threads().limit(limits=1):\n"
        "    import bnnsearch.study.process\n"
        "    from threadpoolctl import threadpool_info\n"
        "    found = [each['num_threads'] for each in threadpool_info() if each['user_api'] == 'blas']\n"
        "    assert found and set(found) == {1}, found\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**environment, "OPENBLAS_NUM_THREADS": "3"})
