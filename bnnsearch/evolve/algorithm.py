"""What an evolutionary algorithm is to the trainer: a state that an epoch moves on, and a network to validate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bnnsearch.bits import Words
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.parallel import Threads
from bnnsearch.evolve.samples import Samples


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What every algorithm gets.

    Attributes:
        samples: the images.
        layout: of the network's genome.
        batch_size: images per mini-batch.
        epochs: of the whole run.
        threads: for the kernels.
    """

    samples: Samples
    layout: Layout
    batch_size: int
    epochs: int
    threads: Threads


@dataclass(frozen=True, slots=True)
class EpochTally:
    """Counts of one epoch.

    Attributes:
        hits: training images classified correctly.
        judged: training images these are out of.
        images: images passed through a network, candidates' included.
        flips: weights flipped in what goes on.
        bit_operations: XOR-and-count steps of one bit each, and bits of counters added to.
        more: further scalars for the epoch's metrics.
    """

    hits: int
    judged: int
    images: int
    flips: int
    bit_operations: int
    more: Mapping[str, float]


@runtime_checkable
class Algorithm(Protocol):
    """One evolutionary run."""

    def run_epoch(self, epoch: int, generator: np.random.Generator) -> EpochTally:
        """Go on by one epoch, counted from 0; all randomness comes from `generator`, seeded for this epoch."""
        ...

    def candidate(self) -> Words:
        """The genome that now stands for the run; not to be changed."""
        ...

    def planned_bit_operations(self) -> int:
        """At most so many bit-operations in a whole run; see `Perturbation` for the one exception."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        ...
