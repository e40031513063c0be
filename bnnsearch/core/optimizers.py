"""Gradient optimizers from their settings, and Signum, which torch lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import SGD, Adam, Optimizer

from bnnsearch.config.optimizer import AdamConfig, OptimizerSettings, SgdConfig, SignumConfig

Groups = Sequence[dict[str, Any]]
"""Parameter groups in torch's form."""


class Signum(Optimizer):
    """Momentum sign descent, m <- momentum m + (1 - momentum) g, w <- w - lr sgn(m) (Bernstein et al., 2018).

    Here sgn(0) = 0: without a gradient nothing moves.
    """

    def __init__(self, params: Any, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; closures are not taken."""
        assert closure is None, "Signum evaluates no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                gradient = weight.grad.add(weight, alpha=group["weight_decay"])
                momentum: Tensor = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(gradient, 1 - group["momentum"])
                weight.sub_(momentum.sgn(), alpha=group["lr"])


def adam(config: AdamConfig, groups: Groups, lr: float) -> Optimizer:
    """Torch's Adam."""
    return Adam(groups, lr=lr, betas=config.betas, fused=True)


def sgd(config: SgdConfig, groups: Groups, lr: float) -> Optimizer:
    """Torch's SGD."""
    return SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)


def signum(config: SignumConfig, groups: Groups, lr: float) -> Optimizer:
    """Signum."""
    return Signum(groups, lr, momentum=config.momentum)


def binary_optimizer(config: OptimizerSettings, weights: Sequence[Parameter]) -> Optimizer:
    """The optimizer of latent or relaxed binary weights."""
    return config.build([{"params": list(weights), "weight_decay": config.binary_weight_decay}], config.lr)


def real_optimizer(config: OptimizerSettings, model: nn.Module, binary: Sequence[Parameter]) -> Optimizer:
    """The optimizer of every parameter of `model` that is not among `binary`; only matrices and kernels decay."""
    taken = {id(weight) for weight in binary}
    real = [parameter for parameter in model.parameters() if id(parameter) not in taken]
    decayed = [parameter for parameter in real if parameter.squeeze().ndim >= 2]
    others = [parameter for parameter in real if parameter.squeeze().ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return config.build([group for group in groups if group["params"]], config.real_lr or config.lr)


def set_lr_factor(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times the one it was built with."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
