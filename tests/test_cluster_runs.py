"""Searches on real Ray clusters of this machine: by the Jobs API, with a token, while pieces of them are killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from cluster_fixtures import SPACE, LocalCluster, local_cluster, token_file
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bnnsearch.cluster.address import AddressFile
from bnnsearch.cluster.backend import JobState
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.jobs import RayJobs
from bnnsearch.cluster.remote import (
    logs_on_cluster,
    resume_on_cluster,
    run_on_cluster,
    status_on_cluster,
    stop_on_cluster,
)
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.results import StopReason, StudyObserver, TrialResult, TrialState
from bnnsearch.space import Space, load_space
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import StudyOutcome, run_study

pytestmark = [
    pytest.mark.system,
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's own call of aiohttp
]
TRIALS = 8


class At(StudyObserver):
    """An observer that acts once, when a trial has finished so many epochs."""

    def __init__(self, epoch: int, action: Callable[[], None]) -> None:
        self.done = False
        self._epoch = epoch
        self._action = action

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        if metrics.epoch >= self._epoch and not self.done:
            self.done = True
            self._action()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = token_file(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        environment.delenv("RAY_AUTH_TOKEN", raising=False)
        yield path


@pytest.fixture(scope="module")
def cluster(token: Path) -> Iterator[LocalCluster]:
    with local_cluster(nodes=3, token=token) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return load_space(path)


@pytest.fixture(scope="module")
def quiet(space: Space, tmp_path_factory: pytest.TempPathFactory) -> StudyOutcome:
    """What the search comes to where nothing happens to it."""
    return run_study(space, study_dir=tmp_path_factory.mktemp("quiet") / "study", executor=LocalExecutor())


def addressed(cluster: LocalCluster, folder: Path) -> AddressFile:
    file = load_cluster(cluster.address_file(folder, storage=folder / "shared"))
    assert isinstance(file, AddressFile)
    return file


def timeless(result: TrialResult) -> dict[str, float]:
    return {name: value for name, value in result.metrics.items() if name != "images_per_s"}


def expect_as_if_nothing_had_happened(outcome: StudyOutcome, quiet: StudyOutcome, shared: Path) -> None:
    """No trial lost, none twice, and the same metrics and front as the quiet run's."""
    assert outcome.stopped is StopReason.FINISHED
    assert {result.state for result in outcome.results} == {TrialState.COMPLETE}
    for mine, theirs in zip(outcome.results, quiet.results, strict=True):
        assert (mine.number, mine.params, timeless(mine)) == (theirs.number, theirs.params, timeless(theirs))
    fronts = [ParetoFront.of(each.results, each.study.objectives).numbers for each in (outcome, quiet)]
    assert fronts[0] == fronts[1]
    (study,) = shared.glob("*/*/space.yaml")
    recorded = [json.loads(line)["number"] for line in (study.parent / "results.jsonl").read_text().splitlines()]
    assert sorted(recorded) == list(range(TRIALS))
    ledger = optuna.load_study(
        study_name=None, storage=JournalStorage(JournalFileBackend(str(study.parent / "study.journal")))
    )
    assert [trial.state for trial in ledger.trials] == [optuna.trial.TrialState.COMPLETE] * TRIALS


def test_strangers_are_refused_and_so_is_a_cluster_that_lets_them_in(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = addressed(cluster, tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "nothing"))
    with pytest.raises(EnvironmentProblem, match="asks for its token, and this machine has none"):
        RayJobs(cluster.jobs, file.settings)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token_file(tmp_path)))
    with pytest.raises(EnvironmentProblem, match="the cluster refuses our token"):
        RayJobs(cluster.jobs, file.settings)
    with (
        local_cluster(nodes=1) as unguarded,
        pytest.raises(EnvironmentProblem, match="the cluster answers without a token"),
    ):
        RayJobs(unguarded.jobs, file.settings)


def test_a_killed_node_costs_no_trial(cluster: LocalCluster, space: Space, quiet: StudyOutcome, tmp_path: Path) -> None:
    killing = At(3, lambda: cluster.kill(2))
    folder = StudyFolder(tmp_path / "runs" / "study")
    outcome = run_on_cluster(space, cluster=addressed(cluster, tmp_path), folder=folder, observers=[killing])
    assert killing.done
    expect_as_if_nothing_had_happened(outcome, quiet, tmp_path / "shared")
    assert list(read_past(folder).results) == sorted(outcome.results, key=lambda result: result.number)


def test_a_killed_head_costs_no_trial_once_the_study_goes_on_on_a_new_cluster(
    cluster: LocalCluster, token: Path, space: Space, quiet: StudyOutcome, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "runs" / "study")
    with pytest.raises(EnvironmentProblem, match=r"the search's job ended without a result|answer|close code"):
        run_on_cluster(
            space, cluster=addressed(cluster, tmp_path), folder=folder, observers=[At(10, lambda: cluster.kill(0))]
        )
    with local_cluster(nodes=2, token=token) as second:
        detaching = At(1, lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        left = resume_on_cluster(folder, cluster=addressed(second, tmp_path), observers=[detaching])
        assert left.stopped is StopReason.DETACHED
        assert status_on_cluster(folder).job is JobState.RUNNING
        assert stop_on_cluster(folder) is JobState.RUNNING
        stopped = resume_on_cluster(folder)
        assert stopped.stopped is StopReason.TERMINATED
        assert status_on_cluster(folder).job is JobState.ENDED
        outcome = resume_on_cluster(folder)
        assert any("bnnsearch.cluster.driver" in line for line in logs_on_cluster(folder))
    expect_as_if_nothing_had_happened(outcome, quiet, tmp_path / "shared")
