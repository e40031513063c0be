"""BiPer: latent weights seen through a periodic function (Vargas et al., 2024).

    first stage    w = sin(omega w~)          real weights in [-1, 1]
    second stage   w = sign(sin(omega w~))

with the gradient omega cos(omega w~) in both: sign passes it straight through. A weight never saturates: it changes its
sign wherever it crosses a multiple of pi / omega. The second stage begins from the first's network, the best of its
epochs by validation as in the authors' code, and with a new learning-rate schedule.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import BiperConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import binarise
from bnnsearch.core.methods.base import Progress, Seen, Staged
from bnnsearch.core.optimizers import binary_optimizer


class Periodic:
    """One stage: sines of the latent weights, or the signs of these where it is `binary`."""

    rate_name = "lr"

    def __init__(self, config: BiperConfig, optimizer: OptimizerSettings, *, binary: bool) -> None:
        self.seen: Seen = "signs" if binary else "mapped"
        self._omega = config.omega
        self._optimizer = optimizer

    def start(self, weights: Sequence[Parameter]) -> None:
        pass

    def view(self, weight: Tensor) -> Tensor:
        sine = torch.sin(self._omega * weight)
        return binarise(sine, "identity") if self.seen == "signs" else sine

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        return binary_optimizer(self._optimizer, weights)

    def anneal(self, progress: Progress) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}


def build_biper(config: BiperConfig, optimizer: OptimizerSettings) -> Staged:
    """Both stages."""
    first, second = (Periodic(config, optimizer, binary=binary) for binary in (False, True))
    return Staged("periodic", config.first_share, first, config.pretrained, second)
