"""From a `TrialConfig` with an evolutionary method to its trainer."""

from __future__ import annotations

import numpy as np

from bnnsearch.config.evolution import EvolutionMethod
from bnnsearch.config.model import XorMlpConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import Dataset
from bnnsearch.core.reproducible import derived_seed
from bnnsearch.evolve.algorithm import Problem
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.network import Binarizer
from bnnsearch.evolve.parallel import Threads
from bnnsearch.evolve.samples import pack_data
from bnnsearch.evolve.trainer import EvolutionTrainer


def build_evolution_trainer(config: TrialConfig, *, data: Dataset) -> EvolutionTrainer:
    """A trainer at its very beginning; the same configuration and seed give the same one.

    Args:
        config: model `xor_mlp` and an evolutionary method; the seed must be set.
        data: images in memory.

    Raises:
        DataError: the images are streamed, or `model.crop` leaves nothing of them.
    """
    model, method = config.model, config.method
    assert isinstance(model, XorMlpConfig) and isinstance(method, EvolutionMethod), "TrialConfig pairs them"
    assert config.seed is not None, "a trial's seed is set before it starts"
    samples = pack_data(data, Binarizer(model.thresholds, model.crop), config.data.augment)
    layout = Layout((samples.inputs, *model.hidden, samples.classes * model.bits_per_label))
    problem = Problem(samples, layout, config.data.batch_size, config.plan.epochs, Threads())
    generator = np.random.default_rng(derived_seed(config.seed, "initial weights"))
    return EvolutionTrainer(config, problem=problem, algorithm=method.build(problem, generator))
