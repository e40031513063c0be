"""The gradient optimizer that moves latent and real-valued parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bnnsearch.config.base import PositiveFloat
from bnnsearch.config.families import OPTIMIZERS, Member

if TYPE_CHECKING:
    from torch.optim import Optimizer

Beta = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]


class OptimizerSettings(Member):
    """What every optimizer has.

    Attributes:
        lr: learning rate of the binary (latent or relaxed) weights; each has its own default.
        real_lr: learning rate of the real-valued parameters; None is `lr`.
        weight_decay: L2 penalty on real-valued weights with two or more dimensions; never on biases, norms and scales.
        binary_weight_decay: L2 penalty on the latent or relaxed binary weights.
    """

    kinds: ClassVar[tuple[str, ...]] = ("torch.optim:Optimizer",)

    real_lr: PositiveFloat | None = None
    weight_decay: NonNegative = 0.0
    binary_weight_decay: NonNegative = 0.0

    if TYPE_CHECKING:
        lr: float

    def build(self, groups: Sequence[dict[str, Any]], lr: float) -> Optimizer:
        """The optimizer over parameter groups in torch's form, at learning rate `lr`."""
        optimizer: Optimizer = self._built(groups, lr)
        return optimizer


class AdamConfig(OptimizerSettings):
    """Adam (Kingma & Ba, 2015).

    Attributes:
        lr: learning rate of the binary (latent or relaxed) weights.
        betas: decay of the first and second moment.
    """

    builder: ClassVar[str] = "bnnsearch.core.optimizers:adam"

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-2
    betas: tuple[Beta, Beta] = (0.9, 0.999)


class SgdConfig(OptimizerSettings):
    """Stochastic gradient descent with momentum; `lr` as in Adam."""

    builder: ClassVar[str] = "bnnsearch.core.optimizers:sgd"

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.1
    momentum: Beta = 0.9
    nesterov: bool = False


class SignumConfig(OptimizerSettings):
    """Signum: steps of size `lr` along the sign of the momentum (Bernstein et al., 2018)."""

    builder: ClassVar[str] = "bnnsearch.core.optimizers:signum"

    name: Literal["signum"] = "signum"
    lr: PositiveFloat = 1e-4
    momentum: Beta = 0.9


OptimizerConfig = Annotated[OptimizerSettings, OPTIMIZERS]
