"""A small network, the digits, and training runs over them, for the tests of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import Dataset, load_data
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, RSign, Scale, Sign
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.trainer import EpochMetrics


@cache
def digits() -> Dataset:
    return load_data(DigitsConfig())


def small_network(*, scale: Scale = "none", seed: int = 0) -> nn.Sequential:
    """One binary convolution and one binary linear layer between a real stem and a real classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            Sign(),
            BinaryConv2d(16, 32, 3, 2, 1, scale=scale),
            nn.BatchNorm2d(32),
            RSign(32),
            nn.Flatten(),
            BinaryLinear(512, 64, scale=scale),
            nn.BatchNorm1d(64),
            nn.Hardtanh(),
            nn.Linear(64, 10),
        )


def trial(method: dict[str, Any], *, epochs: int = 6, **sections: Any) -> TrialConfig:
    """A run of `method` on the digits; `sections` go into the trial as they are, `plan` on top of `epochs`."""
    plan = {"epochs": epochs, **sections.pop("plan", {})}
    tree = {
        "data": {"name": "digits", "batch_size": 64},
        "model": {"name": "mlp"},
        "method": method,
        "seed": 1,
    }
    return TrialConfig.model_validate({**tree, **sections, "plan": plan})


def trainer(config: TrialConfig, network: nn.Sequential | None = None, *, device: str = "cpu") -> GradientTrainer:
    data = digits()
    there = replace(data, train=data.train.to(device), val=data.val.to(device), test=data.test.to(device))
    return GradientTrainer(config, data=there, model=network or small_network(), device=device)


def repeatable(metrics: Iterable[EpochMetrics]) -> list[tuple[Any, ...]]:
    """Everything of the metrics but speed."""
    return [
        (
            epoch.epoch,
            epoch.epochs,
            epoch.phase,
            {name: value for name, value in epoch.values.items() if name != "images_per_s"},
            epoch.layers,
        )
        for epoch in metrics
    ]
