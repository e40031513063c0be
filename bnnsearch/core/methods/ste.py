"""Straight-through estimator: latent weights w~, binary in the forward pass (BinaryConnect; BNEW paper, eq. 4).

    w = sign(w~),   w~ <- clip(w~ - eta dl/dw, -1, 1)

with the direction of the optimizer in place of dl/dw.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.method import SteConfig
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.binarize import binarise
from bnnsearch.core.methods.base import Progress, Seen, after_step, clip_
from bnnsearch.core.optimizers import binary_optimizer


class Ste:
    """The straight-through estimator."""

    seen: Seen = "signs"
    rate_name = "lr"

    def __init__(self, config: SteConfig, optimizer: OptimizerSettings) -> None:
        self._config = config
        self._optimizer = optimizer

    def start(self, weights: Sequence[Parameter]) -> None:
        if self._config.clip:
            clip_(weights)

    def view(self, weight: Tensor) -> Tensor:
        return binarise(weight, self._config.gradient)

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer:
        optimizer = binary_optimizer(self._optimizer, weights)
        return after_step(optimizer, lambda: clip_(weights)) if self._config.clip else optimizer

    def anneal(self, progress: Progress) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}
