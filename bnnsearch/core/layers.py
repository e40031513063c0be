"""Layers of a binary network: binary convolution and linear layer, and the activations around sign.

A binary layer holds one real number per connection, its `weight`: the latent or the relaxed weight, as the training
method has it. What the forward pass uses is `view(weight)`; a trainer sets `view`, and the network that is exported has
weights of +-1 and the default view, sign. Some methods give a filter two values of its own in the place of +-1, see
`two_values`. Inputs are already +-1: binarising them is a module of its own. Convolutions pad with zeros, after sign.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh, linear, prelu

from bnnsearch.core.binarize import (
    AlphaGradient,
    Gradient,
    binarise,
    filter_mean_magnitude,
    scale_by_mean_magnitude,
    sign,
)
from bnnsearch.core.convolution import conv2d

Scale = Literal["none", "xnor", "learned"]
View = Callable[[Tensor], Tensor]
Sides = int | tuple[int, int]
Estimate = Callable[[Tensor], Tensor]


def sign_view(weight: Tensor) -> Tensor:
    """The default view: sign, with the gradient passed straight through."""
    return binarise(weight, "identity")


class BinaryConv2d(nn.Module):
    """Convolution with binary weights, no bias.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: side of the kernel, or its height and width.
        stride: step of the kernel.
        padding: zeros on each side, or above and below, left and right.
        scale: output scale per channel: `none`, `xnor` (mean |weight| of the filter) or `learned`.
        alpha_gradient: how gradients pass the scale `xnor`, see `scale_by_mean_magnitude`.
        pooled: whether a max-pool follows: with a learned scale the sums of +-1 then stay whole numbers in training
            too, as in the code of ReCU, and of equal ones the pool passes the gradient to the first.

    Attributes:
        weight: real weights (out, in, height, width), whose view is used.
        alpha: learned scale (out, 1, 1, 1); None with any other `scale`.
        view: from the real weights to those the forward pass uses.
        two_valued: whether these are two values per filter rather than +-1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sides, stride: int = 1, padding: Sides = 0,
        *, scale: Scale = "none", alpha_gradient: AlphaGradient = "detached", pooled: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.scale: Scale = scale
        self.alpha_gradient: AlphaGradient = alpha_gradient
        self.pooled = pooled
        height, width = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        self.weight = _initial_weight(out_channels, in_channels, height, width)
        self.alpha = nn.Parameter(torch.ones(out_channels, 1, 1, 1)) if scale == "learned" else None
        self.view: View = sign_view
        self.two_valued = False

    def forward(self, x: Tensor) -> Tensor:
        return _apply_scaled(self, partial(conv2d, stride=self.stride, padding=self.padding), x)


class BinaryLinear(nn.Module):
    """Linear map with binary weights (out, in), no bias; arguments and attributes as in `BinaryConv2d`."""

    def __init__(
        self, in_features: int, out_features: int, *, scale: Scale = "none", alpha_gradient: AlphaGradient = "detached"
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.scale: Scale = scale
        self.alpha_gradient: AlphaGradient = alpha_gradient
        self.weight = _initial_weight(out_features, in_features)
        self.alpha = nn.Parameter(torch.ones(out_features, 1)) if scale == "learned" else None
        self.view: View = sign_view
        self.two_valued = False

    def forward(self, x: Tensor) -> Tensor:
        return _apply_scaled(self, linear, x)


BinaryLayer = BinaryConv2d | BinaryLinear


def binary_layers(model: nn.Module) -> dict[str, BinaryLayer]:
    """The binary layers of `model` by their module names, in the order of definition."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BinaryConv2d | BinaryLinear)}


def output_scale(layer: BinaryLayer) -> Tensor | None:
    """What the outputs of `layer` are multiplied by, (out, 1, ...); None is 1."""
    match layer.scale:
        case "none":
            return None
        case "xnor":
            return filter_mean_magnitude(layer.weight)
        case "learned":
            return layer.alpha
        case _:
            assert_never(layer.scale)


def two_values(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Signs, spread and centre of filters with two values each: weight = centre + spread * signs.

    Args:
        weight: (out, ...), with at most two values per filter. One that has a single value is |value| * its sign.

    Returns:
        Signs as `weight` is; spread and centre are (out, 1, ...).
    """
    low, high = (
        extreme(weight, dim=tuple(range(1, weight.ndim)), keepdim=True) for extreme in (torch.amin, torch.amax)
    )
    single = low == high
    signs = torch.where(single, sign(weight), torch.where(weight == high, 1.0, -1.0).to(weight))
    spread = torch.where(single, high.abs(), (high - low) / 2)
    return signs, spread, torch.where(single, torch.zeros_like(high), (high + low) / 2)


def use_two_values(model: nn.Module) -> None:
    """Have the binary layers of an exported network use the two values that each filter holds."""
    for layer in binary_layers(model).values():
        layer.view = Tensor.detach
        layer.two_valued = True


def weight_bits(layer: BinaryLayer) -> Tensor:
    """The signs of the binary weights, +-1; of filters with two values, +1 stands for the larger one."""
    weight = layer.view(layer.weight)
    return two_values(weight)[0] if layer.two_valued else sign(weight)


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """`parameter` (C,) shaped to broadcast along dimension 1 of `x` (N, C, ...)."""
    return parameter.view(-1, *(1 for _ in range(x.ndim - 2)))


def _initial_weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.kaiming_normal_(torch.empty(shape)))


