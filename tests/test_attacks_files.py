"""Attacks on every file of a study but its record: it is mended from that, or one line says what is wrong."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from attacks import FULL, mutated, same, tries
from search_fixtures import TinyTrainer, tiny

from bnnsearch.cli import main
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import earlier_epochs, earlier_results, read_past
from bnnsearch.record import held
from bnnsearch.results import StudyObserver
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.migration import migrate
from bnnsearch.study.study import resume_study, run_study
from bnnsearch.tracking.ids import FILE, RunIds, trial_of_run
from bnnsearch.tracking.store import Store, import_mlflow

pytestmark = [pytest.mark.attack, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

OVERRIDES = (
    "resources.max_concurrent=1", "budget.trials=6", "sampler={name: tpe, startup_trials: 2}",
    "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}",
)  # fmt: skip
RUNS = "runs/tiny/20260101-000000"


class GoneError(Exception):
    """The driver is no more."""


class Leaves(StudyObserver):
    """Ends the driver in the second epoch of trial 3: the states of 3 and of those that wait lie in the folder."""

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        if (number, metrics.epoch) == (3, 1):
            raise GoneError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a study that was left in the middle, and the same study ended, tracked and reported."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        import_mlflow()
        space, left = tiny(home, *OVERRIDES), home / "left" / RUNS
        with pytest.raises(GoneError):
            run_study(space, study_dir=left, executor=LocalExecutor(), observers=[Leaves()], build_trainer=TinyTrainer)
        shutil.copytree(left, home / RUNS)
        resume_study(home / RUNS, executor=LocalExecutor(), build_trainer=TinyTrainer)
        assert call("resume", RUNS, "--executor", "local") == 0
    return home


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments), standalone_mode=False)
    return int(ended.value.code or 0)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def deleted(path: Path) -> None:
    path.unlink()


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


DAMAGES = (emptied, cut, flipped, a_folder, deleted, a_fifo, a_link_to_nothing)


def damage_somehow(path: Path, chance: random.Random) -> None:
    if chance.random() < 0.4:
        chance.choice(DAMAGES)(path)
    else:
        path.write_bytes(mutated(path.read_bytes(), chance))


def files(study: Path) -> list[str]:
    found = [path for path in sorted(study.rglob("*")) if path.is_file()]
    return [str(path.relative_to(study)) for path in found if path.name not in ("study.record", "search.log")]


@pytest.fixture
def study(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes copies of the ended study, or of the one that was left, each in a working directory of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def copied(name: str, left: bool = False) -> Path:
        there = tmp_path / name
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(home / "left" if left else home, there, ignore=None if left else shutil.ignore_patterns("left"))
        monkeypatch.chdir(there)
        return there / RUNS

    return copied


def expect_one_line(code: int, said: str, told: str) -> None:
    assert code in (0, 2, 3), said
    assert "Traceback" not in said
    if code:
        assert told
        assert len(told.strip().splitlines()) <= 2, told


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_only_reads_a_study_needs_nothing_but_its_record(
    study: Any, home: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    read_past_before = read_past(StudyFolder(home / RUNS)).results
    folder = study("read")
    for name in files(folder):
        damage(folder / name)
        capfd.readouterr()
        assert call("status", RUNS, "--json") == 0
        told = json.loads(capfd.readouterr().out)
        assert sum(told["states"].values()) == 6
        assert call("export", RUNS, "--no-register", "-o", "best.yaml") == 0
        assert read_past(StudyFolder(folder)).results == read_past_before
        capfd.readouterr()
    code = call("report", RUNS)
    said = capfd.readouterr()
    expect_one_line(code, said.out + said.err, said.err)
    assert "Pareto front" in (folder / "report/report.html").read_text()


def test_a_study_of_which_any_files_are_mutated_is_what_it_was(
    study: Any, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One to three of its files at once, of a study that was left: `status` reads it, `resume` ends it."""
    ended, chance = read_past(StudyFolder(home / RUNS)).results, random.Random(7)
    past = read_past(StudyFolder(home / "left" / RUNS), epochs=True)
    names = files(home / "left" / RUNS)
    for _ in tries(20):
        folder = study("left", left=True)
        changed = chance.sample(names, chance.choice((1, 1, 2, 3)))
        for name in changed:
            damage_somehow(folder / name, chance)
        now = read_past(StudyFolder(folder), epochs=True)
        assert (now.results, now.history) == (past.results, past.history)
        try:
            outcome = resume_study(folder, executor=LocalExecutor(), build_trainer=TinyTrainer)
        except InputError as error:
            assert "space.yaml" in changed
            assert "the space was edited since the study began" in str(error)
            continue
        if read_past(StudyFolder(folder)).space.study.budget == past.space.study.budget:
            assert same(outcome.results) == same(ended), changed
        else:
            assert "space.yaml" in changed
        told = [json.loads(line)["number"] for line in (folder / "results.jsonl").read_text().splitlines()]
        assert sorted(told) == [each.number for each in outcome.results], changed


