"""A Gaussian process over [0, 1]^d, for searches: Matern 5/2, a length for each dimension, noise known per observation.

    k(x, y) = s^2 (1 + sqrt5 r + 5/3 r^2) exp(-sqrt5 r),  r^2 = sum_d (x_d - y_d)^2 / l_d^2
    mean(x) = k(x, X) (K + N)^-1 y,  variance(x) = k(x, x) - k(x, X) (K + N)^-1 k(X, x)

N is diagonal: the noise of each observation, and one common noise. Lengths and the common noise are those of the
largest posterior, under log-normal priors of them; s is 1, for values are standardised. Source:
Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4.2 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

_LENGTH, _SPREAD = 0.5, 0.8  # of the priors: the median length, and the deviation of its logarithm
_NOISE = 1e-4  # median of the common noise, a variance
_ROUNDS = 15  # of the optimiser, which begins at the medians
_SQRT5 = np.sqrt(5.0)


@dataclass(frozen=True)
class Process:
    """A fitted process.

    Attributes:
        points: (n, d), what it was fitted to.
        lengths: (d,).
        factor: of K + N, as `scipy.linalg.cho_factor` gives it.
        weights: (n,), (K + N)^-1 y.
        centre: mean of the values.
        scale: their standard deviation.
    """

    points: Array
    lengths: Array
    factor: tuple[Array, bool]
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
        squares = (points[:, None, :] - points[None, :, :]) ** 2
        start = np.log(np.append(np.full(points.shape[1], _LENGTH), _NOISE))
        found = minimize(
            _loss, start, args=(squares, told, known, start), jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS}
        ).x
        lengths = np.exp(found[:-1])
        factor = cho_factor(_kernel(squares, lengths) + np.diag(known + np.exp(found[-1]) + 1e-8), lower=True)
        return cls(points, lengths, factor, cho_solve(factor, told), centre, scale)

    def predict(self, places: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, (m,) each, at places (m, d)."""
        cross = _kernel((places[:, None, :] - self.points[None, :, :]) ** 2, self.lengths)
        reduced = solve_triangular(self.factor[0], cross.T, lower=True)
        variance = np.maximum(1.0 - (reduced**2).sum(axis=0), 1e-12)
        return self.centre + self.scale * (cross @ self.weights), self.scale * np.sqrt(variance)


def _kernel(squares: Array, lengths: Array) -> Array:
    distance = np.sqrt(np.maximum(squares @ lengths**-2.0, 0.0))
    return np.asarray((1 + _SQRT5 * distance + 5 / 3 * distance**2) * np.exp(-_SQRT5 * distance))


def _loss(logs: Array, squares: Array, values: Array, known: Array, medians: Array) -> tuple[float, Array]:
    """Negative log posterior of the logarithms of lengths and common noise, and its gradient."""
    lengths, noise = np.exp(logs[:-1]), np.exp(logs[-1])
    distance = np.sqrt(np.maximum(squares @ lengths**-2.0, 0.0))
    decay = np.exp(-_SQRT5 * distance)
    covariance = (1 + _SQRT5 * distance + 5 / 3 * distance**2) * decay
    factor: Any = cho_factor(covariance + np.diag(known + noise + 1e-8), lower=True)
    weights = cho_solve(factor, values)
    spread = np.array([*np.full(len(lengths), _SPREAD), 2.0])
    surprise = (logs - medians) / spread
    loss = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * (surprise**2).sum()
    inner = np.outer(weights, weights) - cho_solve(factor, np.eye(len(values)))
    slope = inner * (5 / 3) * (1 + _SQRT5 * distance) * decay  # dk/d log l_d is this times the square over l_d^2
    along = np.tensordot(slope, squares, axes=([0, 1], [0, 1])) * lengths**-2.0
    gradient = -0.5 * np.append(along, np.trace(inner) * noise) + surprise / spread
    return float(loss), gradient
