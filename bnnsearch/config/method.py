"""Gradient methods: how binary weights are seen by the forward pass and moved by the backward pass."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import Fraction, PositiveFloat, Settings

Epochs = Annotated[int, Field(ge=0)]


class SteConfig(Settings):
    """Straight-through estimator: latent weights, sign in the forward pass, clip to [-1, 1] (BNEW paper, eq. 4)."""

    name: Literal["ste"] = "ste"


class BnewConfig(Settings):
    """BNEW: pretrain with real weights, push them to +-1 by a concave regulariser, freeze and fine-tune.

    The epochs of the quantisation phase are what `plan.epochs` leaves after the other two phases.

    Attributes:
        pretrain_epochs: epochs with binary activations and real weights in [-1, 1].
        finetune_epochs: last epochs, with the weights frozen at their signs.
        lambda_rate: slope of lambda_t = t * lambda_rate, t in epochs of the quantisation phase.
        step: `approximate` is (1 + 2 lambda eta)(w - eta g), eq. 12; `exact` divides by (1 - 2 lambda eta) instead.
        order: `prox_last` regularises after the gradient step (the paper); `prox_first` before it (the CIFAR reference code).
    """

    name: Literal["bnew"] = "bnew"
    pretrain_epochs: Epochs = 200
    finetune_epochs: Epochs = 20
    lambda_rate: PositiveFloat = 1e-2
    step: Literal["approximate", "exact"] = "approximate"
    order: Literal["prox_last", "prox_first"] = "prox_last"


MethodConfig = Annotated[SteConfig | BnewConfig, Field(discriminator="name")]

__all__ = ["BnewConfig", "Fraction", "MethodConfig", "SteConfig"]