def test_an_ended_study_of_which_any_files_are_mutated_is_what_it_was(
    study: Any, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What MLflow and reports left among them: `status` and `export` say what they said, but for MLflow's own id."""
    chance, folder = random.Random(8), study("ended")
    names = files(folder)

    def said() -> tuple[str, str]:
        capfd.readouterr()
        assert call("status", RUNS, "--json") == 0
        told = capfd.readouterr().out
        assert call("export", RUNS, "--no-register", "-o", "best.yaml") == 0
        return told, re.sub(r"(?m)^(  run_id: |  exported: |# Exported ).*\n", "", Path("best.yaml").read_text())

    before = said()
    for _ in tries(20):
        changed = {name: (folder / name).read_bytes() for name in chance.sample(names, chance.choice((1, 2, 3)))}
        for name in changed:
            damage_somehow(folder / name, chance)
        assert said() == before, list(changed)
        for name, content in changed.items():
            if (folder / name).is_dir():
                (folder / name).rmdir()
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(content)


def test_what_is_left_of_a_mutated_record_is_told_or_refused_in_one_line(
    study: Any, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, chance, happened = study("record"), random.Random(9), read_past(StudyFolder(home / RUNS)).results
    record = (folder / "study.record").read_bytes()
    for _ in tries(20):
        (folder / "study.record").write_bytes(mutated(record, chance))
        capfd.readouterr()
        code = call("status", RUNS, "--json")
        said = capfd.readouterr()
        expect_one_line(code, said.out + said.err, said.err)
        assert code in (0, 3)
        if code == 0:
            assert all(each in happened for each in read_past(StudyFolder(folder)).results)
            told = json.loads(said.out)
        code = call("export", RUNS, "--no-register", "-o", "best.yaml")
        said = capfd.readouterr()
        expect_one_line(code, said.out + said.err, said.err)
        assert code == 3 or (code == 0) == bool(told["front"])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_resume_mends_every_file(
    study: Any, home: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    ended = read_past(StudyFolder(home / RUNS)).results
    names = files(home / "left" / RUNS)
    assert {"results.jsonl", "space.yaml", "study.journal"} <= set(names)
    assert any(name.startswith("checkpoints/") for name in names)
    for name in names if FULL else [each for each in names if not each.startswith("checkpoints/")] + names[:1]:
        folder = study("resumed", left=True)
        damage(folder / name)
        try:
            outcome = resume_study(folder, executor=LocalExecutor(), build_trainer=TinyTrainer)
        except InputError as error:  # an edit that is none of the budget's
            assert name == "space.yaml"
            assert "the space was edited since the study began" in str(error)
            continue
        assert same(outcome.results) == same(ended), name
        assert [json.loads(line)["number"] for line in (folder / "results.jsonl").read_text().splitlines()] != []
        trials = optuna.load_study(
            study_name="tiny",
            storage=optuna.storages.JournalStorage(
                optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
            ),
        ).trials
        assert [trial.number for trial in trials if trial.state.is_finished()] == list(range(6))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_resume_brings_mlflow_to_the_same_runs_without_its_own_file(
    study: Any, home: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    folder = study("tracked")
    client = MlflowClient(f"sqlite:///{folder.parents[2] / 'mlflow.db'}")

    def runs() -> dict[str, tuple[Any, ...]]:
        found = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
        return {run.info.run_id: (run.info.status, run.data.params, run.data.metrics) for run in found}

    before = runs()
    assert len(before) == 7
    damage(folder / FILE)
    record = StudyFolder(home / RUNS).record  # beside its original it would be a copy, which has runs of its own
    away = record.rename(record.with_name("away"))
    try:
        assert call("resume", RUNS, "--executor", "local") == 0, capfd.readouterr().err
    finally:
        away.rename(record)
    assert runs() == before


def test_a_mutated_file_of_run_ids_is_read_without_a_traceback(study: Any) -> None:
    folder, chance, store = StudyFolder(study("mutated")), random.Random(5), Store("sqlite:////there/mlflow.db", "tiny")
    content = (folder.path / FILE).read_bytes()
    for _ in tries(150):
        (folder.path / FILE).write_bytes(mutated(content, chance))
        assert RunIds(folder, store).delivered is None
        trial_of_run(folder, "x")


@pytest.mark.parametrize("name", ["results.jsonl", "study.journal", "epochs.jsonl"])
def test_a_mutated_study_of_the_earlier_format_is_read_or_refused(tmp_path: Path, home: Path, name: str) -> None:
    folder, chance, space = StudyFolder(tmp_path / "study"), random.Random(6), tiny(tmp_path, *OVERRIDES)
    earlier(home / "left" / RUNS, folder)
    content = (folder.path / name).read_bytes()
    for _ in tries(40):
        (folder.path / name).write_bytes(mutated(content, chance))
        list(earlier_epochs(folder))
        try:
            numbers = [result.number for result in earlier_results(folder)]
            assert numbers == sorted(set(numbers))
            with held(folder) as record:
                migrate(record, folder, space)
                Ledger(record, study=space.study, space=space.trial)
                record.clear()
        except EnvironmentProblem as problem:
            assert "\n" not in str(problem)


def earlier(source: Path, folder: StudyFolder) -> None:
    """The files of a study as they were before there was a record."""
    shutil.copytree(source, folder.path)
    past = read_past(StudyFolder(source), epochs=True)
    with (folder.path / "epochs.jsonl").open("w") as lines:
        for number, epochs in past.history.items():
            for each in epochs:
                lines.write(json.dumps({"number": number, "epoch": each.epoch, "epochs": each.epochs,
                                        "phase": each.phase, "values": dict(each.values)}) + "\n")  # fmt: skip
    folder.record.unlink()


def test_a_study_of_the_earlier_format_goes_on(tmp_path: Path, home: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    earlier(home / "left" / RUNS, folder)
    before = read_past(folder, epochs=True)
    assert before.text is None
    outcome = resume_study(folder.path, executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert [result.number for result in outcome.results] == list(range(6))
    after = read_past(folder, epochs=True)
    assert all(result in after.results for result in before.results)
    assert set(before.history) <= set(after.history)
