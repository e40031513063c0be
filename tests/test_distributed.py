"""Two processes train what one trains: equal weights everywhere, batches of the same size, one folder written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint
from bnnsearch.core.data import load_data, train_batches
from bnnsearch.core.distributed import joined, share
from bnnsearch.core.layers import BinaryLinear
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.reproducible import reproducible
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.training import train

CONFIG = {
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "mlp", "hidden": [32]},
    "method": {"name": "ste"},
    "optimizer": {"name": "sgd", "lr": 0.05},
    "plan": {"epochs": 2},
    "seed": 3,
}


def torchrun(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def trained_weights() -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """A network without batch norm, whose gradients of half batches average to those of whole ones, after an epoch."""
    config = TrialConfig.model_validate(CONFIG)
    with reproducible(0, device=torch.device("cpu")):
        model = nn.Sequential(nn.Flatten(), BinaryLinear(64, 32), nn.Hardtanh(), nn.Linear(32, 10))
    trainer = GradientTrainer(config, data=load_data(config.data), model=model)
    metrics = next(trainer.fit())
    return trainer.network.state_dict(), dict(metrics.values)


def write_trained_weights(folder: Path) -> None:
    """What each process does in the test below."""
    with joined("cpu"):
        weights, values = trained_weights()
        torch.save((weights, values), folder / f"{share()[0]}.pt")


def test_two_processes_come_to_the_weights_of_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from pathlib import Path; from test_distributed import *; write_trained_weights(Path())\n")
    ran = torchrun(str(script), cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (first, told), (second, also_told) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone, values = trained_weights()
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], weight, rtol=1e-4, atol=1e-6)
    assert told["train_loss"] == also_told["train_loss"] == pytest.approx(values["train_loss"], rel=1e-5)
    assert told["val_acc"] == also_told["val_acc"] == values["val_acc"]


def test_the_shares_of_a_batch_are_the_batch() -> None:
    split = load_data(TrialConfig.model_validate(CONFIG).data).train
    whole, *parts = (
        next(train_batches(split, batch_size=64, generator=torch.Generator().manual_seed(5), share=share))[1]
        for share in ((0, 1), (0, 2), (1, 2))
    )
    assert torch.stack(parts, dim=1).flatten().tolist() == whole.tolist()


@pytest.mark.slow
def test_train_under_torchrun_writes_one_run_and_goes_on(tmp_path: Path) -> None:
    space = tmp_path / "config.yaml"
    step = {"name": "twin", "optimizer": {"name": "sgd", "lr": 0.05}, "plan": {"epochs": 1}}  # both train it together
    space.write_text(json.dumps({**CONFIG, "distill": {"teacher": step}, "start": {**step, "activations": "binary"}}))
    words = ("-m", "bnnsearch", "train", "config.yaml", "--device", "cpu", "--no-track")
    ran = torchrun(*words, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("epoch 2/2") == 1
    assert ran.stdout.count("epoch 1/1 teacher train") == ran.stdout.count("epoch 1/1 start train") == 1
    assert ran.stdout.count("test set, read once") == 1
    saved = load_checkpoint(tmp_path / "trained" / "checkpoint.pt")
    assert saved["metrics"]["epoch"] == 2
    result = json.loads((tmp_path / "trained" / "result.json").read_text())
    assert result["test"]["test_acc"] > 0.5
    again = torchrun(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("holds a finished run already") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"name": "digits", "batch_size": 33}}, "a multiple of the number of processes, but is 33 with 2"),
        ({"model": {"name": "xor_mlp"}, "method": {"name": "naive"}}, "naive trains in one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    monkeypatch.setattr("bnnsearch.training.share", lambda: (0, 2))
    with pytest.raises(InputError, match=message):
        train(TrialConfig.model_validate({**CONFIG, **changes}), tmp_path)


@pytest.mark.parametrize("size", ["2", "two", ""])
def test_a_size_without_a_launcher_is_told(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    """As a shell on a cluster's node may have it."""
    monkeypatch.setenv("WORLD_SIZE", size)
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for device in ("cpu", "cuda"):
        told = pytest.raises(EnvironmentProblem, match=r"WORLD_SIZE is .*; call it by torchrun, or unset WORLD_SIZE")
        with told, joined(device):
            pass
