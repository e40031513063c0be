"""Cyclic low precision during training: bit-widths that rise and fall along a cosine (CPT; thesis, section 4.2.5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bnnsearch.config.base import Settings


def _ordered(bits: tuple[int, int]) -> tuple[int, int]:
    if bits[0] > bits[1]:
        raise ValueError(f"low <= high must hold, but got [{bits[0]}, {bits[1]}]")
    return bits


Bits = Annotated[int, Field(ge=2, le=32)]
BitRange = Annotated[tuple[Bits, Bits], AfterValidator(_ordered)]
"""Lowest and highest bit-width of a cycle; 32 stands for no quantisation."""


class PrecisionConfig(Settings):
    """Bit-widths while training; the network that is evaluated and exported never has them.

    Attributes:
        bits: range of weights, activations and gradients alike.
        weights: range of the latent or relaxed weights, where it differs from `bits`.
        activations: range of what enters sign, where it differs.
        gradients: range of the gradients at the outputs of binary layers, where it differs; the CPT code has [8, 8].
            With gradients of 3 bits in every cycle a deep network does not learn.
        cycles: cycles per run.
        grid: `symmetric` levels lie evenly about 0 and keep every sign; `affine` ones span minimum to maximum (the CPT
            code) and may change the sign of small values.
    """

    bits: BitRange = (3, 8)
    weights: BitRange | None = None
    activations: BitRange | None = None
    gradients: BitRange | None = None
    cycles: Annotated[int, Field(ge=1, le=100_000)] = 32
    grid: Literal["symmetric", "affine"] = "symmetric"
