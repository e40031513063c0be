"""A study's life as its commands tell it: listed, looked at, gone on with, deleted; and the machine it lives on."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnnsearch.cli import main
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import held
from bnnsearch.study.health import examine
from bnnsearch.study.state import Standing, is_settled, read_state
from bnnsearch.tracking.preset import share_view, view_of

SPACE = """
version: 1
name: brief
seed: 3
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 3}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: {type: choice, values: [[4], [8]]}}
  method: {name: ste}
  plan: {epochs: 1}
"""


def invoke(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, words, input=answer)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a search that is done, its store beside it."""
    folder = tmp_path_factory.mktemp("life")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("BNNSEARCH_CACHE", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path("brief.yaml").write_text(SPACE)
        ended = invoke("run", "brief.yaml")
        assert ended.exit_code == 0, ended.output
        assert "trials run one after another in this process: for about 3," in ended.output
        yield folder


def only(home: Path) -> StudyFolder:
    (study,) = home.glob("runs/brief/*")
    return StudyFolder(study.relative_to(home))


def test_the_log_tells_the_story_of_each_trial_and_no_package_s_noise(home: Path) -> None:
    log = only(home).log.read_text()
    for number in range(3):
        assert f"trial {number} starts: model.hidden=" in log
        assert f"trial {number} is complete after 1 epochs" in log
    assert "optuna" not in log


def test_a_search_that_is_done_is_listed_and_says_so(home: Path) -> None:
    study = only(home)
    told = json.loads(invoke("list", "--json").stdout)
    assert (told["study"], told["state"], told["trials"]) == (str(study.path), "done", 3)
    assert str(study.path) in invoke("list").stdout
    status = json.loads(invoke("status", "--json").stdout)
    assert (status["state"], status["host"], status["pid"]) == ("done", platform.node(), os.getpid())
    assert f"{study.path}: done" in invoke("status", "--watch").stdout


def test_resume_of_a_finished_study_answers_without_searching(home: Path) -> None:
    study = only(home)
    before = study.record.read_bytes()
    ended = invoke("resume")
    assert ended.exit_code == 0
    assert ended.stdout.startswith(f"{study.path}: done, 3/3 trials; to search further:\n")
    assert "Pareto front" in ended.stdout
    assert study.record.read_bytes() == before
    assert not is_settled_after_an_edit(study)


def is_settled_after_an_edit(study: StudyFolder) -> bool:
    text = study.space.read_text()
    try:
        study.space.write_text(text.replace("trials: 3", "trials: 4"))
        return is_settled(read_past(study))
    finally:
        study.space.write_text(text)


def test_a_driver_that_is_there_runs_and_one_that_is_gone_was_killed(home: Path) -> None:
    """A session that has not ended, of this process, and of one whose number nobody has."""
    study = only(home)
    content = study.record.read_bytes()
    try:
        with held(study) as record:
            record.begin_session(name="brief", seed=3, space=SPACE)
            state = read_state(study, ())
            assert (state.standing, state.pid) == (Standing.RUNNING, os.getpid())
        state = read_state(study, ())
        assert state.standing is Standing.STOPPED  # the number is another process's by now, or the search was left
        with held(study) as record, pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 2**22 + 1)
            record.begin_session(name="brief", seed=3, space=SPACE)
        state = read_state(study, ())
        assert state.standing is Standing.STOPPED
        assert "it was killed" in state.why
        for reason, standing in (("interrupted", "stopped: by Ctrl-C"), ("max_failed_trials", "failed: budget."),
                                 ("finished", "failed: no trial finished")):  # fmt: skip
            with held(study) as record:
                record.append("stopped", reason=reason)
            assert str(read_state(study, ())).startswith(standing)
    finally:
        study.record.write_bytes(content)


def test_completion_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'")
    for _ in range(2):
        assert invoke("completion", "bash", "--install").exit_code == 0
    text = (tmp_path / ".bashrc").read_text()
    assert text.startswith("alias ll='ls -l'\n# >>> bnnsearch completion\n")
    assert text.count("_BNNSEARCH_COMPLETE=bash_complete") == 1


def test_a_doctor_says_what_to_do(home: Path) -> None:
    (home / "lacking.yaml").write_text(SPACE.replace("{name: digits}", "{name: mnist, root: nowhere}"))
    found = {each.name: each for each in examine(Path("lacking.yaml"), Path("runs"), ray=False)}
    assert {"versions", "bit kernels", "compiler", "GPU", "shared memory", "disk", "port", "MLflow"} <= set(found)
    assert found["versions"].ok
    assert found["data"].ok is False
    assert "nowhere" in found["data"].found
    assert found["data"].advice
    ended = invoke("doctor", "lacking.yaml", "--no-ray")
    assert ended.exit_code == 3
    assert "WRONG  data" in ended.stdout


def test_a_study_is_deleted_with_its_runs_once_that_is_confirmed(home: Path) -> None:
    study = only(home)
    artifacts = home / "mlartifacts"
    assert list(artifacts.rglob("report.html"))
    assert invoke("rm", str(study.path), answer="n\n").exit_code == 130
    assert study.path.exists()
    with held(study):
        assert invoke("rm", str(study.path), "--yes").exit_code == 2
    assert study.path.exists()
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("brief")
    past = read_past(study)
    share_view(client, experiment.experiment_id, view_of(study.search_id, past.space.study, past.results))
    ended = invoke("rm", str(study.path), answer="y\n")
    assert ended.exit_code == 0, ended.output
    assert "4 runs deleted" in ended.stdout
    assert not study.path.exists()
    assert not list(artifacts.rglob("report.html"))
    experiment = client.get_experiment_by_name("brief")
    assert not [name for name in experiment.tags if name.startswith("mlflow.sharedViewState")]
    assert not client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    client.delete_experiment(experiment.experiment_id)  # which takes no view any more
    link = share_view(client, experiment.experiment_id, view_of("1", past.space.study, past.results))
    assert link.startswith("searchFilter=tags.search_id%20%3D%20%271%27") and link.endswith("orderByAsc=false")
