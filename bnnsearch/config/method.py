"""Gradient methods: how binary weights are seen by the forward pass and moved by the backward pass.

A run is a sequence of phases: `pretrain` (binary activations, real weights in [-1, 1]), the method itself, and, for
methods that approach +-1 gradually, `finetune` (weights frozen at their signs). The method has the epochs that the
other two leave of `plan.epochs`.

What grows with time can be given as a rate, which reaches further the longer the phase is, or by where it gets to over
the whole phase (`final_beta`, `pull`, `growth`), which means the same at any budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.base import Fraction, PositiveFloat, Settings
from bnnsearch.config.families import METHODS, Member
from bnnsearch.config.metrics import GRADIENTS, Reporter
from bnnsearch.config.optimizer import OptimizerSettings

if TYPE_CHECKING:
    from bnnsearch.config.trial import TrialConfig
    from bnnsearch.core.methods.base import Method, Staged
    from bnnsearch.core.teacher import RunBuilder
    from bnnsearch.core.trainer import Trainer

Epochs = Annotated[int, Field(ge=0)]


class MethodSettings(Member):
    """How a run trains: by gradients or by evolution.

    Attributes:
        reporter: what its trials report.
        shares: whether several processes can share the work of a run.
    """

    reporter: ClassVar[Reporter]
    shares: ClassVar[bool] = False

    def build_trainer(self, config: TrialConfig, runs: RunBuilder) -> Trainer:
        """The trainer of the run `config` at its very beginning, on the data set and the device of `runs`."""
        raise NotImplementedError


class GradientMethod(MethodSettings):
    """What every gradient method has.

    Attributes:
        pretrain_epochs: epochs with real weights in [-1, 1] before; BOP starts from their signs.
        pretrained: which pretrained network the method starts from: the `best` by validation with its real weights (the
            authors of BNEW), or the `last`.
    """

    kinds: ClassVar[tuple[str, ...]] = ("bnnsearch.core.methods.base:Method", "bnnsearch.core.methods.base:Staged")
    reporter: ClassVar[Reporter] = GRADIENTS
    shares: ClassVar[bool] = True

    own_phase: ClassVar[Literal["train", "quantise"]] = "train"
    """What the method's own phase is called."""

    two_valued: ClassVar[bool] = False
    """Whether it gives every filter two values of its own in the place of +-1; these are exported and packed."""

    pretrain_epochs: Epochs = 0
    pretrained: Literal["best", "last"] = "best"

    @property
    def latent(self) -> bool:
        """Whether it keeps latent weights, which a rectified clamp can act on."""
        return False

    @property
    def frozen_epochs(self) -> int:
        """Last epochs of a run, with the weights frozen at their signs."""
        return 0

    @property
    def ends_at(self) -> float | None:
        """Share of binary weights that ends the method's own phase; None is its planned end."""
        return None

    @property
    def estimates(self) -> bool:
        """Whether it estimates the gradient of the signs of activations too, in the place of `model.sign_gradient`."""
        return False

    def build(self, optimizer: OptimizerSettings) -> Method | Staged:
        """The method of its own phase; `optimizer` moves the weights where the method has no optimizer of its own."""
        method: Method | Staged = self._built(optimizer)
        return method

    def build_trainer(self, config: TrialConfig, runs: RunBuilder) -> Trainer:
        return runs.trainer(config)


class GradualMethod(GradientMethod):
    """What methods have that approach +-1 gradually.

    Attributes:
        finetune_epochs: last epochs, with the weights frozen at their signs.
    """

    own_phase: ClassVar[Literal["train", "quantise"]] = "quantise"

    finetune_epochs: Epochs = 20

    @property
    def frozen_epochs(self) -> int:
        return self.finetune_epochs


class SteConfig(GradientMethod):
    """Straight-through estimator: latent weights, sign in the forward pass (BNEW paper, eq. 4).

    Attributes:
        gradient: derivative of sign for weights; `identity` is the paper's, `ste` masks |w| > 1 as Bi-Real net does.
        clip: clip the latent weights to [-1, 1] after each step; ReCU's reference code does not.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.ste:Ste"

    name: Literal["ste"] = "ste"
    gradient: Literal["identity", "ste", "polynomial"] = "identity"
    clip: bool = True

    @property
    def latent(self) -> bool:
        return True


class BmdConfig(GradualMethod):
    """Mirror descent: weights tanh(beta w) with beta = rate^epoch (Ajanthan et al., 2021; BNEW paper, eq. 6).

    Attributes:
        rate: growth of beta per epoch; None is 1.01, the paper's, unless `final_beta` is given. Over the paper's 1,000
            epochs beta ends near 2e4; over 100 epochs the same rate ends at 2.7, far from sign.
        final_beta: beta at the end of the phase, to which it grows by the same factor every step, in place of `rate`.
        form: `dual` keeps latent weights (the BNEW paper); `primal` keeps tanh itself and steps to
            tanh(atanh(w) - beta step) (the mirror-descent reference code).
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.bmd:build_bmd"

    name: Literal["bmd"] = "bmd"
    rate: Annotated[float, Field(gt=1, le=100)] | None = None
    final_beta: Annotated[float, Field(gt=1, le=1e35)] | None = None
    form: Literal["dual", "primal"] = "dual"

    @property
    def latent(self) -> bool:
        return self.form == "dual"

    @model_validator(mode="after")
    def _one_speed(self) -> Self:
        _only_one(self, "final_beta", "rate")
        return self


