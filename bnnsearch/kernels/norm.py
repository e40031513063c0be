"""Batch norm, the sum with a residual, and the clamp of hardtanh, in as few passes over memory as their sums allow.

Arrays of activations are (N, P, C): images, pixels, channels, C-contiguous, float32 or bfloat16 as uint16; the images
span[0] to span[1] are worked on. Sums over pixels are left per image, `sums` (2, N, C): added up afterwards in float64,
they do not depend on how images are shared out among threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels.bfloat16 import rounded, widened
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.sign_gradient import Elements, Span

Floats = NDArray[np.float32]


@compiled
def channel_sums(span: Span, x: Elements, sums: Floats) -> None:
    """Per image and channel, the sums of x and of its square over the pixels."""
    total, square = sums[0], sums[1]
    for n in range(span[0], span[1]):
        for c in range(x.shape[2]):
            total[n, c] = square[n, c] = 0.0
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                value = widened(x[n, p, c])
                total[n, c] += value
                square[n, c] += value * value


@compiled
def batch_statistics(sums: Floats, count: int, eps: float, statistics: Floats) -> None:
    """Mean, 1 / std and unbiased variance per channel, `statistics` (3, C), from what `channel_sums` leaves."""
    for c in range(sums.shape[2]):
        total, square = 0.0, 0.0
        for n in range(sums.shape[1]):
            total += sums[0, n, c]
            square += sums[1, n, c]
        mean = total / count
        variance = max(square / count - mean * mean, 0.0)
        statistics[0, c] = mean
        statistics[1, c] = 1.0 / math.sqrt(variance + eps)
        statistics[2, c] = variance * count / max(count - 1, 1)


@compiled
def affine_add_clamp(span: Span, x: Elements, residual: Elements, factors: Floats, out: Elements) -> None:
    """Out = clamp(scale x + offset + residual, -1, 1), with scale and offset per channel, `factors` (2, C)."""
    scale, offset = factors[0], factors[1]
    one = np.float32(1.0)
    for n in range(span[0], span[1]):
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                value = scale[c] * widened(x[n, p, c]) + offset[c] + widened(residual[n, p, c])
                out[n, p, c] = rounded(min(max(value, -one), one), x[n, p, c])


@compiled
def clamp_slope_sums(  # noqa: PLR0917
    span: Span, x: Elements, out: Elements, upstream: Elements, mean: Floats, passed: Elements, sums: Floats
) -> None:
    """What of `upstream` has `passed` the clamp; per image and channel, its sum and that of its product with x - mean.

    Args:
        span: first image and the one after the last.
        x: what was normalised.
        out: what the clamp gave.
        upstream: the gradient to `out`.
        mean: per channel, (C,).
        passed: becomes the gradient to what was clamped.
        sums: becomes the sums, (2, N, C).
    """
    total, along = sums[0], sums[1]
    for n in range(span[0], span[1]):
        for c in range(x.shape[2]):
            total[n, c] = along[n, c] = 0.0
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                inside = abs(widened(out[n, p, c])) < np.float32(1.0)
                gradient = widened(upstream[n, p, c]) if inside else np.float32(0.0)
                passed[n, p, c] = rounded(gradient, x[n, p, c])
                total[n, c] += gradient
                along[n, c] += gradient * (widened(x[n, p, c]) - mean[c])


@compiled
def slope_factors(sums: Floats, count: int, statistics: Floats, weight: Floats, factors: Floats) -> None:
    """Per channel, the factors of `norm_slope` and the gradients of the norm's weight and bias, `factors` (5, C).

    With xhat = (x - mean) / std and g what passed, dL/dx = weight / std (g - mean g - xhat mean(g xhat)).
    """
    for c in range(sums.shape[2]):
        total, along = 0.0, 0.0
        for n in range(sums.shape[1]):
            total += sums[0, n, c]
            along += sums[1, n, c]
        mean, deviation = statistics[0, c], statistics[1, c]  # the second is 1 / std
        scale = weight[c] * deviation
        share = scale * deviation * deviation * along / count
        factors[0, c] = scale
        factors[1, c] = share
        factors[2, c] = share * mean - scale * total / count
        factors[3, c] = along * deviation
        factors[4, c] = total


@compiled
def norm_slope(span: Span, x: Elements, passed: Elements, factors: Floats, out: Elements) -> None:
    """Out = scale passed - share x + offset, the three per channel, `factors` (3, C)."""
    scale, share, offset = factors[0], factors[1], factors[2]
    for n in range(span[0], span[1]):
        for p in range(x.shape[1]):
            for c in range(x.shape[2]):
                value = scale[c] * widened(passed[n, p, c]) - share[c] * widened(x[n, p, c]) + offset[c]
                out[n, p, c] = rounded(value, x[n, p, c])
