"""A Gaussian process over [0, 1]^d, for searches: Matern 5/2, a length for each dimension, noise known per observation.

    k(x, y) = s^2 (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r),  r^2 = sum_d (x_d - y_d)^2 / l_d^2
    mean(x) = k(x, X) (K + N)^-1 y,  variance(x) = k(x, x) - k(x, X) (K + N)^-1 k(X, x)

N is diagonal: the noise of each observation, and one common noise. Lengths and the common noise are those of the
largest posterior, under log-normal priors of them; s is 1, for values are standardised. Source:
Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4.2 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dtrtrs
from scipy.optimize import minimize
from scipy.special import ndtr

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]

_LENGTH, _SPREAD = 0.5, 0.8  # of the priors: the median length, and the deviation of its logarithm
_NOISE = 1e-4  # median of the common noise, a variance
_ROUNDS = 15  # of the optimiser, which begins at the medians


@dataclass(frozen=True)
class Process:
    """A fitted process.

    Attributes:
        points: (n, d), what it was fitted to.
        lengths: (d,).
        factor: (n, n), upper U with K + N = U^T U; what is below the diagonal is not to be read.
        weights: (n,), (K + N)^-1 y.
        centre: mean of the values.
        scale: their standard deviation.
    """

    points: Array
    lengths: Array
    factor: Array
    weights: Array
    centre: float
    scale: float

    @classmethod
    def fit(cls, points: Array, values: Array, noise: Array) -> Process:
        """Fit to observations.

        Args:
            points: (n, d), in [0, 1].
            values: (n,).
            noise: (n,), standard deviation of each, in the unit of `values`; 0 where it is exact.
        """
        centre, scale = float(values.mean()), float(values.std()) or 1.0
        told, known = (values - centre) / scale, (noise / scale) ** 2
        rows, columns = np.tril_indices(len(points), -1)
        squares = np.ascontiguousarray(np.square(points[rows] - points[columns]).T)
        pairs = rows * len(points) + columns
        start = np.log(np.append(np.full(points.shape[1], _LENGTH), _NOISE))
        found = minimize(
            _loss,
            start,
            args=(pairs, squares, told, known, start),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ROUNDS},
        ).x
        lengths = np.exp(found[:-1])
        factor = _factor(pairs, _kernel(lengths**-2.0 @ squares)[0], known + np.exp(found[-1]))
        return cls(points, lengths, factor, dpotrs(factor, told)[0], centre, scale)

    def predict(self, places: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, (m,) each, at places (m, d)."""
        told, asked = self.points / self.lengths, places / self.lengths
        squares = np.square(told).sum(axis=1)[:, None] + np.square(asked).sum(axis=1) - 2.0 * told @ asked.T
        cross, _ = _kernel(np.maximum(squares, 0.0))
        reduced = dtrtrs(self.factor, cross, trans=1)[0]
        variance = np.maximum(1.0 - np.square(reduced).sum(axis=0), 1e-12)
        return self.centre + self.scale * (self.weights @ cross), self.scale * np.sqrt(variance)

    def below(self, places: Array, bound: float) -> Array:
        """The probability (m,) that the value at a place (m, d) is at most `bound`."""
        mean, deviation = self.predict(places)
        return np.asarray(ndtr((bound - mean) / deviation))


def _kernel(squares: Array) -> tuple[Array, Array]:
    """The kernel of squared distances, and -2 times its derivative by them."""
    distance = np.sqrt(5.0 * squares)
    decay = np.exp(-distance)
    slope = (5 / 3) * (1.0 + distance) * decay
    return (1.0 + distance + (5 / 3) * squares) * decay, slope


def _factor(pairs: Pairs, kernel: Array, noise: Array) -> Array:
    """U, from the kernel of pairs of points and the noise of each point."""
    matrix = np.diag(1.0 + noise + 1e-8)
    matrix.reshape(-1)[pairs] = kernel
    factor, failed = dpotrf(matrix.T, clean=0, overwrite_a=1)  # to LAPACK the lower half is the upper one
    if failed:
        raise LinAlgError("the kernel has no Cholesky factor")
    return np.asarray(factor)


def _loss(  # noqa: PLR0917  # the optimiser passes them so
    logs: Array, pairs: Pairs, squares: Array, values: Array, known: Array, medians: Array
) -> tuple[float, Array]:
    """Negative log posterior of the logarithms of lengths and common noise, and its gradient.

    Args:
        logs: (d + 1,).
        pairs: of points, each once: row times n, and column.
        squares: (d, pairs), their squared distances in each dimension.
        values: (n,), standardised.
        known: (n,), variance of each.
        medians: (d + 1,), of the priors.
    """
    scales, noise = np.exp(-2.0 * logs[:-1]), np.exp(logs[-1])
    kernel, slope = _kernel(scales @ squares)
    factor = _factor(pairs, kernel, known + noise)
    weights = dpotrs(factor, values)[0]
    spread = np.array([*np.full(len(scales), _SPREAD), 2.0])
    surprise = (logs - medians) / spread
    loss = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * np.square(surprise).sum()
    inner = np.outer(weights, weights) - dpotri(factor, overwrite_c=1)[0].T
    slope *= inner.take(pairs)
    gradient = surprise / spread - np.append(squares @ slope * scales, 0.5 * np.trace(inner) * noise)
    return float(loss), gradient
