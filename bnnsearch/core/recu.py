"""ReCU over a training run: the schedule of tau, and the transform it drives (Xu et al., 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bnnsearch.config.recu import RecuConfig
from bnnsearch.core.binarize import rectified_clamp


def tau_at(tau: tuple[float, float], fraction: float) -> float:
    """Tau after `fraction` of a run: a exp(fraction) + b with tau[0] at 0 and tau[1] at 1 (Xu et al., 2021, eq. 19)."""
    a = (tau[1] - tau[0]) / (math.e - 1)
    return a * math.exp(fraction) + tau[0] - a


class Recu:
    """The rectified clamp of latent weights at the run's current tau."""

    def __init__(self, config: RecuConfig) -> None:
        self._config = config
        self.tau = torch.tensor(config.tau[0])

    def __call__(self, weight: Tensor) -> Tensor:
        return rectified_clamp(weight, self.tau, self._config.quantile)

    def anneal(self, fraction: float) -> None:
        """Set tau for `fraction` of the run having passed."""
        self.tau.fill_(tau_at(self._config.tau, fraction))

    def state(self) -> dict[str, float]:
        """Tau as it stands."""
        return {"tau": float(self.tau)}
