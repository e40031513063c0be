"""Evolution in a search, as a user runs it: the shipped space, and a space that mixes it with gradients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnnsearch.core.data.sources import read_digits
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.results import TrialState

SPACES = Path(__file__).parents[1] / "spaces"


def bnnsearch(*words: str, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    ran = subprocess.run(
        [sys.executable, "-m", "bnnsearch", *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_the_shipped_space_gives_a_network_that_train_pack_and_predict_take(tmp_path: Path) -> None:
    space = str(SPACES / "digits_evolution.yaml")
    bnnsearch("run", space, "--executor", "local", "--set", "budget.trials=10", cwd=tmp_path)
    (study,) = tmp_path.glob("runs/digits_evolution/*")
    complete = [result for result in read_past(StudyFolder(study)).results if result.state is TrialState.COMPLETE]
    assert len(complete) == 10
    assert len({result.config["method"]["name"] for result in complete}) >= 2

    bnnsearch("export", "--best", "val_acc", "-o", "best.yaml", cwd=tmp_path)
    bnnsearch("train", "best.yaml", "-o", "trained", "--device", "cpu", cwd=tmp_path)
    trained = json.loads((tmp_path / "trained/result.json").read_text())
    assert trained["metrics"]["val_acc"] == max(result.metrics["val_acc"] for result in complete)
    assert trained["test"]["test_acc"] > 0.8
    assert "same labels" in bnnsearch("pack", "trained", "-o", "model.bnn", cwd=tmp_path)

    test = read_digits(0.2).test
    names = [f"{index}.png" for index in range(20)]
    for name, image in zip(names, test.images[:20].numpy(), strict=True):
        Image.fromarray(image[0]).save(tmp_path / name)
    printed = bnnsearch("predict", "model.bnn", *names, "--json", cwd=tmp_path)
    labels = [json.loads(line)["label"] for line in printed.splitlines()]
    assert np.mean(np.array(labels) == test.labels[:20].numpy()) >= 0.7


@pytest.mark.slow
def test_one_search_may_mix_gradients_and_evolution(tmp_path: Path) -> None:
    space = str(SPACES / "digits_mixed.yaml")
    epochs = [f"trial.branches.{branch}.plan.epochs={count}" for branch, count in (("gradient", 10), ("evolution", 20))]
    short = [word for override in ("budget.trials=8", *epochs) for word in ("--set", override)]
    bnnsearch("run", space, "--executor", "local", *short, cwd=tmp_path)
    (study,) = tmp_path.glob("runs/digits_mixed/*")
    front = json.loads((study / "report/front.json").read_text())["trials"]
    results = {result.number: result for result in read_past(StudyFolder(study)).results}
    assert {result.state for result in results.values()} == {TrialState.COMPLETE}
    assert not any("kept_epoch" in result.metrics for result in results.values())  # all report their last epoch
    assert {results[row["trial"]].config["name"] for row in front} == {"gradient", "evolution"}

    evolved = [row["trial"] for row in front if results[row["trial"]].config["name"] == "evolution"]
    best = max(evolved, key=lambda number: results[number].metrics["val_acc"])
    bnnsearch("export", "--trial", str(best), "-o", "best.yaml", cwd=tmp_path)
    bnnsearch("train", "best.yaml", "-o", "trained", "--device", "cpu", cwd=tmp_path)
    trained = json.loads((tmp_path / "trained/result.json").read_text())
    assert trained["metrics"]["val_acc"] == results[best].metrics["val_acc"]
    assert "same labels" in bnnsearch("pack", "trained", "-o", "model.bnn", cwd=tmp_path)
