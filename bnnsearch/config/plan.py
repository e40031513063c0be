"""The training plan: how long, under which schedule, on which arithmetic."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import Settings
from bnnsearch.config.cost import CostConfig
from bnnsearch.config.families import SCHEDULES, Member
from bnnsearch.config.measure import MeasureConfig
from bnnsearch.errors import InputError


class ScheduleSettings(Member):
    """The shape of the learning rate over time."""

    def at(self, epoch: float, epochs: int) -> float:
        """The factor in [0, 1] of the base rate at `epoch` of a stretch of `epochs`.

        Args:
            epoch: epochs since the stretch began, in [0, epochs], a step being a fraction of one.
            epochs: length of the stretch.
        """
        raise NotImplementedError


class LinearConfig(ScheduleSettings):
    """The learning rate falls linearly to 0."""

    name: Literal["linear"] = "linear"

    def at(self, epoch: float, epochs: int) -> float:
        return 1 - epoch / epochs


class CosineConfig(ScheduleSettings):
    """The learning rate falls to 0 along half a cosine."""

    name: Literal["cosine"] = "cosine"

    def at(self, epoch: float, epochs: int) -> float:
        return _half_cosine(epoch / epochs)


class WarmRestartsConfig(ScheduleSettings):
    """Half a cosine, again and again, each period longer than the one before (Loshchilov & Hutter, 2017).

    Attributes:
        period: epochs of the first period, T_0.
        factor: how much longer each period is than the last, T_mult. The thesis's 254 epochs are 2 + 4 + ... + 128.
    """

    name: Literal["warm_restarts"] = "warm_restarts"
    period: Annotated[int, Field(ge=1)] = 2
    factor: Annotated[int, Field(ge=1, le=10)] = 2

    def at(self, epoch: float, epochs: int) -> float:  # noqa: ARG002  # its periods take no heed of the length
        period: float = self.period
        while epoch >= period:
            epoch -= period
            period *= self.factor
        return _half_cosine(epoch / period)


class ConstantConfig(ScheduleSettings):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"

    def at(self, epoch: float, epochs: int) -> float:  # noqa: ARG002
        return 1.0


def _half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


ScheduleConfig = Annotated[ScheduleSettings, SCHEDULES]


ClassWeights = (
    Literal["none", "balanced"] | Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(min_length=2)]
)


def check_class_weights(setting: ClassWeights, classes: int) -> None:
    """See that weights that are given are one for each class.

    Raises:
        InputError: they are not.
    """
    if isinstance(setting, tuple) and len(setting) != classes:
        raise InputError(
            f"plan.class_weights must have one weight for each of {classes} classes, but has {len(setting)}"
        )


Dtype = Literal["auto", "float32", "bfloat16"]


class PlanConfig(Settings):
    """Epochs, schedule and arithmetic of one training run.

    Attributes:
        epochs: epochs of the whole run, all phases together.
        schedule: shape of the learning rate.
        restart: the phases with which the schedule starts again; it spans them and those that follow. `train` and
            `quantise` are a method's own phase, after pretraining; `finetune` is the one after it. The default is that
            of BNEW's authors on CIFAR, where fine-tuning goes on with the end of the decay; on ImageNet they restart
            before it too. true is every phase, false none.
        warmup_epochs: epochs over which the learning rate rises linearly at the very start.
        label_smoothing: share of the target spread over all classes.
        bn_batches: training batches from which batch-norm statistics are re-estimated before every evaluation.
        dtype: arithmetic of the forward and backward pass; parameters stay float32. `auto` is bfloat16 where the device
            that trains is faster with it, as is measured there, else float32: on unlike nodes the same configuration
            is then trained, and its training counted, in unlike arithmetic; `float32` is the same everywhere. Networks
            are validated and tested in float32 in any case.
        compile: compile the training step (slow start, worth it over many epochs).
        cuda_graph: on a GPU, launch the forward and backward pass of a step as one graph, several times faster where
            the launches of a small network's kernels take longer than the kernels; elsewhere it changes nothing. A
            method of one's own must then hold what changes with time in tensors.
        deterministic: refuse kernels whose result depends on timing.
        keep: the network that counts and is exported, by its accuracy on the validation split: the `last` epoch's, or
            the `best` epoch's. The best of many looks is higher by luck alone: all trials of a search keep the same.
        class_weights: how much an image counts in the loss, by its class: `none`, all the same; `balanced`, inversely
            to how many images of its class there are to learn from; or a weight for each class, by label. Losses that
            are reported of validation and test images are not weighted.
        metrics: what is reported of predictions besides accuracy: `val_NAME` of the validation images with every epoch,
            `test_NAME` of the test images at the end.
        costs: what is reported of the network besides what always is: the metric NAME for each, before it trains.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    schedule: ScheduleConfig = LinearConfig()
    restart: bool | tuple[Literal["train", "quantise", "finetune"], ...] = ("train", "quantise")
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bn_batches: Annotated[int, Field(ge=1)] = 20
    dtype: Dtype = "auto"
    compile: bool = False
    cuda_graph: Annotated[bool, Field(exclude_if=lambda captured: not captured)] = False
    deterministic: bool = True
    keep: Literal["last", "best"] = "last"
    class_weights: Annotated[ClassWeights, Field(exclude_if=lambda weights: weights == "none")] = "none"
    metrics: Annotated[tuple[MeasureConfig, ...], Field(exclude_if=lambda metrics: not metrics)] = ()
    costs: Annotated[tuple[CostConfig, ...], Field(exclude_if=lambda costs: not costs)] = ()

    @property
    def reported(self) -> list[str]:
        """Metrics that it asks for besides those that are always reported."""
        return [f"val_{each.name}" for each in self.metrics] + [each.name for each in self.costs]

    def restarts(self, phase: str) -> bool:
        """Whether the schedule starts again with the phase of this name."""
        return self.restart if isinstance(self.restart, bool) else phase in self.restart
