"""Integer inertia: every weight has a counter that the errors push, and flips when the counter has crossed far enough.

H += sum over the batch of delta_j x_i,  clipped to [-limit, limit];   w = +1 once H > band, -1 once H < -band
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words, padded, unpack_rows
from bnnsearch.evolve.layout import Layout


def no_counters(layout: Layout) -> NDArray[np.int16]:
    """Zero counters, laid out as `start_counters` has them."""
    return np.zeros(
        sum(padded(inputs, 8) * padded(outputs, 16) for inputs, outputs in pairwise(layout.sizes)), np.int16
    )


def start_counters(layout: Layout, genome: Words, generator: np.random.Generator, magnitude: int) -> NDArray[np.int16]:
    """Counters whose signs are the genome's bits and whose magnitudes are random in 1..`magnitude`; 0 in the padding.

    Returns:
        all layers' counters one after the other, each (inputs rounded up to 8, outputs rounded up to 16).
    """
    parts = []
    for index, (inputs, outputs) in enumerate(pairwise(layout.sizes)):
        counters = np.zeros((padded(inputs, 8), padded(outputs, 16)), np.int16)
        bits = unpack_rows(layout.layer(genome, index)[:outputs], inputs).T
        signs = bits.astype(np.int16) * np.int16(2) - np.int16(1)
        counters[:inputs, :outputs] = signs * generator.integers(1, magnitude + 1, (inputs, outputs), np.int16)
        parts.append(counters.ravel())
    return np.concatenate(parts)
