"""One contract for both executors: what a search promises, on a study that takes no time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import search_fixtures as trainers
from search_fixtures import TinyTrainer, ticking_clock, tiny

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.space import load_space
from bnnsearch.study.executor import Executor
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import StudyOutcome, resume_study, run_study
from bnnsearch.study.worker import BuildTrainer

ON_BOTH = pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)], indirect=True)
"""Where Ray may do otherwise; of the other tests `test_on_ray_a_search_is_the_same_search` stands for Ray."""


class Diary(StudyObserver):
    """Writes down what an observer is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int, Any]] = []
        self.epochs: list[EpochMetrics] = []

    def trial_started(self, number: int, config: Any, params: Any) -> None:
        self.events.append(("started", number, params))

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.events.append(("epoch", number, metrics.epoch))
        self.epochs.append(metrics)

    def trial_finished(self, result: TrialResult) -> None:
        self.events.append(("finished", result.number, result.state))

    def of(self, number: int) -> list[tuple[str, Any]]:
        return [(event, detail) for event, each, detail in self.events if each == number]


def search(
    folder: Path, executor: Executor, *overrides: str, build: BuildTrainer = TinyTrainer, diary: Diary | None = None
) -> StudyOutcome:
    space = tiny(folder, *overrides)
    observers = [diary] if diary else []
    return run_study(space, study_dir=folder / "study", executor=executor, observers=observers, build_trainer=build)


class CredentialedTrainer(TinyTrainer):
    """Trains only where the node's credentials are."""

    def fit(self) -> Iterator[EpochMetrics]:
        if os.environ["AWS_SECRET_ACCESS_KEY"] != "canary":
            raise ValueError("no credentials")
        yield from super().fit()


def optuna_trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(folder / "study/study.journal"))
    )
    return optuna.load_study(study_name="tiny", storage=storage).trials


def test_the_budget_is_met_exactly_and_every_trial_is_told(tmp_path: Path, executor: Executor) -> None:
    diary = Diary()
    outcome = search(tmp_path, executor, "budget.trials=5", diary=diary)

    assert outcome.stopped == "finished"
    assert [(result.number, result.state, result.epochs) for result in outcome.results] == [
        (number, TrialState.COMPLETE, 4) for number in range(5)
    ]
    for result in outcome.results:
        x, neurons = result.config["optimizer"]["lr"], result.config["model"]["hidden"][0]
        assert result.metrics["val_acc"] == pytest.approx(x * 15 / 16)
        assert result.metrics["memory_bytes"] == 100 * neurons
        started, *epochs, finished = diary.of(result.number)
        assert started == ("started", result.params)
        assert epochs == [("epoch", epoch) for epoch in (1, 2, 3, 4)]
        assert finished == ("finished", TrialState.COMPLETE)
    assert read_past(StudyFolder(tmp_path / "study")).results == outcome.results
    copied = [json.loads(line)["number"] for line in (tmp_path / "study/results.jsonl").read_text().splitlines()]
    assert sorted(copied) == list(range(5))
    assert [trial.values for trial in optuna_trials(tmp_path)] == [
        [result.metrics["val_acc"], result.metrics["memory_bytes"]] for result in outcome.results
    ]
    assert not list((tmp_path / "study/checkpoints").iterdir())


def test_nan_fails_at_once_with_its_reason_and_is_not_retried(tmp_path: Path, executor: Executor) -> None:
    outcome = search(tmp_path, executor, "budget.trials=6", build=trainers.DivergingTrainer)

    diverged = [result for result in outcome.results if result.config["optimizer"]["lr"] > 0.5]
    assert 0 < len(diverged) < 6
    for result in outcome.results:
        if result in diverged:
            assert (result.state, result.epochs) == (TrialState.FAILED, 1)
            assert result.reason == "val_acc is nan after epoch 2"
        else:
            assert result.state is TrialState.COMPLETE
    states = [trial.state.name for trial in optuna_trials(tmp_path)]
    assert states == ["FAIL" if result in diverged else "COMPLETE" for result in outcome.results]


