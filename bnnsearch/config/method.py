"""Gradient methods: how binary weights are seen by the forward pass and moved by the backward pass.

A run is a sequence of phases: `pretrain` (binary activations, real weights in [-1, 1]), the method itself, and, for
methods that approach +-1 gradually, `finetune` (weights frozen at their signs). The method has the epochs that the
other two leave of `plan.epochs`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import Fraction, PositiveFloat, Settings
from bnnsearch.config.evolution import EvolutionMethod

Epochs = Annotated[int, Field(ge=0)]


class SteConfig(Settings):
    """Straight-through estimator: latent weights, sign in the forward pass (BNEW paper, eq. 4).

    Attributes:
        pretrain_epochs: epochs with real weights before.
        gradient: derivative of sign for weights; `identity` is the paper's, `ste` masks |w| > 1 as Bi-Real net does.
        clip: clip the latent weights to [-1, 1] after each step; ReCU's reference code does not.
    """

    name: Literal["ste"] = "ste"
    pretrain_epochs: Epochs = 0
    gradient: Literal["identity", "ste", "polynomial"] = "identity"
    clip: bool = True


class BmdConfig(Settings):
    """Mirror descent: weights tanh(beta w) with beta = rate^epoch (Ajanthan et al., 2021; BNEW paper, eq. 6).

    Attributes:
        pretrain_epochs: epochs with real weights before.
        finetune_epochs: last epochs, with the weights frozen at their signs.
        rate: growth of beta per epoch.
        form: `dual` keeps latent weights (the BNEW paper); `primal` keeps tanh itself and steps to
            tanh(atanh(w) - beta step) (the mirror-descent reference code).
    """

    name: Literal["bmd"] = "bmd"
    pretrain_epochs: Epochs = 0
    finetune_epochs: Epochs = 20
    rate: Annotated[float, Field(gt=1, le=100)] = 1.01
    form: Literal["dual", "primal"] = "dual"


class BopConfig(Settings):
    """Binary optimizer: flips weights whose mean gradient shares their sign and passes a threshold (Helwegen, 2019).

    Attributes:
        pretrain_epochs: epochs with real weights before; BOP then starts from their signs.
        gamma: rate of the moving average; follows the plan's schedule.
        threshold: magnitude of the mean gradient that flips.
    """

    name: Literal["bop"] = "bop"
    pretrain_epochs: Epochs = 0
    gamma: Annotated[float, Field(gt=0, le=1)] = 1e-4
    threshold: Annotated[float, Field(ge=0)] = 1e-8


class Bop2Config(Settings):
    """Second-order BOP: the mean gradient is divided by its root mean square (Suarez-Ramirez et al., 2021).

    Attributes:
        pretrain_epochs: epochs with real weights before; BOP then starts from their signs.
        gamma: rate of the first moment; follows the plan's schedule.
        sigma: rate of the second moment.
        threshold: normalised mean gradient that flips.
        bias_correction: divide both moments by 1 - (1 - rate)^t, as Adam does.
    """

    name: Literal["bop2"] = "bop2"
    pretrain_epochs: Epochs = 0
    gamma: Annotated[float, Field(gt=0, le=1)] = 1e-6
    sigma: Annotated[float, Field(gt=0, le=1)] = 1e-2
    threshold: Annotated[float, Field(ge=0)] = 1e-6
    bias_correction: bool = False


class ProxquantConfig(Settings):
    """ProxQuant: after each step a proximal step towards the nearer of +-1 (Bai et al., 2019).

    Attributes:
        pretrain_epochs: epochs with real weights before.
        finetune_epochs: last epochs, with the weights frozen at their signs.
        penalty: distance to +-1 that is penalised.
        reg_rate: the proximal step's strength is lr * reg_rate * epoch.
        l1_step: what the l1 step moves: the `full` strength (both reference codes) or `half` of it, which follows from
            BNEW paper, eq. 9, where the factor 1/2 is missing.
    """

    name: Literal["proxquant"] = "proxquant"
    pretrain_epochs: Epochs = 0
    finetune_epochs: Epochs = 100
    penalty: Literal["l1", "l2"] = "l1"
    reg_rate: PositiveFloat = 1e-4
    l1_step: Literal["full", "half"] = "full"


class BnewConfig(Settings):
    """BNEW: pretrain with real weights, push them to +-1 by a concave regulariser, freeze and fine-tune.

    Attributes:
        pretrain_epochs: epochs with binary activations and real weights in [-1, 1].
        finetune_epochs: last epochs, with the weights frozen at their signs.
        lambda_rate: slope of lambda_t = t * lambda_rate.
        time: unit of t: `epoch` counts epochs of the quantisation phase; `phase` is the fraction of it that has passed
            (the reference code), for which `lambda_rate` must grow as the phase gets shorter.
        step: `approximate` is (1 + 2 lambda eta)(w - eta g), eq. 12; `exact` divides by (1 - 2 lambda eta) instead.
        order: `prox_last` regularises after the gradient step (the paper); `prox_first` before it (the reference code).
        scaled_by_lr: multiply lambda by the current learning rate eta (the paper); the reference code does not.
        until_binary: end the quantisation phase once this share of the weights is binary; the run is then shorter.
    """

    name: Literal["bnew"] = "bnew"
    pretrain_epochs: Epochs = 200
    finetune_epochs: Epochs = 20
    lambda_rate: PositiveFloat = 1e-2
    time: Literal["epoch", "phase"] = "epoch"
    step: Literal["approximate", "exact"] = "approximate"
    order: Literal["prox_last", "prox_first"] = "prox_last"
    scaled_by_lr: bool = True
    until_binary: Fraction | None = None


GradientMethod = SteConfig | BmdConfig | BopConfig | Bop2Config | ProxquantConfig | BnewConfig
MethodConfig = Annotated[GradientMethod | EvolutionMethod, Field(discriminator="name")]


def method_epochs(method: GradientMethod, epochs: int) -> int:
    """Epochs of a run of `epochs` that are left to the method's own phase.

    Raises:
        ValueError: none are left.
    """
    pretrain = method.pretrain_epochs
    finetune = 0 if isinstance(method, SteConfig | BopConfig | Bop2Config) else method.finetune_epochs
    if pretrain + finetune >= epochs:
        raise ValueError(
            "method.pretrain_epochs + method.finetune_epochs < plan.epochs must hold, "
            f"but got {pretrain} + {finetune} >= {epochs}"
        )
    return epochs - pretrain - finetune
