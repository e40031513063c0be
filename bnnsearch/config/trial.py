"""`TrialConfig`: one YAML file, one training run, nothing implied."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from bnnsearch.config.base import Settings
from bnnsearch.config.data import DataConfig
from bnnsearch.config.distill import DistillConfig, StartConfig
from bnnsearch.config.evolution import MOST_SHIFT, MOST_VOTES, EvolutionMethod
from bnnsearch.config.families import METHODS
from bnnsearch.config.method import GradientMethod, MethodConfig, method_epochs
from bnnsearch.config.metrics import Reporter, reporter_of
from bnnsearch.config.model import BinarySettings, ModelConfig
from bnnsearch.config.optimizer import AdamConfig, OptimizerConfig
from bnnsearch.config.plan import PlanConfig, check_class_weights
from bnnsearch.config.precision import PrecisionConfig
from bnnsearch.config.recu import RecuConfig
from bnnsearch.config.trainer import TrainerConfig


class Trial(Settings):
    """What every training run tells of itself, whoever trains it."""

    if TYPE_CHECKING:  # fields of each, where its files have them
        name: str | None
        seed: int | None
        use: tuple[str, ...]

    @property
    def epochs(self) -> int:
        """Of the whole run."""
        raise NotImplementedError

    @property
    def reporter(self) -> Reporter:
        """Who trains it, and what is reported."""
        raise NotImplementedError

    @property
    def pretrain_epochs(self) -> int:
        """How many of the epochs are pretraining, which others may share."""
        return 0

    @property
    def batch_size(self) -> int | None:
        """Images per step, where a smaller one may fit into memory; None where that is not ours to change."""
        return None

    @property
    def trains_alone(self) -> str | None:
        """Who trains it, where several processes cannot share the work; None where they can."""
        return None

    @property
    def known_network(self) -> tuple[BinarySettings, tuple[int, int, int], int] | None:
        """Its network of binary layers, (C, H, W) of the images and the classes; None unless known without the data."""
        return None


class TrialConfig(Trial):
    """One training run.

    Attributes:
        name: label of the branch of the space the run comes from, where the space has branches at its root.
        data: the data set, its split and augmentation.
        model: the network.
        method: how binary weights are trained.
        optimizer: the gradient optimizer.
        plan: epochs, schedule, arithmetic.
        recu: rectified clamp of latent weights; None is without.
        precision: cyclic low precision; None trains in `plan.dtype` throughout.
        distill: learn from a teacher; None learns from the labels.
        start: whose weights to begin with; None draws them. With `plan.keep: best` there, real ones are those of its
            best epoch, latent ones of its last: the kept network has only their signs.
        seed: seed of weights, batches and augmentation; None is derived from the study's seed and the trial's number.
        use: the guests that it names, see `bnnsearch.config.guests`; of a trial of a search, the study says that.
    """

    name: str | None = None
    data: DataConfig
    model: ModelConfig
    method: MethodConfig
    optimizer: OptimizerConfig = AdamConfig()
    plan: PlanConfig = PlanConfig()
    recu: RecuConfig | None = None
    precision: PrecisionConfig | None = None
    distill: DistillConfig | None = None
    start: StartConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    use: Annotated[tuple[str, ...], Field(exclude_if=lambda entries: not entries)] = ()

    @property
    def epochs(self) -> int:
        return self.plan.epochs

    @property
    def reporter(self) -> Reporter:
        return reporter_of(self.method.name, self.plan.reported)

    @property
    def pretrain_epochs(self) -> int:
        return self.method.pretrain_epochs if isinstance(self.method, GradientMethod) else 0

    @property
    def batch_size(self) -> int | None:
        return self.data.batch_size

    @property
    def trains_alone(self) -> str | None:
        return None if self.method.shares else f"method {self.method.name}"

    @property
    def known_network(self) -> tuple[BinarySettings, tuple[int, int, int], int] | None:
        if self.data.known is None or not isinstance(self.model, BinarySettings):
            return None
        return self.model, *self.data.known

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if isinstance(self.method, GradientMethod):
            method_epochs(self.method, self.plan.epochs)
        return self

    @model_validator(mode="after")
    def _evolution_fits(self) -> Self:
        evolves = isinstance(self.method, EvolutionMethod)
        if evolves == isinstance(self.model, BinarySettings):
            raise ValueError(
                f"model xor_mlp and the evolutionary methods ({', '.join(METHODS.only(EvolutionMethod).members)}) "
                f"need each other, but got model {self.model.name} with method {self.method.name}"
            )
        if not isinstance(self.method, EvolutionMethod):
            return self
        extras = [name for name in ("recu", "precision", "distill", "start") if getattr(self, name) is not None]
        extras += [
            f"data.augment {step.name}"
            for step in self.data.augment
            if step.translation is None or step.translation > MOST_SHIFT
        ]
        if extras:
            raise ValueError(
                f"method {self.method.name} works on bits packed once and knows only the augmentation shift, "
                f"by at most {MOST_SHIFT} pixels, but got {extras[0]}"
            )
        if self.plan.class_weights != "none":
            raise ValueError(
                f"plan.class_weights needs a method by gradients, whose loss it weighs, but got {self.method.name}"
            )
        together = self.data.batch_size * self.method.batches_summed
        if together > MOST_VOTES:
            raise ValueError(
                f"data.batch_size, times method.voters, <= {MOST_VOTES} must hold for {self.method.name}, "
                f"whose counters have 16 bits, but got {together}"
            )
        return self

    @model_validator(mode="after")
    def _classes_are_weighted(self) -> Self:
        if self.data.known is not None:
            check_class_weights(self.plan.class_weights, self.data.known[1])
        return self

    @model_validator(mode="after")
    def _start_is_there(self) -> Self:
        if self.start is not None:
            self.start.check_start(self.distill)
        return self

    @model_validator(mode="after")
    def _recu_has_latent_weights(self) -> Self:
        latent = isinstance(self.method, GradientMethod) and self.method.latent
        if self.recu is not None and not latent:
            raise ValueError(f"recu needs a method with latent weights, ste or bmd (dual), but got {self.method.name}")
        return self

    @model_validator(mode="after")
    def _method_and_model_agree(self) -> Self:
        if not isinstance(self.method, GradientMethod) or not isinstance(self.model, BinarySettings):
            return self
        if self.method.two_valued and self.model.scale == "xnor":
            raise ValueError(
                f"method {self.method.name} scales every filter itself, so that model.scale must be none or learned, "
                "but got xnor"
            )
        if self.method.estimates and self.model.standardise:
            raise ValueError(
                f"method {self.method.name} has a derivative of its own for the signs of activations, so that "
                "model.standardise has no effect: with method.activations false the network's is used"
            )
        return self

    def alone(self) -> TrialConfig:
        """The same network and training without the networks that it learns and starts from."""
        return self.model_copy(update={"distill": None, "start": None})


class OwnTrialConfig(Trial):
    """A training run by code of one's own.

    Attributes:
        name: as in `TrialConfig`.
        trainer: what trains, and its settings.
        seed: as in `TrialConfig`.
        use: as in `TrialConfig`.
    """

    name: str | None = None
    trainer: TrainerConfig
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    use: Annotated[tuple[str, ...], Field(exclude_if=lambda entries: not entries)] = ()

    @property
    def epochs(self) -> int:
        return self.trainer.epochs

    @property
    def reporter(self) -> Reporter:
        return self.trainer.reporter

    @property
    def trains_alone(self) -> str | None:
        return f"trainer {self.trainer.name}"


AnyTrial = TrialConfig | OwnTrialConfig


def kind_of(keys: Container[str]) -> type[TrialConfig] | type[OwnTrialConfig]:
    """The class of settings for a trial with these keys."""
    return OwnTrialConfig if "trainer" in keys else TrialConfig


def trial_of(tree: Mapping[str, Any]) -> AnyTrial:
    """The training run that a resolved tree describes.

    Raises:
        ValidationError: it describes none.
    """
    return kind_of(tree).model_validate(tree)
