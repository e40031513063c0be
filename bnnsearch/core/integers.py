"""Layers of whole numbers for the ends of a network: int8 pixels and weights, sums of them, logits from such sums.

Their sums are whole numbers below 2^24, which float32 holds exactly in any order, so that a processor without floating
point computes the very network that was trained. Rounding passes gradients straight through (Jacob et al., 2018):

    pixel   q = clamp(round(32 x), -127, 127)        x normalised: from -4 to 4 standard deviations, 32 steps each
    weight  k = round(127 w / max |w|)               the maximum is a layer's, and counts as a constant
    logit   s (n + round(b / s))                     n a sum; one scale s > 0 for all classes, which changes no label
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d

from bnnsearch.core.layers import Sides

PIXEL_STEPS = 32
"""Steps of a pixel per standard deviation."""

LARGEST = 127
"""Largest magnitude of a pixel or weight."""


class _Round(Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def rounded(x: Tensor) -> Tensor:
    """The nearest whole numbers, of two as near the even one; the gradient is passed straight through."""
    return cast(Tensor, _Round.apply(x))


class Quantise(nn.Module):
    """Normalised pixels as whole numbers from -127 to 127; 0 stays 0, so that padding does."""

    def forward(self, x: Tensor) -> Tensor:
        return rounded(x * PIXEL_STEPS).clamp(-LARGEST, LARGEST)


class Int8Conv2d(nn.Module):
    """Convolution of whole numbers with int8 weights, no bias; its sums have no scale, which what follows must have.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        kernel_size: height and width of the kernel.
        padding: zeros above and below, left and right.

    Attributes:
        weight: real weights (out, in, height, width), drawn as those of `nn.Conv2d`.

    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], padding: Sides = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.padding = padding
        self.weight = nn.Parameter(nn.Conv2d(in_channels, out_channels, kernel_size, bias=False).weight.detach())

    def integers(self) -> Tensor:
        """The weights that count, whole numbers from -127 to 127."""
        largest = self.weight.detach().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        return rounded(self.weight * (LARGEST / largest))

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.integers(), padding=self.padding)


class PixelSum(nn.Module):
    """Sum over height and width: (N, C, H, W) to (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(2, 3), keepdim=True)


class IntegerLogits(nn.Module):
    """s (n + round(b / s)) of the sums n (N, classes, 1, 1), s being exp(log_scale) / typical.

    Args:
        classes: their number.
        typical: a magnitude of the sums that stands for a logit of 1 at the start.
    """

    def __init__(self, classes: int, typical: float) -> None:
        super().__init__()
        self.typical = typical
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(classes))

    @property
    def scale(self) -> Tensor:
        """s, (1,)."""
        return self.log_scale.exp() / self.typical

    @property
    def shift(self) -> Tensor:
        """What is added to the sums, whole numbers (classes,)."""
        return rounded(self.bias / self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.shift.view(-1, 1, 1)) * self.scale
