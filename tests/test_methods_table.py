"""The table of methods: published settings, runs that are kept and go on, ranks with ties."""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("methods_table", BENCHMARKS / "methods_table.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def options(**changed: Any) -> argparse.Namespace:
    small = {"data": "digits", "model": "cnn", "width": 0.25, "batch_size": 64, "train_limit": 300, "dtype": "float32",
             "pretrain": 2, "quantise": 3, "seeds": 1, "device": "cpu"}  # fmt: skip
    return argparse.Namespace(**small | changed)


def test_every_method_has_the_same_epochs_and_gradual_ones_freeze_for_a_tenth(table: ModuleType) -> None:
    trials = {method: table.trial(options(quantise=40), method, 0) for method in table.METHODS}
    assert {config.plan.epochs for config in trials.values()} == {42}
    assert {config.method.pretrain_epochs for config in trials.values()} == {2}
    frozen = {name: getattr(config.method, "finetune_epochs", 0) for name, config in trials.items()}
    assert frozen == {"STE": 0, "BOP": 0, "BOP2": 0, "BMD": 4, "ProxQuant": 4, "BNEW": 4, "BNEW 10": 4}
    assert len({table.pretraining(config).model_dump_json() for config in trials.values()}) == 1


def test_a_run_that_was_cut_off_goes_on_and_ends_as_one_that_was_not(table: ModuleType, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = table.trial(options(), "BNEW", 0)
    for states in (whole, parts):
        states.mkdir()
        table.pretrain(config, states)
    uncut = table.run(config, whole)
    shared = table.state_of(table.pretraining(config), parts)
    began = shared.read_bytes()
    table.train(config, 4, parts, shared)  # an epoch before its end
    resumed = table.run(config, parts)
    assert {**resumed, "seconds": 0} == {**uncut, "seconds": 0}
    table.pretrain(config, parts)
    assert shared.read_bytes() == began


def test_a_run_is_known_by_all_its_settings(table: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    config = table.trial(options(), "BNEW", 0)
    result = {"val_acc": 0.5, "test_acc": 0.25, "seconds": 1.0}
    table.Runs(file).add(config, result)
    again = table.Runs(file)
    assert again.of(config) == result
    for other in (options(width=0.5), options(quantise=4), options(batch_size=32), options(train_limit=400)):
        assert again.of(table.trial(other, "BNEW", 0)) is None
    assert again.of(table.trial(options(), "BNEW", 1)) is None
    stronger = config.method.model_copy(update={"growth": 35.0})
    assert again.of(config.model_copy(update={"method": stronger})) is None


def test_rows_have_mean_deviation_rank_and_when_weights_were_binary(table: ModuleType) -> None:
    wanted = {(method, seed): table.trial(options(), method, seed) for method in ("STE", "BNEW") for seed in (0, 1)}
    runs = table.Runs(None)
    for (method, seed), config in wanted.items():
        binary = {"mostly_binary_at": 0.5 + seed / 4} if method == "BNEW" else {}
        runs.add(config, {"val_acc": 0.9, "test_acc": 0.8 + seed / 10, "seconds": 2.0, **binary})
    ste, bnew = table.rows(wanted, runs)
    assert ste["test_acc"] == pytest.approx(0.85)
    assert ste["deviation"] == pytest.approx(0.1 / 2**0.5)
    assert (ste["n"], ste["rank"], bnew["rank"]) == (2, 1, 1)
    assert (ste["binary_at"], bnew["binary_at"]) == (None, 0.625)
    assert (ste["paper_rank"], bnew["paper_rank"]) == (3, 1)
    runs.add(wanted["BNEW", 0], {"val_acc": 0.9, "test_acc": 0.7, "seconds": 2.0})
    ste, bnew = table.rows(wanted, runs)
    assert (ste["rank"], bnew["rank"], bnew["binary_at"]) == (1, 2, "never")
    assert table.order_note([ste, bnew]) == "order other than Table 1's: STE 85.00% above BNEW 80.00%"
    extra = {("BNEW 10", 0): table.trial(options(), "BNEW 10", 0), ("BOP", 0): table.trial(options(), "BOP", 0)}
    runs.add(extra["BNEW 10", 0], {"val_acc": 0.9, "test_acc": 0.9, "seconds": 2.0})
    *rows, own = table.rows(wanted | extra, runs)  # of BOP there is none yet
    assert [row["rank"] for row in rows] == [1, 2]
    assert (own["method"], own["rank"], own["paper_rank"]) == ("BNEW 10", None, None)


def test_images_that_were_compressed_again_are_called_so(table: ModuleType, tmp_path: Path) -> None:
    for name in ("cifar10/train/cat/1.JPG", "cifar100/train/cat/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    folder = options(data="image_folder", root=str(tmp_path / "cifar10"))
    assert table.described(folder) == "cifar10 (JPEG re-encoded), a folder of images"
    assert table.described(options(data="image_folder", root=tmp_path / "cifar100")) == "cifar100, a folder of images"
    assert table.described(options()) == "digits"
