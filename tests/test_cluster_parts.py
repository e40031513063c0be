"""The parts of searches on clusters that need none: events, plans, manifests, the token, what is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_fixtures import tiny
from test_cluster_files import CLUSTERS, filled, written

from bnnsearch.cluster.backend import Order
from bnnsearch.cluster.events import EventWriter, Replay, write_event
from bnnsearch.cluster.files import load_cluster
from bnnsearch.cluster.kinds import driver_options, recorded_here
from bnnsearch.cluster.kubernetes import rendered
from bnnsearch.cluster.launcher import LauncherFile
from bnnsearch.cluster.placement import Placement, is_remote
from bnnsearch.cluster.plan import plan_of
from bnnsearch.cluster.secrecy import make_token, read_token, redacted
from bnnsearch.config.study import PerTrial
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.results import StopReason, StudyObserver, TrialResult, TrialState

RESULT = TrialResult(3, TrialState.COMPLETE, {"seed": 1}, {"lr": 0.5}, {"val_acc": 0.75}, epochs=2, seconds=1.5)


class Diary(StudyObserver):
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:
        self.told.append(("started", number, dict(config), dict(params)))

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.told.append(("epoch", number, metrics))

    def trial_finished(self, result: TrialResult) -> None:
        self.told.append(("finished", result))


def happenings(observer: Any) -> None:
    observer.trial_started(3, {"seed": 1}, {"lr": 0.5})
    observer.epoch_finished(3, EpochMetrics(1, 2, "train", {"val_acc": 0.5}, {"flip_rate": {"fc": 0.25}}))
    observer.epoch_finished(3, EpochMetrics(2, 2, "train", {"val_acc": 0.75}))
    observer.trial_finished(RESULT)


def test_what_is_printed_is_replayed_to_the_letter_and_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    happenings(EventWriter())
    write_event("study_finished", stopped=StopReason.FINISHED)
    lines = capsys.readouterr().out.splitlines()
    here, there, folder = Diary(), Diary(), StudyFolder(tmp_path)
    happenings(there)
    with held(folder) as record:
        record.begin_session(name="tiny", seed=0, space="")
        replay = Replay(folder, [here], record=record)
        for line in ["a word of Ray's", *lines[:3], '{"event": "epoch", "num', *lines, *lines]:
            replay.hear(line)
    assert [each for each in here.told if each[0] != "started"] == there.told[1:]
    assert here.told[0] == there.told[0]
    assert replay.stopped is StopReason.FINISHED
    assert replay.words == ["a word of Ray's"]
    assert read_past(folder).results == (RESULT,)
    again = Diary()
    late = Replay(folder, [again])
    for line in lines:
        late.hear(line)
    assert [each for each in again.told if each[0] == "finished"] == []


def launcher(name: str, folder: Path) -> LauncherFile:
    cluster = load_cluster(written(folder, filled(name)))
    assert isinstance(cluster, LauncherFile)
    return cluster


def test_the_plan_counts_slots_and_bounds_the_cost(tmp_path: Path) -> None:
    plan = plan_of(launcher("aws-spot.yaml", tmp_path), PerTrial(cpu=1, gpu=0.5))
    assert (plan.workers, plan.fixed, plan.slots) == (16, 1, 32)  # a GPU takes two trials; the head takes none
    assert plan.hourly == pytest.approx(0.10 + 16 * 1.01)
    study = tiny(tmp_path, "budget.wall_time=2h").study
    assert "at most 16.26 USD per hour with all workers, 32.52 USD in budget.wall_time" in plan.describe(study)[-1]
    assert "no bound in all" in plan.describe(tiny(tmp_path).study)[-1]


def test_a_trial_that_fits_into_no_node_is_refused_now(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a trial must fit into one node of the cluster, but none has"):
        plan_of(launcher("aws.yaml", tmp_path), PerTrial(cpu=1, gpu=2))


def test_tracking_in_a_file_is_refused_and_a_server_leaves_this_machine_its_own_store(tmp_path: Path) -> None:
    cluster = launcher("aws.yaml", tmp_path)
    with pytest.raises(InputError, match=r"tracking\.uri on a cluster must be an MLflow server"):
        driver_options(cluster, tiny(tmp_path, "tracking.uri=sqlite:///mlflow.db").study)
    study = tiny(tmp_path).study
    assert driver_options(cluster, study) == ["--nodes", "1", "--slots", "16", "--track"]
    assert recorded_here(cluster, study).tracking.uri == "sqlite:///mlflow.db"
    bare = load_cluster(CLUSTERS / "local.yaml")
    assert recorded_here(bare, study) == study
    assert driver_options(bare, study) == []


def test_a_study_is_placed_below_the_storage_and_found_again(tmp_path: Path) -> None:
    cluster, folder = launcher("aws.yaml", tmp_path), StudyFolder(tmp_path / "20260101-000000")
    folder.path.mkdir()
    place = cluster.place(tiny(tmp_path).study, folder)
    assert place == "s3://xyour-bucket/bnnsearch/tiny/20260101-000000"
    assert not is_remote(folder)
    with pytest.raises(InputError, match="was not started with --cluster"):
        Placement.of(folder)
    placed = Placement.new(folder, cluster, study=place).submitted("job-1")
    assert is_remote(folder)
    assert Placement.of(folder) == placed
    assert Placement.of(folder).file().settings == cluster.settings


def test_the_manifest_gets_our_names(tmp_path: Path) -> None:
    text = filled("kuberay-rayjob.yaml")
    order = Order("/mnt/bnnsearch/tiny/1", "version: 1\n", ["--trials", "40"])
    job = yaml.safe_load(rendered(text, "bnnsearch-abc", order))
    assert job["metadata"]["name"] == "bnnsearch-abc"
    assert "bnnsearch.cluster.driver /mnt/bnnsearch/tiny/1 --trials 40 --space" in job["spec"]["entrypoint"]
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert pod["volumes"][0] == {"name": "space", "configMap": {"name": "bnnsearch-abc"}}
    with pytest.raises(EnvironmentProblem, match="does not fit into a manifest"):
        rendered(text, "bnnsearch-abc", Order("/mnt/x: y", ""))


def test_the_token_is_made_once_and_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own" / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    assert read_token() is None
    token = make_token()
    assert len(token) == 64
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path.chmod(0o644)  # as Ray writes it
    assert make_token() == token
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_shown_holds_no_secret() -> None:
    said = "GET https://me:hunter22@host failed; AWS_SECRET_ACCESS_KEY=abcd1234 AKIAIOSFODNN7EXAMPLE Bearer t0ken"
    shown = redacted(said, token="t0ken")
    for secret in ("hunter22", "abcd1234", "AKIAIOSFODNN7EXAMPLE", "t0ken"):
        assert secret not in shown
    assert "failed" in shown


def test_a_driver_that_gives_up_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_event("problem", code=2, message="storage is a folder that every node sees")
    replay = Replay(StudyFolder(tmp_path))
    replay.hear(capsys.readouterr().out.rstrip("\n"))
    assert replay.problem == (2, "storage is a folder that every node sees")
    assert json.dumps(replay.words) == "[]"
