"""The public functions: loaded when asked for, and the same objects as the command line's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import bnnsearch as bn
from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.method import SteConfig
from bnnsearch.core.data import load_data

SPACE = {
    "version": 1,
    "name": "api",
    "objectives": [{"metric": "val_acc", "mode": "max"}, {"metric": "memory_bytes", "mode": "min"}],
    "budget": {"trials": 2},
    "trial": {
        "data": DigitsConfig(train_limit=300),
        "model": {"name": "mlp", "hidden": bn.choice([[16], [32]])},
        "method": SteConfig(clip=False),
        "optimizer": {"name": "adam", "lr": bn.loguniform(1e-3, 0.1)},
        "plan": {"epochs": bn.randint(2, 3)},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> bn.Study:
    runs = tmp_path_factory.mktemp("api")
    return bn.search(SPACE, executor="local", runs=runs, trials=4, progress=False)


def test_importing_it_loads_nothing() -> None:
    told = (
        "import sys, bnnsearch as bn; names = dir(bn);"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'pydantic', 'numpy'};"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys(); assert 'search' in names;"
        "bn.load_space; assert not {'torch', 'ray', 'mlflow', 'optuna'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", told], check=True)


def test_all_that_is_named_is_there() -> None:
    modules = {path.stem for path in Path(bn.__file__).parent.iterdir()}
    assert not modules & set(bn.__all__), "a module that is imported would hide it"
    assert all(getattr(bn, name) is not None for name in bn.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        bn.nothing  # noqa: B018


def test_a_space_may_be_a_file_a_mapping_or_objects(tmp_path: Path) -> None:
    space = bn.load_space(SPACE)
    assert [each.name for each in space.trial.parameters()] == ["model.hidden", "optimizer.lr", "plan.epochs"]
    assert space.trial.defaults()["method"] == {"clip": False, "name": "ste"}
    (tmp_path / "space.yaml").write_text(space.text)
    again = bn.load_space(tmp_path / "space.yaml")
    assert again.trial.defaults() == space.trial.defaults()
    assert bn.load_space(again, overrides=["budget.trials=7"]).study.budget.trials == 7
    with pytest.raises(bn.SpaceError, match=r"trial\.model: unknown name 'mpl', did you mean 'mlp'"):
        bn.load_space({**SPACE, "trial": {**SPACE["trial"], "model": {"name": "mpl"}}})  # type: ignore[dict-item]


def test_a_study_is_tables_a_front_and_a_page(study: bn.Study) -> None:
    assert len(study.trials) == 4
    assert set(study.trials["state"]) == {"complete"}
    assert {"val_acc", "memory_bytes", "params.model.hidden", "params.optimizer.lr"} <= set(study.trials.columns)
    assert set(study.front.index) == study.pareto.numbers
    assert list(study.front.columns[:2]) == ["val_acc", "memory_bytes"]
    assert study.report().name == "report.html"
    assert bn.Study.load(runs=study.path.parent.parent).path == study.path
    assert "api: 4 of 4 trials have ended" in study._repr_html_()
    assert repr(study) == f"Study({str(study.path)!r})"


def test_it_goes_on(study: bn.Study, tmp_path: Path) -> None:
    other = bn.search(SPACE, executor="local", runs=tmp_path, trials=1, progress=False)
    assert len(other.resume(trials=2, executor="local", progress=False).results) == 2
    with pytest.raises(bn.InputError, match="executor must be one of auto, ray, local, but got 'dask'"):
        bn.search(SPACE, executor="dask", runs=tmp_path)  # type: ignore[arg-type]


def test_the_best_is_trained_saved_and_packed(study: bn.Study, tmp_path: Path) -> None:
    best = study.best(by="val_acc", where=["memory_bytes<=1000000"])
    assert best.metrics["val_acc"] == max(study.trials["val_acc"])
    assert f"trial {best.number} of api" in best._repr_html_()
    run = bn.train(best, tmp_path / "run", device="cpu")
    assert run.result.metrics["val_acc"] == best.metrics["val_acc"]
    saved = best.save(tmp_path / "best.yaml")
    assert yaml.safe_load(saved.read_text())["seed"] == best.config.seed
    assert bn.train(saved, tmp_path / "run", device="cpu").result == run.result  # the same run, finished already
    model = bn.pack(run, tmp_path / "model.bnn")
    images = load_data(DigitsConfig()).test.images.numpy()[:5]
    labels = bn.PackedModel.load(tmp_path / "model.bnn").predict(images)
    assert np.array_equal(labels, model.predict(images))
    assert study.best(trial=0).number == 0
    with pytest.raises(bn.InputError, match="no finished trial has memory_bytes<=1; the nearest is trial"):
        study.best(where=["memory_bytes<=1"])
