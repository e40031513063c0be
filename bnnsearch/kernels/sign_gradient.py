"""Sign and its derivatives in one pass over memory; elements are float32, or bfloat16 as uint16.

All arrays are (N, M), a sample per row, and C-contiguous; the rows span[0] to span[1] are worked on. What composed
operations would write to memory and read again stays in the processor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels.bfloat16 import rounded, widened
from bnnsearch.kernels.jit import compiled, reassociated

Elements = NDArray[np.float32] | NDArray[np.uint16]
Span = tuple[int, int]
IDENTITY, STE, POLYNOMIAL = 0, 1, 2


@compiled
def sign_rows(span: Span, x: Elements, out: Elements) -> None:
    """Out = +1 where x >= 0, -1 elsewhere."""
    one = np.float32(1.0)
    for n in range(span[0], span[1]):
        for i in range(x.shape[1]):
            out[n, i] = rounded(one if widened(x[n, i]) >= np.float32(0.0) else -one, x[n, i])


@compiled
def slope_rows(span: Span, slope: int, x: Elements, upstream: Elements, out: Elements) -> None:
    """Out = `upstream` times the derivative of sign at x: clipped for STE, else POLYNOMIAL."""
    for n in range(span[0], span[1]):
        if slope == STE:
            for i in range(x.shape[1]):
                inside = abs(widened(x[n, i])) <= np.float32(1.0)
                out[n, i] = rounded(widened(upstream[n, i]) if inside else np.float32(0.0), x[n, i])
        else:
            for i in range(x.shape[1]):
                rise = max(np.float32(2.0) - np.float32(2.0) * abs(widened(x[n, i])), np.float32(0.0))
                out[n, i] = rounded(widened(upstream[n, i]) * rise, x[n, i])


@reassociated
def standardised_slope_rows(span: Span, slope: int, x: Elements, upstream: Elements, out: Elements) -> None:
    """The gradient of sign(x / std) to x, where u = x r, r = 1 / std and h is `upstream` times the derivative at u:

    out = r h - r^3 (x - mean x) / (M - 1) sum(h x)
    """
    size = x.shape[1]
    h = np.empty(size, np.float32)
    one, two, zero = np.float32(1.0), np.float32(2.0), np.float32(0.0)
    for n in range(span[0], span[1]):
        total, square = zero, zero
        for i in range(size):
            value = widened(x[n, i])
            total += value
            square += value * value
        mean = total / np.float32(size)
        variance = max(square - total * mean, zero) / np.float32(size - 1)
        r = np.float32(1.0 / math.sqrt(variance + np.float32(1e-5)))
        along = zero
        if slope == POLYNOMIAL:
            for i in range(size):
                value = widened(x[n, i])
                h[i] = widened(upstream[n, i]) * max(two - two * r * abs(value), zero)
                along += h[i] * value
        elif slope == STE:
            for i in range(size):
                value = widened(x[n, i])
                h[i] = widened(upstream[n, i]) if r * abs(value) <= one else zero
                along += h[i] * value
        else:
            for i in range(size):
                h[i] = widened(upstream[n, i])
                along += h[i] * widened(x[n, i])
        share = r * r * r * along / np.float32(size - 1)
        for i in range(size):
            out[n, i] = rounded(r * h[i] - share * (widened(x[n, i]) - mean), x[n, i])
