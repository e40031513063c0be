"""The tables of trained networks: complete, true, and searched by replaying them."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from bnnsearch.config.trial import TrialConfig
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import run_study
from bnnsearch.trial import build_trainer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NAMES = sorted(path.stem for path in (BENCHMARKS / "tables").glob("*.yaml"))


@pytest.fixture(scope="module")
def tabular() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("tabular")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_every_configuration_of_its_space_once(tabular: ModuleType, name: str) -> None:
    table = tabular.Table.load(name)
    configurations = table.configurations()
    assert len(configurations) == len(table.rows)
    for params in configurations:
        row = table.curve(params)
        assert row.params == params
        plan = table.space.trial.config_of(params)["plan"]
        assert {len(values) for values in row.metrics.values()} == {plan["epochs"]}
    assert sum(path.stat().st_size for path in (BENCHMARKS / "tables").iterdir()) < 5e6


def test_a_curve_is_what_training_gives(tabular: ModuleType) -> None:
    """But for what another processor rounds otherwise."""
    table = tabular.Table.load("digits_bnew")
    row = table.curve({"model.hidden": "[16]", "model.activation": "hardtanh", "method.growth": 30.0})
    trainer = build_trainer(TrialConfig.model_validate(table.space.trial.config_of(row.params)))
    course = [each.values["val_acc"] for each in trainer.fit()]
    assert trainer.costs()["memory_bytes"] == row.costs["memory_bytes"]
    assert course[:3] == pytest.approx(row["val_acc"][:3], abs=0.02)
    assert course[-1] == pytest.approx(row["val_acc"][-1], abs=0.05)


def test_a_table_is_searched_without_training(tabular: ModuleType, tmp_path: Path) -> None:
    table = tabular.Table.load("digits_bnew")
    space = tabular.load_space(tabular.TABLES / "digits_bnew.yaml", overrides=["budget.trials=30", "tracking.uri=null"])
    results = run_study(
        space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=table.trainer
    ).results
    complete = [each for each in results if each.state == "complete"]
    assert len(results) == 30
    assert 0 < len(complete) < 30
    assert all(each.metrics["val_acc"] == table.curve(each.params)["val_acc"][-1] for each in complete)
