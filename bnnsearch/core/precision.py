"""Cyclic low precision: weights, activations and gradients on grids whose bit-width follows a cosine (Fu et al., 2021).

    bits(i) = rint(low + (high - low)/2 (1 + cos(pi (i mod T)/T + pi))),   T = steps / cycles

What a binary network has at more than one bit while it trains is quantised: the latent or relaxed weights, what enters
sign, and the gradients at the outputs of binary layers. Bit-widths are tensors, so that a compiled step stays compiled.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from bnnsearch.config.precision import PrecisionConfig
from bnnsearch.core.layers import RSign, Sign, binary_layers

Grid = Literal["symmetric", "affine"]
FULL = 32
"""The bit-width that stands for no quantisation."""


def cyclic_bits(bits: tuple[int, int], *, step: int, steps: int, cycles: int) -> int:
    """Bit-width at `step` of `steps`, from bits[0] up to bits[1] in every cycle."""
    low, high = bits
    share = step * cycles % steps / steps
    return round(low + (high - low) / 2 * (1 + math.cos(math.pi * share + math.pi)))


def quantise(x: Tensor, bits: Tensor, *, grid: Grid = "symmetric", per_channel: bool = False) -> Tensor:
    """`x` on a grid of 2^bits levels, the gradient passed straight through.

    Args:
        x: any shape; with `per_channel`, every slice along dimension 0 has a range of its own.
        bits: scalar tensor.
        grid: `symmetric` has levels at odd multiples of half a step, as many on either side of 0: sign(quantise(x)) is
            sign(x). `affine` has levels from the minimum to the maximum and may move small values across 0.
        per_channel: separate ranges, for weights (out, ...).
    """
    return cast(Tensor, _Quantise.apply(x, bits, grid, per_channel))


def quantise_gradient(x: Tensor, bits: Tensor) -> Tensor:
    """`x` itself, its gradient rounded stochastically to 2^bits - 1 levels about 0, the range one per sample.

    The rounding is unbiased and keeps 0.
    """
    return cast(Tensor, _QuantiseGradient.apply(x, bits))


class _Quantise(Function):
    @staticmethod
    def forward(_: Any, x: Tensor, bits: Tensor, grid: Grid, per_channel: bool) -> Tensor:
        dims = tuple(range(1 if per_channel else 0, x.ndim))
        tiny = torch.finfo(x.dtype).tiny
        if grid == "symmetric":
            half = torch.exp2(bits - 1).to(x)
            step = (x.abs().amax(dim=dims, keepdim=True) / half).clamp(min=tiny)
            return ((x / step).floor().clamp(-half, half - 1) + 0.5) * step
        low = x.amin(dim=dims, keepdim=True)
        step = ((x.amax(dim=dims, keepdim=True) - low) / (torch.exp2(bits) - 1).to(x)).clamp(min=tiny)
        return ((x - low) / step).round() * step + low

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0], None, None, None


class _QuantiseGradient(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor) -> Tensor:
        ctx.save_for_backward(bits)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        gradient, bits = grads[0], ctx.saved_tensors[0]
        peak = gradient.abs().amax(dim=tuple(range(1, gradient.ndim)), keepdim=True)
        step = (peak / (torch.exp2(bits - 1) - 1).to(gradient)).clamp(min=torch.finfo(gradient.dtype).tiny)
        return (gradient / step + torch.rand_like(gradient)).floor() * step, None


class CyclicPrecision:
    """The bit-widths of a run, and where they act."""

    def __init__(self, config: PrecisionConfig) -> None:
        self._config = config
        self._ranges = {
            "weights": config.weights or config.bits,
            "activations": config.activations or config.bits,
            "gradients": config.gradients or config.bits,
        }
        self.bits = {kind: torch.tensor(float(bits[0])) for kind, bits in self._ranges.items()}

    def anneal(self, step: int, steps: int) -> None:
        """Set the bit-widths for `step` of `steps` of the run."""
        for kind, bits in self._ranges.items():
            self.bits[kind].fill_(cyclic_bits(bits, step=step, steps=steps, cycles=self._config.cycles))

    def lift(self) -> None:
        """Quantise no longer, until the next `anneal`."""
        for bits in self.bits.values():
            bits.fill_(FULL)

    def state(self) -> dict[str, float]:
        """The bit-widths as they stand."""
        return {f"bits_{kind}": float(bits) for kind, bits in self.bits.items()}

    def step_bits(self, step: int, steps: int) -> tuple[int, int]:
        """Bit-widths of weights and of gradients at `step` of `steps`; those of activations lie below signs."""
        cycles = self._config.cycles
        weights, gradients = (
            cyclic_bits(self._ranges[kind], step=step, steps=steps, cycles=cycles) for kind in ("weights", "gradients")
        )
        return weights, gradients

    @property
    def highest(self) -> int:
        """The largest bit-width of all."""
        return max(high for _, high in self._ranges.values())

    @property
    def cycles(self) -> bool:
        """Whether a bit-width changes."""
        return any(low < high for low, high in self._ranges.values())

    def __call__(self, weight: Tensor) -> Tensor:
        """`weight` (out, ...) at its present bit-width."""
        if not self._acts_on("weights"):
            return weight
        return quantise(weight, self.bits["weights"], grid=self._config.grid, per_channel=True)

    def attach(self, model: nn.Module) -> None:
        """Quantise what enters every sign of `model`, and the gradients at the outputs of its binary layers."""

        def enters_sign(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
            return quantise(inputs[0], self.bits["activations"], grid=self._config.grid)

        def leaves_layer(_: nn.Module, __: tuple[Tensor], output: Tensor) -> Tensor:
            return quantise_gradient(output, self.bits["gradients"])

        if self._acts_on("activations"):
            for module in model.modules():
                if isinstance(module, Sign | RSign):
                    module.register_forward_pre_hook(enters_sign)
        if self._acts_on("gradients"):
            for layer in binary_layers(model).values():
                layer.register_forward_hook(leaves_layer)

    def _acts_on(self, kind: str) -> bool:
        return self._ranges[kind] != (FULL, FULL)
