"""The main job from end to end, as a user runs it: search, read back from MLflow, export, train."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import load_data
from bnnsearch.export import load_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.packed.model import PackedModel
from bnnsearch.pareto import nondominated_ranks
from bnnsearch.past import read_past
from bnnsearch.results import TrialState

SPACES = Path(__file__).parents[1] / "spaces"
OBJECTIVES = {"val_acc": "max", "memory_bytes": "min", "train_bitops": "min"}


def bnnsearch(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "bnnsearch", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the quickstart has been searched, and what that printed."""
    folder = tmp_path_factory.mktemp("corridor")
    ran = bnnsearch("run", str(SPACES / "digits_quickstart.yaml"), cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder, ran.stdout


def results_in(folder: Path) -> list:
    (study,) = folder.glob("runs/digits_quickstart/*")
    return list(read_past(StudyFolder(study)).results)


def test_the_quickstart_has_a_front_worth_looking_at(searched: tuple[Path, str]) -> None:
    complete = [result for result in results_in(searched[0]) if result.state is TrialState.COMPLETE]
    values = [[result.metrics[name] for name in OBJECTIVES] for result in complete]
    ranks = nondominated_ranks(values, list(OBJECTIVES.values()))
    front = [result for result, rank in zip(complete, ranks, strict=True) if rank == 0]
    assert len(complete) >= 12
    assert len({tuple(result.metrics[name] for name in OBJECTIVES) for result in front}) >= 3
    assert max(result.metrics["val_acc"] for result in front) >= 0.90
    assert {result.config["method"]["name"] for result in complete} == {"ste", "bnew"}


def test_run_ends_with_the_commands_that_come_next(searched: tuple[Path, str]) -> None:
    folder, printed = searched
    for command in ("bnnsearch ui", "bnnsearch export", "bnnsearch train"):
        assert f"  {command}" in printed
    (report,) = re.findall(r"report: +(\S+)", printed)
    assert (folder / report).exists()


def test_a_client_that_reads_mlflow_finds_the_same_front(searched: tuple[Path, str]) -> None:
    script = """
import json, mlflow
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
(experiment,) = [each for each in client.search_experiments() if each.name == "digits_quickstart"]
runs = client.search_runs([experiment.experiment_id], "tags.state = 'complete'", max_results=1000)
print(json.dumps([{"number": int(run.data.tags["trial"]), "pareto": run.data.tags["pareto"],
                   "status": run.info.status, **run.data.metrics} for run in runs]))
"""
    read = subprocess.run([sys.executable, "-c", script], cwd=searched[0], capture_output=True, text=True, check=True)
    runs = json.loads(read.stdout.splitlines()[-1])
    values = [[run[name] for name in OBJECTIVES] for run in runs]
    ranks = nondominated_ranks(values, list(OBJECTIVES.values()))
    recomputed = {run["number"] for run, rank in zip(runs, ranks, strict=True) if rank == 0}
    assert recomputed == {run["number"] for run in runs if run["pareto"] == "true"}
    (study,) = searched[0].glob("runs/digits_quickstart/*")
    assert recomputed == {row["trial"] for row in json.loads((study / "report" / "front.json").read_text())["trials"]}
    assert all(run["status"] == "FINISHED" for run in runs)


def test_status_counts_the_trials(searched: tuple[Path, str]) -> None:
    told = bnnsearch("status", "--json", cwd=searched[0])
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["states"]["complete"] >= 12


@pytest.mark.parametrize(
    "choice", [["--knee"], ["--best", "val_acc"], ["--where", "memory_bytes<=20000", "--best", "val_acc"]]
)
def test_export_writes_what_was_asked_for(searched: tuple[Path, str], tmp_path: Path, choice: list[str]) -> None:
    best = tmp_path / "best.yaml"
    exported = bnnsearch("export", *choice, "-o", str(best), "--no-register", cwd=searched[0])
    assert exported.returncode == 0, exported.stderr
    (number,) = re.findall(r"trial (\d+)", exported.stdout.splitlines()[0])
    chosen = {result.number: result for result in results_in(searched[0])}[int(number)]
    if "--where" in choice:
        assert chosen.metrics["memory_bytes"] <= 20000
    if choice == ["--best", "val_acc"]:
        assert chosen.metrics["val_acc"] == max(
            result.metrics["val_acc"] for result in results_in(searched[0]) if result.selectable
        )


def test_export_says_what_is_nearest_where_nothing_fits(searched: tuple[Path, str], tmp_path: Path) -> None:
    refused = bnnsearch("export", "--where", "memory_bytes<=1", "-o", str(tmp_path / "best.yaml"), cwd=searched[0])
    assert refused.returncode == 2
    assert "memory_bytes<=1; the nearest is trial" in refused.stderr
    assert not (tmp_path / "best.yaml").exists()


def test_a_space_says_what_export_takes_by_default(tmp_path: Path) -> None:
    short = ("budget.trials=4", "trial.plan.epochs=14", "select={by: best, metric: memory_bytes}")
    options = [word for override in short for word in ("--set", override)]
    ran = bnnsearch("run", str(SPACES / "digits_quickstart.yaml"), "--executor", "local", *options, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    exported = bnnsearch("export", "-o", "best.yaml", "--no-register", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    smallest = min(each.metrics["memory_bytes"] for each in results_in(tmp_path) if each.selectable)
    assert load_trial(tmp_path / "best.yaml")[1].expected["memory_bytes"] == smallest


def test_export_takes_a_run_of_mlflow(searched: tuple[Path, str], tmp_path: Path) -> None:
    (study,) = searched[0].glob("runs/digits_quickstart/*")
    known = json.loads((study / "mlflow-runs.json").read_text())["stores"]
    number = next(each.number for each in results_in(searched[0]) if each.selectable)
    (run_id,) = [runs[str(number)] for runs in known.values()]
    best = tmp_path / "best.yaml"
    exported = bnnsearch("export", "--run-id", run_id, "-o", str(best), "--no-register", cwd=searched[0])
    assert exported.returncode == 0, exported.stderr
    provenance = load_trial(best)[1]
    assert (provenance.trial, provenance.run_id) == (number, run_id)
    refused = bnnsearch("export", "--run-id", "0" * 32, "-o", str(best), cwd=searched[0])
    assert refused.returncode == 2
    assert "no trial in runs has the MLflow run 000" in refused.stderr


def test_a_confirmed_export_is_trained_registered_and_predicts(searched: tuple[Path, str]) -> None:
    folder = searched[0]
    confirm_train_and_predict(folder, "digits_quickstart", repeats=2)
    again = bnnsearch("train", "confirmed.yaml", "-o", "production", "--device", "cpu", "--seeds", "2", cwd=folder)
    assert "recorded in MLflow" not in again.stdout


@pytest.mark.slow
def test_the_same_on_mnist(tmp_path: Path) -> None:
    """Where BNN_DATA names a folder with it."""
    if not Path(os.environ.get("BNN_DATA", "."), "MNIST/raw").exists():
        pytest.skip("BNN_DATA names no folder with MNIST/raw")
    ran = bnnsearch("run", str(SPACES / "mnist_bnew.yaml"), "--set", "budget.trials=3", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    confirm_train_and_predict(tmp_path, "mnist_bnew", repeats=2)


def confirm_train_and_predict(folder: Path, study: str, *, repeats: int) -> None:
    """Export with a stated deviation, train with two seeds, predict by the registered champion."""
    exported = bnnsearch("export", "--best", "val_acc", "--confirm", str(repeats), "-o", "confirmed.yaml", cwd=folder)
    assert exported.returncode == 0, exported.stderr
    assert f"registered as models:/{study}@candidate, version 1" in exported.stdout
    config, provenance = load_trial(folder / "confirmed.yaml")
    assert provenance is not None
    assert provenance.repeats == repeats
    seeds = ["--seeds", "2"]
    trained = bnnsearch("train", "confirmed.yaml", "-o", "production", "--device", "cpu", *seeds, cwd=folder)
    assert trained.returncode == 0, trained.stderr
    assert f"registered as models:/{study}@champion, version 2" in trained.stdout
    results = [
        json.loads((folder / "production" / f"seed-{seed}" / "result.json").read_text())
        for seed in (config.seed, config.seed + 1)
    ]
    # a few repeats may agree by chance, so four deviations count those of the few hundred validation images as well
    expected, images = provenance.expected["val_acc"], len(load_data(config.data).val)
    allowed = 4 * math.sqrt(provenance.deviation["val_acc"] ** 2 + expected * (1 - expected) / images)
    for result in results:
        assert result["metrics"]["val_acc"] == pytest.approx(expected, abs=allowed)
    best = max(results, key=lambda result: result["metrics"]["val_acc"])
    assert champion_accuracy(folder, study, config) == pytest.approx(best["test"]["test_acc"], abs=1e-6)


def champion_accuracy(folder: Path, study: str, config: TrialConfig) -> float:
    """What the registered model gets right of the test set, loaded as another program would."""
    test = load_data(config.data).test
    np.savez(folder / "test.npz", images=test.images.numpy(), labels=test.labels.numpy())
    script = f"""
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///mlflow.db")
data = np.load("test.npz")
model = mlflow.pyfunc.load_model("models:/{study}@champion")
print(float((model.predict(data["images"]) == data["labels"]).mean()))
"""
    read = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return float(read.stdout.splitlines()[-1])


def test_two_studies_are_compared_in_one_picture(searched: tuple[Path, str], tmp_path: Path) -> None:
    (study,) = searched[0].glob("runs/digits_quickstart/*")
    other = shutil.copytree(study, tmp_path / "other")
    lines = (other / "study.record").read_bytes().splitlines(keepends=True)
    ended = [place for place, line in enumerate(lines, start=1) if b'"event": "ended"' in line]
    (other / "study.record").write_bytes(b"".join(lines[: ended[11]]))
    compared = bnnsearch("report", str(study), str(other), "-o", str(tmp_path / "both.html"), cwd=searched[0])
    assert compared.returncode == 0, compared.stderr
    volumes = dict(re.findall(r"^(.+): hypervolume ([\d.]+)", compared.stdout, flags=re.MULTILINE))
    assert float(volumes[f"digits_quickstart {study.name}"]) >= float(volumes["digits_quickstart other"]) > 0
    assert (tmp_path / "both.html").read_text().count("<script") == 1


def test_train_repeats_the_trial_and_reads_the_test_set_once(searched: tuple[Path, str], tmp_path: Path) -> None:
    best, out = tmp_path / "best.yaml", tmp_path / "trained"
    assert bnnsearch("export", "--best", "val_acc", "-o", str(best), "--no-register", cwd=searched[0]).returncode == 0
    options = ("-o", str(out), "--device", "cpu", "--threads", "1", "--no-track")
    trained = bnnsearch("train", str(best), *options, cwd=searched[0])
    assert trained.returncode == 0, trained.stderr
    assert len(re.findall(r"test_acc", trained.stdout)) == 1
    result = json.loads((out / "result.json").read_text())
    expected = max(each.metrics["val_acc"] for each in results_in(searched[0]) if each.selectable)
    assert result["metrics"]["val_acc"] == expected  # same seed, machine and threads
    assert result["test"]["test_acc"] >= 0.85
    model = tmp_path / "model.bnn"
    packed = bnnsearch("pack", str(out), "-o", str(model), cwd=searched[0])
    assert packed.returncode == 0, packed.stderr
    assert re.search(r"same labels as the trained network on \d{3} validation images", packed.stdout)
    assert PackedModel.load(model).shape == (1, 8, 8)
    again = bnnsearch("train", str(best), *options, cwd=searched[0])
    assert json.loads((out / "result.json").read_text()) == result
    assert "already" in again.stdout
