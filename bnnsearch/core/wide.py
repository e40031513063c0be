"""Real layers between binary ones, whose sums are taken in float64 in evaluation and rounded once to float32.

Float32 sums depend on their order, which libraries choose by processor, batch and layout; where a sign follows, another
last bit can be another network. Summed in float64 they round to the same float32 everywhere, so that a packed network
takes the same signs. In training, these are the plain layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, linear


class WideConv2d(nn.Conv2d):
    """Convolution, padded with zeros; made here, without bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name torch gives it
        if self.training:
            return super().forward(input)
        sums = conv2d(
            input.double(), self.weight.double(), None, self.stride, self.padding, self.dilation, self.groups
        ).to(input)
        return sums if self.bias is None else sums + self.bias.view(-1, 1, 1)


class WideLinear(nn.Linear):
    """Linear layer."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, the name torch gives it
        if self.training:
            return super().forward(input)
        sums = linear(input.double(), self.weight.double()).to(input)
        return sums if self.bias is None else sums + self.bias


class WideMean(nn.Module):
    """Mean over height and width: (N, C, H, W) to (N, C, 1, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x.mean(dim=(2, 3), keepdim=True)
        return x.sum(dim=(2, 3), keepdim=True, dtype=torch.float64).to(x) / (x.shape[2] * x.shape[3])


class MeanMagnitude(nn.Module):
    """Mean |x| over the channels: (N, C) to (N, 1), or (N, C, H, W) to (N, 1, H, W); XNOR-Net's A."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return x.abs().mean(dim=1, keepdim=True)
        return (x.abs().double() * x.new_tensor(1 / self.channels)).sum(dim=1, keepdim=True).to(x)


class WindowMean(nn.Module):
    """Mean over the windows of a convolution, zeros outside counted: (N, 1, H, W) to (N, 1, H', W')."""

    def __init__(self, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return avg_pool2d(x, self.kernel_size, self.stride, self.padding)
        window = x.new_full((1, 1, self.kernel_size, self.kernel_size), 1 / self.kernel_size**2)
        return conv2d(x.double(), window.double(), stride=self.stride, padding=self.padding).to(x)


class WideSigmoid(nn.Module):
    """Sigmoid."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) if self.training else torch.sigmoid(x.double()).to(x)


class HardSigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6, the factor 1/6 rounded first: steps that a packed network has."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) * (1 / 6)
