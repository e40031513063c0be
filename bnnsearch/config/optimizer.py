"""The gradient optimizer that moves latent and real-valued parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import PositiveFloat, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class _Optimizer(Settings):
    """What every optimizer has.

    Attributes:
        real_lr: learning rate of the real-valued parameters; None is `lr`.
        weight_decay: L2 penalty on real-valued weights with two or more dimensions; never on biases, norms and scales.
        binary_weight_decay: L2 penalty on the latent or relaxed binary weights.
    """

    real_lr: PositiveFloat | None = None
    weight_decay: NonNegative = 0.0
    binary_weight_decay: NonNegative = 0.0


class AdamConfig(_Optimizer):
    """Adam (Kingma & Ba, 2015).

    Attributes:
        lr: learning rate of the binary (latent or relaxed) weights.
        betas: decay of the first and second moment.
    """

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-2
    betas: tuple[Beta, Beta] = (0.9, 0.999)


class SgdConfig(_Optimizer):
    """Stochastic gradient descent with momentum; `lr` as in Adam."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: Beta = 0.9
    nesterov: bool = False


class SignumConfig(_Optimizer):
    """Signum: steps of size `lr` along the sign of the momentum (Bernstein et al., 2018)."""

    name: Literal["signum"] = "signum"
    lr: PositiveFloat = 1e-4
    momentum: Beta = 0.9


OptimizerConfig = Annotated[AdamConfig | SgdConfig | SignumConfig, Field(discriminator="name")]
