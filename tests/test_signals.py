"""1-D signals: images of height 1, on which a kernel of height 1 is a 1-D convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv1d

from bnnsearch.config.data import CropConfig, ShiftConfig
from bnnsearch.config.model import Cnn1dConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.augment import Draw, augment_batch
from bnnsearch.core.binarize import sign
from bnnsearch.core.cost import model_cost
from bnnsearch.core.data import Split, load_data
from bnnsearch.core.layers import BinaryConv2d
from bnnsearch.core.models.build import build_model
from bnnsearch.deploy import compare, exported, packed_network
from bnnsearch.evolve.network import Binarizer
from bnnsearch.evolve.samples import pack_data
from bnnsearch.trial import build_trainer


def test_a_kernel_of_height_1_is_a_1d_convolution() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(5, 4, (1, 7), stride=2, padding=(0, 3))
    signals = sign(torch.randn(3, 5, 1, 20))
    expected = conv1d(signals.squeeze(2), sign(layer.weight).squeeze(2), stride=2, padding=3)
    assert torch.equal(layer(signals).squeeze(2), expected)


def test_costs_by_hand() -> None:
    config = Cnn1dConfig(channels=(4, 6), pool_after=(1,), kernel=5, pool=2)
    cost = model_cost(build_model(config, shape=(2, 1, 20), classes=3), (2, 1, 20)).metrics()
    assert cost["bops"] == 10 * 6 * 4 * 5  # length 20 / 2, 6 filters of 4 x 5
    real = 20 * 4 * 2 * 5 + 10 * 6 * 3  # the first convolution, the classifier
    assert cost["flops"] == real
    assert cost["params"] == 4 * 2 * 5 + 6 * 4 * 5 + 2 * (4 + 6) + 60 * 3 + 3


@pytest.mark.parametrize("step", [CropConfig(padding=3), ShiftConfig(pixels=3)])
def test_a_signal_moves_along_its_one_axis(step: Any) -> None:
    signals = torch.randint(1, 256, (64, 2, 1, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draw = Draw(torch.arange(64), 0, (0.0, 0.0), torch.Generator().manual_seed(1))
    moved = augment_batch(signals, [step], draw)
    empty = (moved == 0).sum(dim=3)
    assert empty.unique().tolist() == [0, 1, 2, 3]  # zeros at an end, never a whole signal


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels with a tone of one of three pitches, the phase by chance, and noise."""
    source, path = np.random.default_rng(0), tmp_path_factory.mktemp("signals") / "tones.npz"
    labels = np.arange(300) % 3
    turns = np.arange(40) * np.array([1, 2, 4])[labels][:, None] / 40 + source.random((300, 1))
    tones = np.stack([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)], axis=1)
    np.savez(path, images=(tones + source.normal(0, 0.3, tones.shape)).astype(np.float32), labels=labels)
    return path


def run(signals: Path, model: dict[str, Any], method: str, **data: Any) -> TrialConfig:
    tree = {
        "data": {"name": "arrays", "root": str(signals), "layout": "NCL", "batch_size": 32, **data},
        "model": model,
        "method": {"name": method},
        "plan": {"epochs": 10},
        "optimizer": {"name": "adam", "lr": 0.01},
        "seed": 0,
    }
    return TrialConfig.model_validate(tree)


def test_signals_are_learned_and_packed_sample_by_sample(signals: Path) -> None:
    model = {"name": "cnn1d", "channels": [16, 16], "pool_after": [1, 2], "kernel": 7, "pool": 2}
    config = run(signals, model, "ste", augment=[{"name": "shift", "pixels": 2}])
    trainer, data = build_trainer(config), load_data(config.data)
    *_, last = trainer.fit()
    assert last.values["val_acc"] > 0.9
    assert isinstance(data.val, Split)
    network = exported(trainer)
    assert compare(packed_network(network, data), network, data.val) == (len(data.val), 0)


def test_evolution_shifts_signals_along_their_axis(signals: Path) -> None:
    data = load_data(run(signals, {"name": "xor_mlp"}, "inertia").data)
    samples = pack_data(data, Binarizer((128,), 0), [ShiftConfig(pixels=1)])
    assert samples.shifts == 3
