"""Evolution behind the interface of all training: epochs, metrics of the network to be exported, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from deap import tools

from bnnsearch.bits import Words
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import check_format
from bnnsearch.core.evaluation import Evaluation, evaluation_of
from bnnsearch.core.kept import Kept
from bnnsearch.core.reproducible import derived_seed
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.core.training_cost import UNIT
from bnnsearch.evolve.algorithm import Algorithm, EpochTally, Problem
from bnnsearch.evolve.forward import predict
from bnnsearch.evolve.layout import network_cost
from bnnsearch.evolve.network import XorNetwork
from bnnsearch.evolve.samples import Blocks
from bnnsearch.evolve.words import to_tensor, to_words

STATE_FORMAT = 2
"""Of `EvolutionTrainer.state_dict`: one more with every change of what it holds or means."""

_SHARE_OF_BIT_MAC = 1 / UNIT
"""One-bit MACs in the unit of `train_bitops`."""


class EvolutionTrainer:
    """Runs an algorithm an epoch at a time.

    Args:
        config: the training run; its seed must be set.
        problem: data and layout.
        algorithm: what moves the network.

    Attributes:
        logbook: DEAP's: the metrics of every epoch.
    """

    def __init__(self, config: TrialConfig, *, problem: Problem, algorithm: Algorithm) -> None:
        assert config.seed is not None, "a trial's seed is set before it starts"
        self._seed, self._config = config.seed, config
        self._problem, self._algorithm = problem, algorithm
        self._kept = Kept(config.plan.keep)
        self.logbook = tools.Logbook()
        self._epoch = 0
        self._bit_operations = 0

    def fit(self) -> Iterator[EpochMetrics]:
        """Train on from the present state to the end of the plan, an epoch at a time."""
        while self._epoch < self._config.plan.epochs:
            started = time.perf_counter()
            generator = np.random.default_rng(derived_seed(self._seed, "epoch", self._epoch))
            tally = self._algorithm.run_epoch(self._epoch, generator)
            self._bit_operations += tally.bit_operations
            self._epoch += 1
            metrics = self._metrics(tally, time.perf_counter() - started)
            self.logbook.record(epoch=self._epoch, **metrics.values)
            yield metrics

    def network(self) -> XorNetwork:
        """The network as it would be exported now."""
        samples = self._problem.samples
        return XorNetwork(self._problem.layout.sizes, samples.classes, self._genome().copy(), samples.binarizer)

    def exported(self) -> XorNetwork:
        """What is packed: the same."""
        return self.network()

    def costs(self) -> dict[str, float]:
        """What the network costs for one image, and what the whole plan costs at most."""
        planned = self._algorithm.planned_bit_operations() * _SHARE_OF_BIT_MAC
        return network_cost(self._problem.layout).metrics(self._config.plan.costs) | {"train_bitops": planned}

    def test(self) -> dict[str, float]:
        """Accuracy and balanced accuracy on the test split."""
        return self._evaluated(self._genome(), self._problem.samples.test).of("test")

    def state_dict(self) -> dict[str, Any]:
        """Position, the algorithm's state, the network that is kept."""
        return {
            "format": STATE_FORMAT,
            "epoch": self._epoch,
            "bit_operations": self._bit_operations,
            "algorithm": self._algorithm.state_dict(),
            "kept": self._kept.state_dict(),
            "logbook": list(self.logbook),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state; the next `fit` goes on with the epoch after it.

        Raises:
            ValueError: it is of another format; nothing has been taken up.
        """
        check_format(state, STATE_FORMAT)
        self._epoch, self._bit_operations = state["epoch"], state["bit_operations"]
        self._algorithm.load_state_dict(state["algorithm"])
        self.logbook = tools.Logbook()
        self.logbook.extend(state["logbook"])
        self._kept.load_state_dict(state["kept"])

    def _genome(self) -> Words:
        """Of the network that would be exported now."""
        return self._algorithm.candidate() if self._kept.network is None else to_words(self._kept.network)

    def _evaluated(self, genome: Words, blocks: Blocks) -> Evaluation:
        threads, samples = self._problem.threads, self._problem.samples
        shares = [
            (genome, self._problem.layout, blocks.columns[first:last], samples.classes)
            for first, last in threads.spans(len(blocks.columns))
        ]
        predicted = torch.from_numpy(np.concatenate(threads.run(predict, shares))[: blocks.count])
        labels = torch.from_numpy(blocks.labels.reshape(-1)[: blocks.count])
        return evaluation_of(predicted, labels, self._config.plan.metrics, classes=samples.classes)

    def _metrics(self, tally: EpochTally, seconds: float) -> EpochMetrics:
        candidate = self._algorithm.candidate()
        measured = self._evaluated(candidate, self._problem.samples.val).of("val")
        values = {
            **self._kept.weigh(self._epoch, measured, lambda: to_tensor(candidate)),
            "train_acc": tally.hits / tally.judged,
            "flip_rate": tally.flips / self._problem.layout.weights,
            "binary_fraction": 1.0,
            "images_per_s": tally.images / seconds,
            "train_bitops": self._bit_operations * _SHARE_OF_BIT_MAC,
            **tally.more,
        }
        return EpochMetrics(self._epoch, self._config.plan.epochs, "evolve", values)
