"""ReCU: latent weights standardised and clipped to their quantiles in the forward pass (Xu et al., 2021)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bnnsearch.config.base import Settings


def _ordered(tau: tuple[float, float]) -> tuple[float, float]:
    if tau[0] > tau[1]:
        raise ValueError(f"first <= last must hold, but got [{tau[0]}, {tau[1]}]")
    return tau


Tau = Annotated[float, Field(gt=0.5, lt=1)]


class RecuConfig(Settings):
    """The rectified clamp unit; for the reference's activations set `model.standardise` as well.

    Attributes:
        tau: quantile at the start and at the end of the run; it grows exponentially.
        quantile: `laplace` is the closed form of the reference code; `empirical` sorts the weights (thesis, eq. 4.1).
    """

    tau: Annotated[tuple[Tau, Tau], AfterValidator(_ordered)] = (0.85, 0.99)
    quantile: Literal["laplace", "empirical"] = "laplace"