class BopConfig(GradientMethod):
    """Binary optimizer: flips weights whose mean gradient shares their sign and passes a threshold (Helwegen, 2019).

    Attributes:
        gamma: rate of the moving average; follows the plan's schedule.
        threshold: magnitude of the mean gradient that flips.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.bop:Bop"

    name: Literal["bop"] = "bop"
    gamma: Annotated[float, Field(gt=0, le=1)] = 1e-4
    threshold: Annotated[float, Field(ge=0)] = 1e-8


class Bop2Config(GradientMethod):
    """Second-order BOP: the mean gradient is divided by its root mean square (Suarez-Ramirez et al., 2021).

    Attributes:
        gamma: rate of the first moment; follows the plan's schedule.
        sigma: rate of the second moment.
        threshold: normalised mean gradient that flips.
        bias_correction: divide both moments by 1 - (1 - rate)^t, as Adam does.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.bop:Bop"

    name: Literal["bop2"] = "bop2"
    gamma: Annotated[float, Field(gt=0, le=1)] = 1e-6
    sigma: Annotated[float, Field(gt=0, le=1)] = 1e-2
    threshold: Annotated[float, Field(ge=0)] = 1e-6
    bias_correction: bool = False


class ProxquantConfig(GradualMethod):
    """ProxQuant: after each step a proximal step towards the nearer of +-1 (Bai et al., 2019).

    Attributes:
        penalty: distance to +-1 that is penalised.
        reg_rate: the proximal step's strength is lr * reg_rate * epoch; None is 1e-4, the paper's, unless `pull` is
            given. What it amounts to grows with the square of the phase's length and with the steps of an epoch.
        pull: sum of the strengths of all steps of the phase, in place of `reg_rate`: how far the l1 step alone moves a
            weight that has not arrived. The paper's settings amount to 7 over 200 epochs of 351 steps at lr 0.01.
        l1_step: what the l1 step moves: the `full` strength (both reference codes) or `half` of it, which follows from
            BNEW paper, eq. 9, where the factor 1/2 is missing.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.proxquant:Proxquant"

    name: Literal["proxquant"] = "proxquant"
    finetune_epochs: Epochs = 100
    penalty: Literal["l1", "l2"] = "l1"
    reg_rate: PositiveFloat | None = None
    pull: PositiveFloat | None = None
    l1_step: Literal["full", "half"] = "full"

    @model_validator(mode="after")
    def _one_strength(self) -> Self:
        _only_one(self, "pull", "reg_rate")
        return self


class BnewConfig(GradualMethod):
    """BNEW: pretrain with real weights, push them to +-1 by a concave regulariser, freeze and fine-tune.

    The paper says lambda_t = t lambda_rate and leaves the unit of t open. The defaults are those of the authors' code:
    t is the fraction of the quantisation phase, and lambda_t is multiplied by the base learning rate. With t in epochs
    and the rate of 1,000 epochs every weight is binary, and no sign moves any more, after a tenth of the phase.

    Attributes:
        lambda_rate: slope of lambda_t = t * lambda_rate; None is 0.01, the paper's, unless `growth` is given. It has to
            grow as the phase gets shorter.
        growth: nats by which the regulariser alone grows a weight over the whole phase, in place of `lambda_rate`: step
            i of n multiplies by e^(growth (2 i + 1) / n^2), whatever n is. The authors' settings amount to 34 nats.
        time: unit of t: `phase` is the fraction of the phase that has passed; `epoch` counts its epochs.
        eta: what lambda is multiplied by: `base`, the optimizer's lr, constant (the authors' code, whose one number is
            lr * lambda_rate); `current`, the scheduled learning rate (eq. 12 as printed); `one`, nothing.
        step: `approximate` is (1 + 2 lambda eta)(w - eta g), eq. 12; `exact` divides by (1 - 2 lambda eta) instead.
        order: `prox_last` regularises after the gradient step (the paper); `prox_first` before it (the authors' code on
            CIFAR).
        until_binary: end the quantisation phase once this share of the weights is binary; the run is then shorter.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.bnew:Bnew"

    name: Literal["bnew"] = "bnew"
    pretrain_epochs: Epochs = 200
    lambda_rate: PositiveFloat | None = None
    growth: PositiveFloat | None = None
    time: Literal["phase", "epoch"] = "phase"
    eta: Literal["base", "current", "one"] = "base"
    step: Literal["approximate", "exact"] = "approximate"
    order: Literal["prox_last", "prox_first"] = "prox_last"
    until_binary: Fraction | None = None

    @property
    def ends_at(self) -> float | None:
        return self.until_binary

    @model_validator(mode="after")
    def _one_strength(self) -> Self:
        if self.growth is not None:
            for name in ("time", "eta", "step"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"growth says by how much weights grow in all, so that {name} {getattr(self, name)} has no "
                        f"effect: give either growth or lambda_rate with {name}"
                    )
        _only_one(self, "growth", "lambda_rate")
        return self