def _apply_scaled(layer: BinaryLayer, linear_map: Callable[..., Tensor], x: Tensor) -> Tensor:
    weight, scale = layer.view(layer.weight), output_scale(layer)
    if layer.two_valued and not layer.training:
        out = _apply_two_valued(weight, linear_map, x)
        return out if scale is None else out * per_channel(scale.flatten(), out)
    if scale is None:
        return linear_map(x, weight)
    if layer.training:  # the weights are scaled: far fewer elements than the output has, forward and backward
        if layer.scale == "xnor":
            return linear_map(x, scale_by_mean_magnitude(weight, layer.weight, layer.alpha_gradient))
        if not (isinstance(layer, BinaryConv2d) and layer.pooled):
            return linear_map(x, weight * scale)
    out = linear_map(x, weight)  # sums of +-1: exact integers, as a packed network has them
    return out * per_channel(scale.flatten(), out)


def _apply_two_valued(weight: Tensor, linear_map: Callable[..., Tensor], x: Tensor) -> Tensor:
    """Spread * (x over the signs) + centre * (sum of x in the window), rounded as a packed network does."""
    signs, spread, centre = two_values(weight)
    out = linear_map(x, signs)
    window = linear_map(x, torch.ones_like(weight[:1]))
    return out * per_channel(spread.flatten(), out) + window * per_channel(centre.flatten(), out)


class Sign(nn.Module):
    """sign(x - shift) of activations.

    Args:
        shift: fixed threshold.
        gradient: derivative of sign in the backward pass.
        standardise: differentiate at x / std(x), std per sample, as ReCU does; the output is the same.

    Attributes:
        estimate: sign with a derivative of a method's own, in the place of `gradient`; None where it has none.
    """

    def __init__(self, shift: float = 0.0, gradient: Gradient = "polynomial", *, standardise: bool = False) -> None:
        super().__init__()
        self.shift = shift
        self.gradient: Gradient = gradient
        self.standardise = standardise
        self.estimate: Estimate | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.shift != 0:
            x = x - self.shift
        if self.estimate:
            return self.estimate(x)
        return binarise(x, self.gradient, standardised=self.standardise)


class RSign(nn.Module):
    """ReActNet's sign with a learnable threshold per channel, sign(x + bias) (Liu et al., 2020, eq. 1).

    Attributes:
        bias: minus the thresholds, (channels,).
        estimate: as in `Sign`.
    """

    def __init__(self, channels: int, gradient: Gradient = "polynomial") -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gradient: Gradient = gradient
        self.estimate: Estimate | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = x + per_channel(self.bias, x)
        return self.estimate(x) if self.estimate else binarise(x, self.gradient)


class RPReLU(nn.Module):
    """ReActNet's activation, PReLU(x - centre) + out, all three learnable per channel (Liu et al., 2020, eq. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return prelu(x - per_channel(self.centre, x), self.slope) + per_channel(self.out, x)


class ShiftedHardtanh(nn.Module):
    """hardtanh(x - shift): the horizontal shift of the thesis, section 4.2.4."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return hardtanh(x - self.shift if self.shift != 0 else x)
