"""The gradient optimizer that moves latent and real-valued parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import Fraction, PositiveFloat, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class AdamConfig(Settings):
    """Adam (Kingma & Ba, 2015).

    Attributes:
        lr: learning rate of the binary (latent or relaxed) weights.
        real_lr: learning rate of the real-valued parameters; None is `lr`.
        betas: decay of the first and second moment.
        weight_decay: L2 penalty on real-valued weights with two or more dimensions; never on binary weights, biases, norms.
    """

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-2
    real_lr: PositiveFloat | None = None
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: NonNegative = 0.0


class SgdConfig(Settings):
    """Stochastic gradient descent with momentum; `lr`, `real_lr` and `weight_decay` as in Adam."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.1
    real_lr: PositiveFloat | None = None
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


OptimizerConfig = Annotated[AdamConfig | SgdConfig, Field(discriminator="name")]
