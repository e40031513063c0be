"""ReCU's standardisation of weights and its gradient, a filter at a time, while the filter is in the processor's cache.

Arrays of weights are float32 (O, n), a filter per row; the rows span[0] to span[1] are worked on.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels.jit import reassociated
from bnnsearch.kernels.sign_gradient import Span

Floats = NDArray[np.float32]


@reassociated
def standardise_rows(span: Span, weight: Floats, out: Floats, scale: Floats) -> None:
    """Out = scale (w - mean w), scale = 2 sqrt 2 / std(w), left in `scale` (O,)."""
    size = weight.shape[1]
    for o in range(span[0], span[1]):
        total = np.float32(0.0)
        for i in range(size):
            total += weight[o, i]
        mean = total / np.float32(size)
        square = np.float32(0.0)
        for i in range(size):
            square += (weight[o, i] - mean) * (weight[o, i] - mean)
        factor = np.float32(2 * math.sqrt(2) / math.sqrt(square / np.float32(size - 1) + np.float32(1e-5)))
        scale[o] = factor
        for i in range(size):
            out[o, i] = (weight[o, i] - mean) * factor


@reassociated
def standardise_slope_rows(span: Span, standardised: Floats, scale: Floats, upstream: Floats, out: Floats) -> None:
    """The gradient to w: with v what is standardised and g upstream, scale (g - mean g - v sum(g v) / (8 (n - 1)))."""
    size = standardised.shape[1]
    for o in range(span[0], span[1]):
        total, along = np.float32(0.0), np.float32(0.0)
        for i in range(size):
            total += upstream[o, i]
            along += upstream[o, i] * standardised[o, i]
        mean, share = total / np.float32(size), along / np.float32(8 * (size - 1))
        for i in range(size):
            out[o, i] = scale[o] * (upstream[o, i] - mean - standardised[o, i] * share)
