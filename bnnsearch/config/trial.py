"""`TrialConfig`: one YAML file, one training run, nothing implied. Its tagged unions are the only registry."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from bnnsearch.config.base import Settings
from bnnsearch.config.data import DataConfig
from bnnsearch.config.method import BnewConfig, MethodConfig
from bnnsearch.config.model import ModelConfig
from bnnsearch.config.optimizer import AdamConfig, OptimizerConfig
from bnnsearch.config.plan import PlanConfig


class TrialConfig(Settings):
    """One training run.

    Attributes:
        name: label of the branch of the space the run comes from, where the space has branches at its root.
        data: the data set, its split and augmentation.
        model: the network.
        method: how binary weights are trained.
        optimizer: the gradient optimizer.
        plan: epochs, schedule, arithmetic.
        seed: seed of weights, batches and augmentation; None is derived from the study's seed and the trial's number.
    """

    name: str | None = None
    data: DataConfig
    model: ModelConfig
    method: MethodConfig
    optimizer: OptimizerConfig = AdamConfig()
    plan: PlanConfig = PlanConfig()
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if isinstance(self.method, BnewConfig):
            taken = self.method.pretrain_epochs + self.method.finetune_epochs
            if taken >= self.plan.epochs:
                raise ValueError(
                    "method.pretrain_epochs + method.finetune_epochs < plan.epochs must hold, but got "
                    f"{self.method.pretrain_epochs} + {self.method.finetune_epochs} >= {self.plan.epochs}"
                )
        return self
