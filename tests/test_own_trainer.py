"""Training code of one's own, searched like ours: stopped, resumed, pruned, trained, packed; and its mistakes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from guest_fixtures import EXAMPLE, installed, nobody, site  # noqa: F401

from bnnsearch.cli import main
from bnnsearch.config.trial import trial_of
from bnnsearch.core.own import DeclaredTrainer
from bnnsearch.packed.model import PackedModel
from bnnsearch.results import TrialResult
from bnnsearch.schema import space_schema
from bnnsearch.space import SpaceError, load_space
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import resume_study, run_study

DATA = {"name": "digits", "train_limit": 300}
PERCEPTRON = {"trainer": {"name": "perceptron", "epochs": 5, "width": 16, "data": DATA}}

MINE = """
from typing import ClassVar, Literal

from bnnsearch.config.metrics import Metric
from bnnsearch.config.trainer import FunctionSettings


class MineConfig(FunctionSettings):
    metrics: ClassVar = ("val_acc", Metric("depth", "min", "m", "depth", "before"))
    name: Literal["mine"] = "mine"
    depth: int = 2

    def costs(self):
        return {"depth": self.depth}

    def train(self, seed, device):
        for epoch in range(self.epochs):
            yield REPORT
"""

SPACE: dict[str, Any] = {
    "version": 1,
    "name": "mine",
    "use": ["./mine.py"],
    "objectives": [{"metric": "val_acc", "mode": "max"}, {"metric": "depth", "mode": "min"}],
    "budget": {"trials": 3},
    "retries": 0,
    "trial": {"trainer": {"name": "mine", "epochs": 3, "depth": {"type": "randint", "min": 1, "max": 9}}},
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(report: str = '{"val_acc": 0.5 + epoch / 10}', **changes: Any) -> Path:
    Path("mine.py").write_text(MINE.replace("REPORT", report))
    Path("space.yaml").write_text(yaml.safe_dump({**SPACE, **changes}, sort_keys=False))
    return Path("space.yaml")


def told(results: tuple[TrialResult, ...]) -> list[tuple[Any, ...]]:
    return [(each.number, each.state, each.params, each.metrics, each.epochs) for each in results]


@pytest.mark.usefixtures("installed")
class TestPerceptron:
    def test_a_broken_off_run_goes_on_where_it_was(self) -> None:
        def trainer() -> DeclaredTrainer:
            return DeclaredTrainer(trial_of(PERCEPTRON).trainer, seed=3, device="cpu")  # type: ignore[union-attr]

        whole = list(trainer().fit())
        assert [each.epoch for each in whole] == [1, 2, 3, 4, 5]
        first, second = trainer(), trainer()
        began = list(islice(first.fit(), 2))
        second.load_state_dict(first.state_dict())
        assert [*began, *second.fit()] == whole
        assert list(second.fit()) == []

    @pytest.mark.parametrize("where", ["local", "ray"])
    def test_a_search_is_stopped_and_resumed(self, where: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        if where == "ray":
            request.getfixturevalue("small_ray")
        overrides = ["scheduler={name: asha, grace_epochs: 1}", "resources.max_concurrent=1", "trial.trainer.epochs=3"]
        space = load_space(EXAMPLE / "own_code.yaml", overrides=overrides)
        executor = LocalExecutor() if where == "local" else RayExecutor()
        whole = run_study(space, study_dir=tmp_path / "whole", executor=executor)
        assert {each.state for each in whole.results} == {"complete", "pruned"}
        short = load_space(EXAMPLE / "own_code.yaml", overrides=[*overrides, "budget.trials=2"])
        run_study(short, study_dir=tmp_path / "two", executor=executor)
        assert len(resume_study(tmp_path / "two", executor=executor, trials=4).results) == 4

    def test_it_is_exported_trained_and_packed(self, home: Path) -> None:
        (home / "config.yaml").write_text(yaml.safe_dump({**PERCEPTRON, "seed": 1}))
        for words in (["train", "config.yaml", "-o", "prod", "--no-track"], ["pack", "prod", "-o", "own.bnn"]):
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, done.output
        assert len(PackedModel.load(home / "own.bnn").classes) == 10

    def test_editors_know_it(self) -> None:
        schema = space_schema()
        assert {"$ref": "#/$defs/searched.OwnTrialConfig"} in schema["properties"]["trial"]["anyOf"]
        assert "searched.PerceptronConfig" in schema["$defs"]


def test_its_metrics_are_objectives_constraints_and_costs(home: Path) -> None:
    space = load_space(write(constraints=[{"metric": "depth", "max": 4}], budget={"trials": 8}))
    outcome = run_study(space, study_dir=home / "study", executor=LocalExecutor())
    for result in outcome.results:
        deep = result.params["trainer.depth"] > 4
        assert (result.state, result.epochs) == (("pruned", 0) if deep else ("complete", 3))
        assert result.metrics["depth"] == result.params["trainer.depth"]
    assert {each.state for each in outcome.results} == {"complete", "pruned"}


def test_both_kinds_stand_in_one_space(home: Path) -> None:
    ours = {"data": {"name": "digits", "train_limit": 200}, "model": {"name": "mlp", "hidden": [8]}}
    ours |= {"method": {"name": "ste"}, "plan": {"epochs": 2}}
    trial = {"type": "choice", "branches": {"own": SPACE["trial"], "ours": ours}}
    space = load_space(
        write(trial=trial, objectives=[{"metric": "val_acc", "mode": "max"}], sampler={"name": "random"})
    )
    outcome = run_study(space, study_dir=home / "study", executor=LocalExecutor())
    assert {each.params["trial"] for each in outcome.results} == {"own", "ours"}
    assert {each.state for each in outcome.results} == {"complete"}
    for result in outcome.results:
        assert space.trial.params_of(result.config) == result.params


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ('{"val_acc": 0.5, "odd": 1}', "trainer mine reports odd, which it does not declare; it declares val_acc"),
        ("{}", "trainer mine declares val_acc, but does not report it"),
        ('{"val_acc": float("nan")}', "val_acc is nan after epoch 1"),
        ('{"val_acc": "high"}', "trainer mine must report numbers: could not convert string to float: 'high'"),
        ("0.5", "trainer mine must report a mapping of metrics, but got float"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_report_fails_the_trial_and_says_why(home: Path, report: str, reason: str) -> None:
    space = load_space(write(report))
    outcome = run_study(space, study_dir=home / "study", executor=LocalExecutor())
    assert {(each.state, each.reason) for each in outcome.results} == {("failed", reason)}
    assert "Error: " in (home / "study" / "search.log").read_text(), "where it was raised"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objectives": [{"metric": "bops", "mode": "min"}]},
            "by trainer mine do not report bops; they report: val",
        ),
        ({"trial": {"trainer": {"name": "yours"}}}, "trial.trainer: unknown name 'yours'; allowed: mine"),
        (
            {"trial": {"trainer": {"name": "mine", "epochs": 0}}},
            "trainer.epochs: must be greater than or equal to 1",
        ),
        ({"trial": {**SPACE["trial"], "model": {"name": "mlp"}}}, "trial.model: unknown key"),
        ({"scheduler": {"name": "median", "grace_epochs": 4}}, "must be at most the epochs of the longest trial, 3"),
    ],
)
def test_a_wrong_space_is_refused(home: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_space(write(**changes))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ('("val_acc", "nothing")', "MineConfig: there is no metric nothing; a new one is declared as a Metric"),
        ('(Metric("bops", "max", "", "mine", "after"),)', "the metric bops is one of bnnsearch's own"),
    ],
)
def test_a_metric_is_one_of_the_table_or_new(home: Path, metrics: str, said: str) -> None:
    path = write()
    text = Path("mine.py").read_text()
    Path("mine.py").write_text(text.replace(text[text.index("ClassVar = ") + 11 : text.index("\n    name:")], metrics))
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    assert said in str(caught.value)
