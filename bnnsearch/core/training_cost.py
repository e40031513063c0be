"""What training costs, in MACs weighted by their bit-widths: the measure of cyclic precision training.

One training step multiplies and accumulates three times per MAC of the network: forward at f x f bits, and backward for
the inputs and for the weights at f x g bits each: f bits of weights and activations, g of gradients. Relative to 32
bits this is

    CPT      (f^2 + 2 f g) / (3 * 32^2)      (Fu et al., 2021)
    thesis   f / 32: 8-bit training costs a quarter      (Fontana, 2022, section 5.4)
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import Literal

from bnnsearch.core.cost import ModelCost

Measure = Literal["cpt", "thesis"]
FULL_PRECISION = (32.0, 32.0)


def step_share(forward_bits: float, gradient_bits: float, measure: Measure = "cpt") -> float:
    """Cost of a training step relative to 32 bits.

    Args:
        forward_bits: bits of weights and activations.
        gradient_bits: bits of gradients; the thesis's measure counts no gradients apart.
        measure: which formula.
    """
    if measure == "thesis":
        return forward_bits / 32
    return (forward_bits**2 + 2 * forward_bits * gradient_bits) / (3 * 32**2)


def train_bitops(
    cost: ModelCost,
    *,
    images: int,
    bits: Iterable[tuple[float, float]] = (FULL_PRECISION,),
    measure: Measure = "cpt",
) -> float:
    """Effective 32-bit MACs of a training run.

    Args:
        cost: the network's; all its MACs are trained on the same bits.
        images: images trained on, all epochs together.
        bits: forward and gradient bits of every step, or of the steps of one whole cycle.
        measure: which formula.
    """
    return (
        fmean(step_share(forward, gradient, measure) for forward, gradient in bits) * (cost.bops + cost.flops) * images
    )