@ON_BOTH
@pytest.mark.parametrize("crash", ["CrashingTrainer", "DyingTrainer"])
def test_a_crashed_trial_goes_on_from_its_checkpoint(tmp_path: Path, executor: Executor, crash: str) -> None:
    if crash == "DyingTrainer" and isinstance(executor, LocalExecutor):
        pytest.skip("the process that dies would be this one")
    notes, diary = tmp_path / "notes", Diary()
    notes.mkdir()
    outcome = search(
        tmp_path, executor, "budget.trials=2", build=partial(getattr(trainers, crash), notes=notes), diary=diary
    )

    assert [result.state for result in outcome.results] == [TrialState.COMPLETE] * 2
    # the state of epoch 2 was saved, epoch 3 broke off and is trained again; observers see each epoch once
    assert sorted(note.read_text() for note in notes.iterdir()) == ["12334", "12334"]
    for number in range(2):
        assert [detail for event, detail in diary.of(number) if event == "epoch"] == [1, 2, 3, 4]


def test_a_trial_that_crashes_too_often_fails_with_the_error(tmp_path: Path, executor: Executor) -> None:
    outcome = search(tmp_path, executor, build=trainers.BrokenTrainer)

    assert outcome.stopped == "finished"
    assert [(result.state, result.reason) for result in outcome.results] == [
        (TrialState.FAILED, "RuntimeError: out of order")
    ] * 4


def test_a_mistake_in_the_configuration_is_not_retried(tmp_path: Path, executor: Executor) -> None:
    build = partial(trainers.WrongTrainer, notes=tmp_path)
    outcome = search(tmp_path, executor, build=build)

    assert {result.reason for result in outcome.results} == {"width must be odd, but got 2"}
    assert (tmp_path / "attempts").read_text() == "...."


def test_a_trial_out_of_memory_is_repeated_once_with_half_the_batch(tmp_path: Path, executor: Executor) -> None:
    overrides = ("trial.data.batch_size=64", "budget.trials=6", "resources.max_concurrent=1")
    outcome = search(tmp_path, executor, *overrides, build=trainers.HungryTrainer)

    failed = [result for result in outcome.results if result.state is TrialState.FAILED]
    repeated = [result for result in outcome.results if result.retry_of is not None]
    assert 0 < len(failed) < 6
    assert len(outcome.results) == 6 + len(repeated)
    assert {result.reason for result in failed} == {"MemoryError: no room for a batch"}
    assert [(each.retry_of, each.params, each.config["data"]["batch_size"], each.state) for each in repeated] == [
        (each.number, each.params, 32, TrialState.COMPLETE) for each in failed
    ]


def test_the_failure_cap_ends_the_search(tmp_path: Path, executor: Executor) -> None:
    outcome = search(
        tmp_path,
        executor,
        "budget={trials: 50, max_failed_trials: 2}",
        "resources.max_concurrent=1",
        "retries=0",
        build=trainers.BrokenTrainer,
    )

    assert outcome.stopped == "max_failed_trials"
    assert [result.state for result in outcome.results] == [TrialState.FAILED] * 2


@ON_BOTH
def test_a_hung_trial_is_ended_by_its_timeout(tmp_path: Path, executor: Executor) -> None:
    # long enough for the others on any machine: they take milliseconds
    overrides = ("resources.trial_timeout=8s", "budget.trials=3", "seed=1")
    outcome = search(tmp_path, executor, *overrides, build=trainers.HangingTrainer)

    hung = [result for result in outcome.results if result.config["optimizer"]["lr"] > 0.5]
    assert [result.number for result in hung] == [0]
    for result in outcome.results:
        assert result.state is (TrialState.FAILED if result in hung else TrialState.COMPLETE)
    assert {result.reason for result in hung} == {"the trial took longer than trial_timeout = 8 s"}


