"""Packed networks in numpy, where the native library does not load: the kernels' logits bit for bit."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bnnsearch.config.activation import RpreluConfig
from bnnsearch.config.model import BinarySettings, Cnn1dConfig, MlpConfig, Realtobinary18Config, Resnet20Config
from bnnsearch.core.models.build import build_model
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.reference import Reference, fused

NETWORKS = [
    (MlpConfig(hidden=(100, 33), scale="xnor"), (1, 9, 9)),
    (Cnn1dConfig(width=0.3), (3, 1, 130)),
    (Resnet20Config(width=0.4, activation=RpreluConfig(), block="pre"), (3, 9, 11)),
    (Realtobinary18Config(stem="small", width=0.125), (3, 9, 8)),
]


@pytest.mark.parametrize(("config", "shape"), NETWORKS, ids=lambda value: getattr(value, "name", None))
@pytest.mark.parametrize("edges", ["float32", "int8"])
def test_numpy_gives_the_logits_of_the_kernels(
    config: BinarySettings, shape: tuple[int, int, int], edges: Literal["float32", "int8"]
) -> None:
    torch.manual_seed(0)
    mean, std = (0.4,) * shape[0], (0.3,) * shape[0]
    packed = PackedModel.from_module(
        build_model(config, shape=shape, classes=10).eval(), shape=shape, mean=mean, std=std, edges=edges
    )
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    expected = packed.logits(images)
    np.testing.assert_array_equal(Reference(packed.graph, packed.tensors).run(images), expected)
    assert np.ptp(expected) > 0


NUMBERS = st.floats(width=32, min_value=-(2.0**40), max_value=2.0**40, allow_subnormal=False)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_fused_sum_is_rounded_once(x: float, y: float, z: float) -> None:
    found = fused(*(np.array([value], np.float32) for value in (x, y, z)))[0]
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    step = abs(Fraction(float(np.spacing(np.abs(found)))))
    assert abs(Fraction(float(found)) - exact) <= step / 2


def test_a_tie_that_two_roundings_miss() -> None:
    x, y, z = (np.array([value], np.float32) for value in (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-60))
    assert np.float32(x[0].astype(np.float64) * y[0] + z[0]) == np.float32(1 + 2.0**-11)
    assert fused(x, y, z)[0] == np.float32(1 + 2.0**-11 + 2.0**-23)


WITHOUT = """
import sys
from pathlib import Path
from bnnsearch import native
native.FILE = Path("no-library.so")
"""
TRAIN = """
from bnnsearch.cli import main
main(["train", "trial.yaml", "--no-track"])
"""
PREDICT = """
import numpy as np
from bnnsearch.packed.model import PackedModel
model = PackedModel.load("model.bnn")
np.save("logits.npy", model.logits(np.load("images.npy"), threads=2))
"""
TRIAL = """
data: {name: digits}
model: {name: mlp, hidden: [32]}
method: {name: ste}
plan: {epochs: 1}
seed: 1
"""


def without_the_library(code: str, folder: Path) -> None:
    """Run `code` where no library loads: it succeeds, and one line says what it is done by."""
    command = [sys.executable, "-c", WITHOUT + code]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stderr.splitlines() if "the native library, which does not load" in line]
    assert len(lines) == 1
    assert "training runs in torch alone, packed networks in numpy, slowly" in lines[0]


def test_training_without_the_library(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(TRIAL)
    without_the_library(TRAIN, tmp_path)
    assert (tmp_path / "trained").is_dir()


def test_predicting_without_the_library(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build_model(MlpConfig(hidden=(40,)), shape=(1, 8, 8), classes=10).eval()
    packed = PackedModel.from_module(module, shape=(1, 8, 8), mean=(0.4,), std=(0.3,))
    packed.save(tmp_path / "model.bnn")
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    without_the_library(PREDICT, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), packed.logits(images))
