"""Trained networks that a run learns from or starts from: real twins, runs of our own, checkpoints, torchvision's.

A run of our own may itself learn from a teacher and start from other weights, so that a chain of teachers and training
in steps are the same two settings written inside one another:

    distill.teacher   whose predictions the network learns
    start             whose weights it begins with
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.base import Settings
from bnnsearch.config.data import Augmentation
from bnnsearch.config.families import METHODS, MODELS, named
from bnnsearch.config.method import GradientMethod, method_epochs
from bnnsearch.config.model import BinarySettings
from bnnsearch.config.optimizer import OptimizerConfig, SgdConfig
from bnnsearch.config.plan import CosineConfig, PlanConfig, ScheduleConfig

if TYPE_CHECKING:
    from torch import nn

    from bnnsearch.config.trial import TrialConfig
    from bnnsearch.core.teacher import RunBuilder, Trained
    from bnnsearch.core.trainer import EpochMetrics


class SourceSettings(Settings):
    """Where a trained network, or weights to start from, come from.

    Attributes:
        ours: whether its layers are named as ours are.
        trains: whether we train it.
    """

    ours: ClassVar[bool] = True
    trains: ClassVar[bool] = False

    if TYPE_CHECKING:
        name: str  # a literal, which every source declares

    @property
    def file(self) -> Path | None:
        """What it reads weights from, as far as it is a path."""
        return None

    def needed(self) -> Iterator[SourceSettings]:
        """The trained networks that it takes, those that they need in turn before them."""
        yield self

    def check(self) -> None:
        """Find, before anything trains, whether what it names can be read.

        Raises:
            InputError: it is unknown.
            EnvironmentProblem: it is missing or damaged, or a download failed.
        """

    def preparing(
        self,
        runs: RunBuilder,  # noqa: ARG002
        config: TrialConfig,  # noqa: ARG002
        role: str,  # noqa: ARG002  # whoever needs them
    ) -> Iterator[EpochMetrics]:
        """Train it, where it is to be trained and kept by `runs` for the run `config`; every epoch of that."""
        yield from ()

    def untrained(self, runs: RunBuilder, config: TrialConfig) -> nn.Module | None:  # noqa: ARG002
        """Its network before any training, for the run `config`, where it is known then."""
        return None

    def trained(self, runs: RunBuilder, config: TrialConfig, role: str) -> Trained:
        """Its network, trained or found by `runs` for the run `config`, whose `role` it has."""
        raise NotImplementedError

    def start_of(self, runs: RunBuilder, config: TrialConfig, teacher: Trained | None) -> Trained | None:  # noqa: ARG002
        """What the run `config`, which learns from `teacher`, starts with."""
        return self.trained(runs, config, role="start")

    def check_start(self, distill: DistillConfig | None) -> None:
        """See that a run that learns by `distill` can start with it.

        Raises:
            ValueError: it cannot.
        """


class RealPlanConfig(PlanConfig):
    """A training plan whose defaults are the customary ones of real-valued residual networks."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 200
    schedule: ScheduleConfig = CosineConfig()


class TwinConfig(SourceSettings):
    """A run over the same images that trains the same model with real weights, or with binary ones by `method`.

    It depends on nothing else of the run that it serves, so that trials can share it.

    Attributes:
        activations: what stands in the place of sign: `relu`; `tanh`, the soft sign; `binary`, sign itself.
        method: how binary weights are trained; None keeps the weights real.
        optimizer: its gradient optimizer.
        plan: its epochs, schedule and arithmetic.
        batch_size: images per step; None is that of `data`.
        augment: its augmentation; None is that of `data`.
        distill: what it learns from in turn; None is the labels.
        start: where its weights come from; None draws them. With `plan.keep: best` another network's real weights are
            those of its best epoch; where they are binary, they are latent, and those of its last: the kept network
            has only their signs. As a teacher, a network is always the kept one.
        seed: of its weights, batches and augmentation.
    """

    trains: ClassVar[bool] = True

    name: Literal["twin"] = "twin"
    activations: Literal["relu", "tanh", "binary"] = "relu"
    method: Annotated[GradientMethod, METHODS.only(GradientMethod)] | None = None
    optimizer: OptimizerConfig = SgdConfig(lr=0.1, momentum=0.9, weight_decay=1e-4)
    plan: RealPlanConfig = RealPlanConfig()
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    augment: tuple[Augmentation, ...] | None = None
    distill: DistillConfig | None = None
    start: StartConfig | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def network(self) -> BinarySettings | None:
        """The model that it trains; None is that of the run it serves."""
        return None

    def needed(self) -> Iterator[SourceSettings]:
        yield from needed(self.distill, self.start)
        yield self

    def preparing(self, runs: RunBuilder, config: TrialConfig, role: str) -> Iterator[EpochMetrics]:
        yield from runs.preparing_run(self, config, role)

    def untrained(self, runs: RunBuilder, config: TrialConfig) -> nn.Module | None:
        return runs.untrained(self, config)

    def trained(self, runs: RunBuilder, config: TrialConfig, role: str) -> Trained:
        return runs.trained_run(self, config, role)

    @model_validator(mode="after")
    def _binary_weights_have_binary_inputs(self) -> Self:
        if self.method is not None:
            if self.activations != "binary":
                raise ValueError(
                    f"method {self.method.name} trains binary weights, whose inputs are signs: activations must be "
                    f"binary, but got {self.activations}"
                )
            method_epochs(self.method, self.plan.epochs)
        return self

    @model_validator(mode="after")
    def _start_is_there(self) -> Self:
        if self.start is not None:
            self.start.check_start(self.distill)
        return self


