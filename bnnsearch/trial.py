"""The composition root: from a `TrialConfig` to the `Trainer` that carries it out; it alone knows them all."""

from __future__ import annotations

import torch

from bnnsearch.config.model import XorMlpConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.cost import model_cost
from bnnsearch.core.data import known_shape, load_data
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.reproducible import derived_seed, reproducible
from bnnsearch.core.teacher import trained_teacher
from bnnsearch.core.trainer import Trainer
from bnnsearch.evolve.build import build_evolution_trainer


def network_costs(config: TrialConfig) -> dict[str, float]:
    """What the network of a gradient run costs, known without the data set; empty where only its files tell."""
    known = known_shape(config.data)
    if known is None or isinstance(config.model, XorMlpConfig):
        return {}
    shape, classes = known
    return model_cost(build_model(config.model, shape=shape, classes=classes), shape).metrics()


def build_trainer(config: TrialConfig, *, device: str = "cpu") -> Trainer:
    """A trainer at its very beginning; the same configuration and seed give the same one.

    Args:
        config: the training run; `config.seed` must be set.
        device: torch device for data, network and arithmetic, such as `cpu` or `cuda:0`.

    Raises:
        DataError: the data set is missing, short or corrupt.
    """
    assert config.seed is not None, "a trial's seed is set before it starts"
    data = load_data(config.data, device=device)
    if isinstance(config.model, XorMlpConfig):
        return build_evolution_trainer(config, data=data)
    with reproducible(derived_seed(config.seed, "initial weights"), device=torch.device("cpu")):
        model = build_model(config.model, shape=data.shape, classes=data.classes)
    teacher = trained_teacher(config, data=data, model=model, device=device) if config.distill else None
    return GradientTrainer(config, data=data, model=model, device=device, teacher=teacher)