class DecaySettings(GradientMethod):
    """What methods have that estimate sign by a steepening tanh (Qin et al., 2020).

    Attributes:
        t_min: steepness of the estimate's derivative k t (1 - tanh^2(t x)) at the beginning of the phase.
        t_max: steepness at its end; t grows by the same factor every step.
    """

    t_min: PositiveFloat = 0.1
    t_max: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _steepens(self) -> Self:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min <= t_max must hold, but got {self.t_min:g} > {self.t_max:g}")
        return self


class IrnetConfig(DecaySettings):
    """IR-Net: weights standardised per filter, a power-of-two scale, the error decay estimator (Qin et al., 2020).

    Attributes:
        activations: whether the estimator is that of the signs of activations too, as in the paper; without, they have
            `model.sign_gradient`.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.irnet:Irnet"
    two_valued: ClassVar[bool] = True

    name: Literal["irnet"] = "irnet"
    activations: bool = True

    @property
    def estimates(self) -> bool:
        return self.activations


class ResteConfig(GradientMethod):
    """ReSTE: the gradient of sign from the power function sign(x) |x|^(1/o), o growing from 1 (Wu et al., 2023).

    Attributes:
        o_end: o at the end of the phase, to which it grows by a cosine; 1 is the clipped straight-through estimator.
        bound: magnitude beyond which the gradient is 0.
        chord: magnitude below which the power, whose slope has no bound at 0, is replaced by its chord.
        activations: whether the estimator is that of the signs of activations too, as in the authors' code; without,
            they have `model.sign_gradient`.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.reste:Reste"

    name: Literal["reste"] = "reste"
    o_end: Annotated[float, Field(ge=1, le=100)] = 3.0
    bound: PositiveFloat = 1.5
    chord: PositiveFloat = 0.1
    activations: bool = True

    @property
    def estimates(self) -> bool:
        return self.activations

    @model_validator(mode="after")
    def _chord_is_within_the_bound(self) -> Self:
        if self.chord > self.bound:
            raise ValueError(f"chord <= bound must hold, but got {self.chord:g} > {self.bound:g}")
        return self


class BiperConfig(GradientMethod):
    """BiPer: weights sin(omega w), then their signs, with the gradient omega cos(omega w) (Vargas et al., 2024).

    Attributes:
        pretrain_epochs: 0; the first stage is its own.
        pretrained: which network of the first stage the second starts from: the `best` by validation with weights
            sin(omega w) (the authors), or the `last`.
        omega: the frequency; 20 is that of the authors' ResNet-18.
        first_share: share of the epochs with weights sin(omega w); the authors have 600 of 900.
    """

    builder: ClassVar[str] = "bnnsearch.core.methods.biper:build_biper"

    name: Literal["biper"] = "biper"
    omega: Annotated[float, Field(gt=0, le=1000)] = 20.0
    first_share: Annotated[float, Field(ge=0, lt=1)] = 2 / 3

    @model_validator(mode="after")
    def _first_stage_is_its_own(self) -> Self:
        if self.pretrain_epochs > 0:
            raise ValueError(
                "biper begins with a stage of its own, first_share of its epochs, so that pretrain_epochs must be 0, "
                f"but got {self.pretrain_epochs}"
            )
        return self


class AdabinConfig(DecaySettings):
    """AdaBin: two values per filter, mean +- deviation, in the place of +-1 (Tu et al., 2022)."""

    builder: ClassVar[str] = "bnnsearch.core.methods.adabin:Adabin"
    two_valued: ClassVar[bool] = True

    name: Literal["adabin"] = "adabin"


MethodConfig = Annotated[MethodSettings, METHODS]


def method_epochs(method: GradientMethod, epochs: int) -> int:
    """Epochs of a run of `epochs` that are left to the method's own phase.

    Raises:
        ValueError: none are left.
    """
    pretrain, finetune = method.pretrain_epochs, method.frozen_epochs
    if pretrain + finetune >= epochs:
        raise ValueError(
            "method.pretrain_epochs + method.finetune_epochs < plan.epochs must hold, "
            f"but got {pretrain} + {finetune} >= {epochs}"
        )
    return epochs - pretrain - finetune


def _only_one(settings: Settings, whole: str, rate: str) -> None:
    """Refuse two ways to say the same."""
    reached, speed = getattr(settings, whole), getattr(settings, rate)
    if reached is not None and speed is not None:
        raise ValueError(
            f"{whole} takes the place of {rate}, so that only one can be given, "
            f"but got {whole} {reached:g} and {rate} {speed:g}"
        )