class NetworkConfig(TwinConfig):
    """A run over the same images that trains another model; everything else as in `twin`.

    Attributes:
        model: the network.
    """

    name: Literal["network"] = "network"  # type: ignore[assignment]  # the tag of the union
    model: Annotated[BinarySettings, MODELS.only(BinarySettings)]

    @property
    def network(self) -> BinarySettings | None:
        return self.model


class TrainedConfig(SourceSettings):
    """The network in a checkpoint: of `bnnsearch train`, or of a trial while its study goes on.

    Attributes:
        path: the file, or the folder of `bnnsearch train` that holds it.
    """

    name: Literal["checkpoint"] = "checkpoint"
    path: str

    @property
    def file(self) -> Path | None:
        return Path(self.path)

    def check(self) -> None:
        named("bnnsearch.core.teacher:read_checkpoint")(self)

    def trained(self, runs: RunBuilder, config: TrialConfig, role: str) -> Trained:  # noqa: ARG002  # whoever needs it
        return runs.loaded(self)


class TorchvisionConfig(SourceSettings):
    """A classifier of torchvision, normalising images as its weights expect.

    Attributes:
        model: its name there.
        weights: name of its weights, which torchvision downloads once.
        path: a file with its state dict, instead of `weights`.
    """

    ours: ClassVar[bool] = False

    name: Literal["torchvision"] = "torchvision"
    model: str = "resnet34"
    weights: str = "IMAGENET1K_V1"
    path: str | None = None

    @property
    def file(self) -> Path | None:
        return Path(self.path) if self.path else None

    def check(self) -> None:
        named("bnnsearch.core.models.vision:torchvision_state")(self)

    def trained(self, runs: RunBuilder, config: TrialConfig, role: str) -> Trained:  # noqa: ARG002
        network: nn.Module = named("bnnsearch.core.models.vision:torchvision_network")(
            self, runs.data, trained=runs.trains
        )
        return runs.taken(network)


class TeacherWeightsConfig(SourceSettings):
    """The weights of the run's own teacher, which must have the same layers."""

    name: Literal["teacher"] = "teacher"

    def needed(self) -> Iterator[SourceSettings]:
        yield from ()  # the teacher is needed anyway

    def start_of(self, runs: RunBuilder, config: TrialConfig, teacher: Trained | None) -> Trained | None:  # noqa: ARG002
        return teacher

    def check_start(self, distill: DistillConfig | None) -> None:
        if distill is None:
            raise ValueError("start: teacher needs distill.teacher, but distill is null")
        if not distill.teacher.ours:
            raise ValueError(f"start: teacher needs a teacher with layers of ours, but got {distill.teacher.name}")


TeacherConfig = Annotated[TwinConfig | NetworkConfig | TrainedConfig | TorchvisionConfig, Field(discriminator="name")]
StartConfig = Annotated[TeacherWeightsConfig | TwinConfig | NetworkConfig | TrainedConfig, Field(discriminator="name")]


class DistillConfig(Settings):
    """The teacher's outputs take the place of the labels.

    Attributes:
        teacher: whose.
        labels: weight of the labels' own cross-entropy, beside the 1 of the teacher's.
        attention: weight of the attention-matching loss between units of the same name (Real-to-Binary).
    """

    teacher: TeacherConfig
    labels: Annotated[float, Field(ge=0)] = 0.0
    attention: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _units_have_names(self) -> Self:
        if self.attention > 0 and not self.teacher.ours:
            name = self.teacher.name
            raise ValueError(
                f"attention matches units by name, which {name}'s networks do not share: it must be 0 with "
                f"teacher {name}, but got {self.attention}"
            )
        return self


def needed(distill: DistillConfig | None, start: StartConfig | None) -> Iterator[SourceSettings]:
    """The trained networks that a run needs, those that they need in turn before them."""
    for source in (distill.teacher if distill else None, start):
        if source is not None:
            yield from source.needed()
