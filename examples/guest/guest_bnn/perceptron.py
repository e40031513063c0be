"""A trainer: a loop of one's own around a network of one binary layer, with a metric of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy

from bnnsearch.config.data import DataConfig, DigitsConfig
from bnnsearch.config.metrics import Metric
from bnnsearch.config.trainer import TrainerSettings
from bnnsearch.core.data import eval_batches, load_data
from bnnsearch.core.layers import BinaryLinear, Sign
from bnnsearch.packed.model import PackedModel

MARGIN = Metric("margin", "max", "", "lead of the true label", "after")


class PerceptronConfig(TrainerSettings):
    """Sign, binary layer of `width`, norm; Adam on the latent weights; any data set of its family."""

    builder: ClassVar[str] = "Perceptron"
    metrics: ClassVar[tuple[str | Metric, ...]] = ("val_acc", "params", MARGIN)

    name: Literal["perceptron"] = "perceptron"
    data: DataConfig = DigitsConfig()
    width: Annotated[int, Field(ge=1, le=4096)] = 64
    lr: Annotated[float, Field(gt=0, le=1)] = 0.01


class Perceptron:
    """The loop, and its state."""

    def __init__(self, config: PerceptronConfig, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self._data, self._generator = load_data(config.data, device=device), torch.Generator().manual_seed(seed)
        inputs = self._data.shape[0] * self._data.shape[1] * self._data.shape[2]
        layers = [nn.Flatten(), Sign(), BinaryLinear(inputs, config.width), nn.BatchNorm1d(config.width)]
        self._network = nn.Sequential(*layers, nn.Linear(config.width, self._data.classes)).to(device)
        self._adam = torch.optim.Adam(self._network.parameters(), lr=config.lr)

    def fit(self) -> Iterator[dict[str, float]]:
        """Epochs without end; whoever listens stops."""
        train = self._data.train
        while True:
            self._network.train()
            order = torch.randperm(len(train.labels), generator=self._generator)
            for images, labels in eval_batches(train.take(order), batch_size=64):
                self._adam.zero_grad()
                cross_entropy(self._network(images), labels).backward()
                self._adam.step()
            yield self._metrics()

    @torch.no_grad()
    def _metrics(self) -> dict[str, float]:
        self._network.eval()
        ((images, labels),) = eval_batches(self._data.val, batch_size=len(self._data.val.labels))
        logits = self._network(images)
        true = logits.gather(1, labels.view(-1, 1)).squeeze(1)
        others = logits.scatter(1, labels.view(-1, 1), -torch.inf).amax(1)
        return {"val_acc": float((true > others).float().mean()), "margin": float((true - others).mean())}

    def costs(self) -> dict[str, float]:
        return {"params": float(sum(weight.numel() for weight in self._network.parameters()))}

    def state_dict(self) -> dict[str, Any]:
        return {"net": self._network.state_dict(), "adam": self._adam.state_dict(), "rng": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["net"])
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["rng"])

    def packed_model(self) -> PackedModel:
        data, network = self._data, self._network.eval()
        return PackedModel.from_module(network, shape=data.shape, mean=data.mean, std=data.std, classes=data.names)