def test_halving_by_stopping_tells_optuna_of_pruned_trials(tmp_path: Path, executor: Executor) -> None:
    outcome = search(
        tmp_path,
        executor,
        "objectives=[{metric: val_acc, mode: max}]",
        "scheduler={name: asha, type: stopping, grace_epochs: 1, reduction_factor: 2}",
        "budget.trials=10",
        "resources.max_concurrent=1",
    )

    # by hand: in the order of arrival a trial goes on while it is in the better half of those seen at its rung
    rungs: dict[int, list[float]] = {1: [], 2: []}
    for result in outcome.results:
        x, stopped = result.config["optimizer"]["lr"], None
        for epoch in (1, 2):
            rungs[epoch].append(x)
            if sorted(rungs[epoch], reverse=True).index(x) >= -(-len(rungs[epoch]) // 2):
                stopped = epoch
                break
        assert (result.state, result.epochs) == (
            (TrialState.COMPLETE, 4) if stopped is None else (TrialState.PRUNED, stopped)
        )
    assert {result.state for result in outcome.results} == {TrialState.COMPLETE, TrialState.PRUNED}
    states = [trial.state.name.lower() for trial in optuna_trials(tmp_path)]
    assert states == ["complete" if result.state is TrialState.COMPLETE else "pruned" for result in outcome.results]


def test_constraints_are_told_to_optuna_and_keep_trials_off_the_front(tmp_path: Path, executor: Executor) -> None:
    outcome = search(tmp_path, executor, "constraints=[{metric: val_acc, min: 0.5}]", "budget.trials=6")

    for result, trial in zip(outcome.results, optuna_trials(tmp_path), strict=True):
        assert result.violations == {"val_acc": pytest.approx(0.5 - result.metrics["val_acc"])}
        assert result.selectable == (result.metrics["val_acc"] >= 0.5)
        assert trial.constraints == pytest.approx(result.violations)
    assert len({result.selectable for result in outcome.results}) == 2


def test_on_ray_a_search_is_the_same_search(tmp_path: Path, small_ray: None) -> None:
    """What the contract tests find of the local executor, in one go for every day: the rest of them on Ray is slow."""
    overrides = (
        "scheduler={name: asha}",
        "constraints=[{metric: val_acc, min: 0.3}]",
        "resources={max_concurrent: 1, trial_timeout: 1h}",
        "budget.trials=12",
    )
    runs = [
        search(tmp_path / name, executor, *overrides, build=trainers.DivergingTrainer, diary=Diary())
        for name, executor in (("local", LocalExecutor()), ("ray", RayExecutor()))
    ]

    local, on_ray = ([replace(result, seconds=0.0) for result in outcome.results] for outcome in runs)
    assert on_ray == local
    assert {result.state for result in on_ray} == set(TrialState)


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2", "auto"])
def test_same_seed_one_worker_twice_is_the_same_search(tmp_path: Path, executor: Executor, sampler: str) -> None:
    overrides = (f"sampler={{name: {sampler}}}", "budget.trials=14", "resources.max_concurrent=1")
    first, second = (search(tmp_path / run, executor, *overrides).results for run in ("first", "second"))

    assert [(each.params, each.metrics, each.config) for each in first] == [
        (each.params, each.metrics, each.config) for each in second
    ]
    assert len({each.config["seed"] for each in first}) == 14


def test_what_the_node_does_is_told_where_asked_for(tmp_path: Path, executor: Executor) -> None:
    diary = Diary()
    search(tmp_path, executor, "budget.trials=2", "tracking={system_metrics: true}", diary=diary)
    loads = [metrics.node["system/cpu_utilization_percentage"] for metrics in diary.epochs]
    assert loads
    assert all(0 <= load <= 100 for load in loads)


def test_same_seed_one_worker_twice_trains_the_same_networks(tmp_path: Path) -> None:
    """Real training: the second search repeats every suggestion and metric of BNEW and of straight-through trials."""
    overrides = ("budget.trials=6", "trial.plan.epochs=13", "resources.max_concurrent=1",
                 "scheduler={name: asha, grace_epochs: 2, reduction_factor: 2}")  # fmt: skip
    space = load_space(Path(__file__).parents[1] / "spaces/digits_quickstart.yaml", overrides=overrides)
    first, second = (
        run_study(space, study_dir=tmp_path / run, executor=LocalExecutor()).results for run in ("first", "second")
    )

    def without_speed(result: TrialResult) -> dict[str, float]:
        return {name: value for name, value in result.metrics.items() if name != "images_per_s"}

    assert [(each.state, each.config, without_speed(each)) for each in first] == [
        (each.state, each.config, without_speed(each)) for each in second
    ]
    assert {each.config["method"]["name"] for each in first} == {"ste", "bnew"}


@pytest.mark.parametrize("sampler", ["tpe", "auto"])
@ON_BOTH
def test_resume_goes_on_where_the_budget_ended(tmp_path: Path, executor: Executor, sampler: str) -> None:
    overrides = (f"sampler={{name: {sampler}, startup_trials: 3}}", "resources.max_concurrent=1")
    whole = search(tmp_path / "whole", executor, *overrides, "budget.trials=8")
    search(tmp_path / "parts", executor, *overrides, "budget.trials=3")
    parts = resume_study(tmp_path / "parts/study", executor=executor, trials=8, build_trainer=TinyTrainer)

    assert [(each.number, each.params, each.metrics) for each in parts.results] == [
        (each.number, each.params, each.metrics) for each in whole.results
    ]


def test_optunas_copy_may_lie_in_a_database(tmp_path: Path) -> None:
    database = ("storage.uri=sqlite:///" + str(tmp_path / "optuna.db"), "budget.trials=3")
    for name in ("a", "b"):
        run_study(
            tiny(tmp_path, *database), study_dir=tmp_path / name, executor=LocalExecutor(), build_trainer=TinyTrainer
        )
    resumed = resume_study(tmp_path / "a", executor=LocalExecutor(), trials=5, build_trainer=TinyTrainer)

    assert [result.number for result in resumed.results] == [0, 1, 2, 3, 4]
    assert not list(tmp_path.rglob("study.journal"))
    database = f"sqlite:///{tmp_path / 'optuna.db'}"
    assert sorted(optuna.get_all_study_names(database)) == ["tiny/a", "tiny/b"]
    copied = optuna.load_study(study_name="tiny/a", storage=database).trials
    assert [trial.values for trial in copied] == [
        [result.metrics["val_acc"], result.metrics["memory_bytes"]] for result in resumed.results
    ]


@pytest.mark.parametrize("uri", ["postgresql+nodriver://db/optuna", "sqlite:////no/such/folder/optuna.db", "nonsense"])
def test_a_database_that_cannot_be_used_is_named(tmp_path: Path, uri: str) -> None:
    with pytest.raises(EnvironmentProblem, match=r"storage\.uri: the database cannot be used"):
        search(tmp_path, LocalExecutor(), f"storage.uri={uri}")


def test_a_folder_that_holds_a_study_is_not_searched_anew(tmp_path: Path) -> None:
    search(tmp_path, LocalExecutor())
    with pytest.raises(InputError, match="holds a study already; `bnnsearch resume"):
        search(tmp_path, LocalExecutor())


def test_more_than_the_machine_has_is_refused_before_the_start(tmp_path: Path, small_ray: None) -> None:
    with pytest.raises(EnvironmentProblem, match=r"per_trial\.gpu must be at most .* 0, but got 64"):
        search(tmp_path, RayExecutor(), "resources.per_trial.gpu=64")
    assert not (tmp_path / "study/results.jsonl").exists()


def test_more_memory_than_the_machine_has_is_refused_before_the_start(tmp_path: Path, small_ray: None) -> None:
    with pytest.raises(EnvironmentProblem, match=r"per_trial\.memory must be at most .* but got 9e\+15"):
        search(tmp_path, RayExecutor(), "resources.per_trial.memory=9000TB")


@pytest.mark.slow
def test_trials_on_ray_share_the_memory(tmp_path: Path, small_ray: None) -> None:
    """Each asks for more than half of what there is: they run one after the other, as if max_concurrent were 1."""
    import ray

    half = int(ray.cluster_resources()["memory"] * 0.6)  # type: ignore[no-untyped-call]
    diary = Diary()
    search(tmp_path, RayExecutor(), f"resources.per_trial.memory={half}", "budget.trials=3", diary=diary)
    order = [number for event, number, _ in diary.events if event != "epoch"]
    assert order == [0, 0, 1, 1, 2, 2]


def test_gpu_hours_end_the_search_and_are_counted_over_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs each: 0.001 hours are 1.8 s of trials."""
    ticking_clock(monkeypatch)
    overrides = ("resources.per_trial.gpu=2", "budget={trials: 50, gpu_hours: 0.001}")
    first = search(tmp_path, LocalExecutor(), *overrides)
    assert first.stopped == "gpu_hours"
    longest = max(result.seconds for result in first.results)
    assert 1.8 - longest <= sum(result.seconds for result in first.results) <= 1.8 + longest

    file = tmp_path / "study/space.yaml"
    file.write_text(file.read_text().replace("0.001}", "0.004}"))
    more = resume_study(tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert more.stopped == "gpu_hours"
    assert 7.2 - longest <= sum(result.seconds for result in more.results) <= 7.2 + longest


def test_results_of_failed_trials_are_plain_json(tmp_path: Path) -> None:
    search(tmp_path, LocalExecutor(), "budget.trials=6", build=trainers.DivergingTrainer)
    for line in (tmp_path / "study/results.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.slow
@pytest.mark.usefixtures("small_ray")
def test_workers_on_ray_have_credentials_although_no_runtime_environment_names_them(tmp_path: Path) -> None:
    outcome = search(tmp_path, RayExecutor(), "budget.trials=1", build=CredentialedTrainer)
    assert [result.state for result in outcome.results] == [TrialState.COMPLETE]
    folder = Path(os.environ["RAY_AUTH_TOKEN_PATH"]).parent
    logs = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name.startswith("runtime_env_agent") for path in logs)
    assert [path for path in logs if b"canary" in path.read_bytes()] == []
