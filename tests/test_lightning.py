"""A LightningModule, searched like our own runs: it goes on bit by bit, is stopped, trained and packed."""

from __future__ import annotations

import signal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from guest_fixtures import call, nobody  # noqa: F401

from bnnsearch.config.guests import use
from bnnsearch.config.trial import OwnTrialConfig, trial_of
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.own import DeclaredTrainer
from bnnsearch.packed.model import PackedModel
from bnnsearch.space import load_space
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import resume_study, run_study

pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODULE = """
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.trainer import LightningSettings
from bnnsearch.core.data import load_data
from bnnsearch.core.layers import BinaryLinear, Sign
from bnnsearch.packed.model import PackedModel


class DigitsData(LightningDataModule):
    def __init__(self):
        super().__init__()
        self.digits = load_data(DigitsConfig(train_limit=200))

    def loader(self, split, shuffle=False):
        return DataLoader(TensorDataset(split.images.float() / 255, split.labels), 64, shuffle=shuffle)

    def train_dataloader(self):
        return self.loader(self.digits.train, shuffle=True)

    def val_dataloader(self):
        return self.loader(self.digits.val)

    def test_dataloader(self):
        return self.loader(self.digits.test)


class Net(LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), Sign(), nn.Dropout(0.1), BinaryLinear(64, width), nn.BatchNorm1d(width),
                                 nn.Linear(width, 10))

    def training_step(self, batch, index):
        images, labels = batch
        loss = cross_entropy(self.net(images - 0.5), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("grad/norm", 1.0)
        return loss

    def validation_step(self, batch, index):
        self.log("val/accuracy", (self.net(batch[0] - 0.5).argmax(1) == batch[1]).float().mean())

    def test_step(self, batch, index):
        self.log("test_acc", (self.net(batch[0] - 0.5).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        adam = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        steps = int(self.trainer.estimated_stepping_batches)  # of the whole run
        schedule = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=self.hparams.lr, total_steps=steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def packed_model(self):
        layers = [each for each in self.net.eval() if not isinstance(each, nn.Dropout)]
        return PackedModel.from_module(nn.Sequential(*layers), shape=(1, 8, 8), mean=(0.5,), std=(1.0,))


class LitConfig(LightningSettings):
    metrics: ClassVar = ("val_acc", "params")
    logged: ClassVar = {"val_acc": "val/accuracy"}

    name: Literal["lit"] = "lit"
    width: int = 32
    lr: float = 0.02
    patience: int = 0

    def module(self):
        return Net(self.width, self.lr)

    def data(self):
        return DigitsData()

    def costs(self):
        return {"params": 75 * self.width + 10}

    def options(self) -> dict[str, Any]:
        if not self.patience:
            return {}
        return {"callbacks": [EarlyStopping("val/accuracy", mode="max", patience=self.patience, min_delta=1)]}
"""
SPACE = """
version: 1
name: lit
use: [./lit.py]
objectives: [{metric: val_acc, mode: max}, {metric: params, mode: min}]
scheduler: {name: asha, grace_epochs: 1}
resources: {max_concurrent: 1}
budget: {trials: 4}
retries: 0
trial:
  trainer:
    name: lit
    epochs: 3
    width: {type: lograndint, min: 8, max: 64}
    lr: {type: loguniform, min: 0.001, max: 0.1}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module, where commands are called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lit.py").write_text(MODULE)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def trainer(home: Path, **settings: Any) -> DeclaredTrainer:
    use(["./lit.py"], home)
    config = trial_of({"trainer": {"name": "lit", "epochs": 4, **settings}})
    assert isinstance(config, OwnTrialConfig)
    return DeclaredTrainer(config.trainer, seed=3, device="cpu")


def test_a_broken_off_run_goes_on_bit_by_bit_from_its_checkpoint(home: Path) -> None:
    random_numbers = torch.get_rng_state()
    whole = trainer(home)
    epochs = list(whole.fit())
    assert [each.epoch for each in epochs] == [1, 2, 3, 4]
    assert all(each.values.keys() == {"val_acc", "train_loss"} for each in epochs)
    assert epochs[-1].values["val_acc"] > 0.6
    first, second = trainer(home), trainer(home)
    began = list(islice(first.fit(), 2))
    save_checkpoint(home / "checkpoint.pt", first.state_dict())  # it holds tensors and plain values alone
    second.load_state_dict(load_checkpoint(home / "checkpoint.pt"))
    assert [*began, *second.fit()] == epochs
    assert list(second.fit()) == []
    weights = [each.state_dict()["own"]["checkpoint"]["state_dict"] for each in (whole, second)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    assert whole.test() == second.test()
    assert torch.get_rng_state().equal(random_numbers)


def test_callbacks_of_its_own_end_a_run(home: Path) -> None:
    short = trainer(home, patience=1)
    assert [each.epoch for each in short.fit()] == [1, 2]
    again = trainer(home, patience=1)
    again.load_state_dict(short.state_dict())
    assert list(again.fit()) == []


def test_a_search_is_stopped_at_rungs_and_resumed(home: Path, small_ray: None) -> None:
    space = load_space("space.yaml", overrides=["budget.trials=2"])
    run_study(space, study_dir=home / "study", executor=LocalExecutor())
    outcome = resume_study(home / "study", executor=RayExecutor(), trials=4)
    assert {each.state for each in outcome.results} == {"complete", "pruned"}


def test_it_is_trained_packed_and_predicts_as_it_did(home: Path) -> None:
    (home / "config.yaml").write_text(yaml.safe_dump({"use": ["./lit.py"], "trainer": {"name": "lit", "epochs": 2}}))
    said = call("train", "config.yaml", "-o", "prod", "--no-track")
    assert "test_acc" in said
    call("pack", "prod", "-o", "lit.bnn")
    assert PackedModel.load(home / "lit.bnn").shape == (1, 8, 8)


def test_ctrl_c_is_not_made_an_exit_of(home: Path) -> None:
    (home / "lit.py").write_text(MODULE.replace("        images, labels = batch", "        raise KeyboardInterrupt"))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(trainer(home).fit())
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_lightning_it_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnsearch.config.trainer.find_spec", lambda name: None)
    (home / "config.yaml").write_text(yaml.safe_dump({"use": ["./lit.py"], "trainer": {"name": "lit"}}))
    said = call("train", "config.yaml", "-o", "prod", "--no-track", code=3)
    assert "trainer lit needs the package lightning: pip install 'bnnsearch[lightning]'" in said
