"""What the networks are built of: stems, shortcuts, and units of one or two binary convolutions with one shortcut.

A unit keeps its parts by the same names everywhere: `sign`, `conv` (or `linear`), `norm`, `act`, `shortcut`; where the
shortcut leads around two convolutions, `first` has the parts of the first one. The inputs of a binary layer `a.b.conv`
are binarised by its neighbour `a.b.sign`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from bnnsearch.config.model import ActivatedSettings, Shortcut, Stem
from bnnsearch.core.fused import fuses, norm_add_hardtanh
from bnnsearch.core.layers import BinaryConv2d, ShiftedHardtanh
from bnnsearch.core.wide import WideConv2d, WideMean, WideSigmoid


def scaled(channels: int, width: float) -> int:
    """`channels` times the width factor, at least 1."""
    return max(1, round(channels * width))


def make_sign(settings: ActivatedSettings, channels: int) -> nn.Module:
    """The sign of `channels` activations, before a binary layer."""
    return settings.activation.build_sign(settings, channels)


def make_activation(settings: ActivatedSettings, channels: int) -> nn.Module:
    """The activation on `channels` channels."""
    return settings.activation.build(settings, channels)


class Stem2d(nn.Module):
    """The real first convolution with norm, activation and pooling: (N, C, H, W) to (N, out, H / s, W / s)."""

    def __init__(self, kind: Stem, in_channels: int, out_channels: int, *, act: nn.Module) -> None:
        super().__init__()
        kernel, stride = {"small": (3, 1), "pooled": (3, 1), "strided": (3, 2), "imagenet": (7, 2)}[kind]
        pooled = kind in ("pooled", "imagenet")
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = act
        self.pool = nn.MaxPool2d(3, 2, 1) if pooled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.act(self.norm(self.conv(x))))
        return out


class PadChannels(nn.Module):
    """Zero channels on both sides (or, where there are fewer, the middle ones) until there are `channels`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        before = (out_channels - in_channels) // 2
        self.padding = (0, 0, 0, 0, before, out_channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, self.padding)


class RepeatChannels(nn.Module):
    """The channels over and over again until there are `channels`: ReActNet's doubling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.times = math.ceil(out_channels / in_channels)
        self.channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * self.times, 1)[:, : self.channels]


def named(parts: dict[str, nn.Module]) -> nn.Sequential:
    """A sequence whose modules have names."""
    sequence = nn.Sequential()
    for name, module in parts.items():
        sequence.add_module(name, module)
    return sequence


@dataclass(frozen=True, slots=True)
class UnitShape:
    """Where a unit stands: its channels, the step and size of its kernel, the kind of path around it.

    Attributes:
        convolutions: how many of them the path leads around; the first one has the step.
    """

    in_channels: int
    out_channels: int
    stride: int = 1
    kernel: int = 3
    shortcut: Shortcut = "pad"
    convolutions: Literal[1, 2] = 1

    @property
    def last(self) -> UnitShape:
        """The shape of its last convolution."""
        return self if self.convolutions == 1 else replace(self, in_channels=self.out_channels, stride=1)


def make_shortcut(shape: UnitShape) -> nn.Module:
    """The path around a convolution: the identity where shapes stay.

    Pooling rounds up, so that it meets a padded convolution with stride 2 on images of odd size.
    """
    parts: dict[str, nn.Module] = {}
    if shape.stride > 1:
        parts["pool"] = nn.AvgPool2d(shape.stride, ceil_mode=True)
    if shape.in_channels != shape.out_channels:
        match shape.shortcut:
            case "pad":
                parts["pad"] = PadChannels(shape.in_channels, shape.out_channels)
            case "repeat":
                parts["repeat"] = RepeatChannels(shape.in_channels, shape.out_channels)
            case "conv":
                parts["conv"] = WideConv2d(shape.in_channels, shape.out_channels, 1)
                parts["norm"] = nn.BatchNorm2d(shape.out_channels)
            case _:
                assert_never(shape.shortcut)
    return named(parts) if parts else nn.Identity()


class PostUnit(nn.Module):
    """act(norm(conv(sign(first(x)))) + shortcut(x)): the unit of Bi-Real net, ReCU and ReActNet.

    `first` is the identity or one more act(norm(conv(sign(x)))).
    """

    def __init__(self, settings: ActivatedSettings, shape: UnitShape) -> None:
        super().__init__()
        self.first = nn.Identity() if shape.convolutions == 1 else named(_post_layer(settings, shape))
        self.sign = make_sign(settings, shape.last.in_channels)
        self.conv = _binary_conv(settings, shape.last)
        self.norm = nn.BatchNorm2d(shape.out_channels)
        self.shortcut = make_shortcut(shape)
        self.act = make_activation(settings, shape.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        sums, residual = self.conv(self.sign(self.first(x))), self.shortcut(x)
        if self.training and isinstance(self.act, ShiftedHardtanh) and fuses(sums, residual):
            return norm_add_hardtanh(sums, residual, self.norm, shift=self.act.shift)
        out: Tensor = self.act(self.norm(sums) + residual)
        return out


class PreUnit(nn.Module):
    """conv(sign(act(norm(first(x))))) + shortcut(x): pre-activation (He et al., 2016; thesis, section 4.2.2).

    `first` is the identity or one more conv(sign(act(norm(x)))).
    """

    norm: nn.BatchNorm2d
    act: nn.Module
    sign: nn.Module
    conv: BinaryConv2d

    def __init__(self, settings: ActivatedSettings, shape: UnitShape) -> None:
        super().__init__()
        self.first = nn.Identity() if shape.convolutions == 1 else named(_pre_layer(settings, shape))
        for name, part in _pre_layer(settings, shape.last).items():
            self.add_module(name, part)
        self.shortcut = make_shortcut(shape)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(self.sign(self.act(self.norm(self.first(x))))) + self.shortcut(x)
        return out


class Gate(nn.Module):
    """sigmoid(W2 relu(W1 mean(x))): one factor per output channel, from the real activations of the whole image."""

    def __init__(self, in_channels: int, out_channels: int, *, reduction: int) -> None:
        super().__init__()
        hidden = max(1, in_channels // reduction)
        self.pool = WideMean()
        self.squeeze = WideConv2d(in_channels, hidden, 1)
        self.relu = nn.ReLU()
        self.excite = WideConv2d(hidden, out_channels, 1)
        self.sigmoid = WideSigmoid()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.sigmoid(self.excite(self.relu(self.squeeze(self.pool(x)))))
        return out


class GatedLayer(nn.Module):
    """With y = norm(first(x)): act(conv(sign(y)) * gate(y)); `first` is the identity unless it is given."""

    def __init__(
        self, settings: ActivatedSettings, shape: UnitShape, *, reduction: int, first: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first = nn.Identity() if first is None else first
        self.norm = nn.BatchNorm2d(shape.in_channels)
        self.sign = make_sign(settings, shape.in_channels)
        self.conv = _binary_conv(settings, shape, unit_variance=True)
        self.gate = Gate(shape.in_channels, shape.out_channels, reduction=reduction)
        self.act = make_activation(settings, shape.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x))
        out: Tensor = self.act(self.conv(self.sign(y)) * self.gate(y))
        return out


class GatedUnit(GatedLayer):
    """One or two gated layers with a shortcut around them: Real-to-Binary's unit (Martinez et al., 2020)."""

    def __init__(self, settings: ActivatedSettings, shape: UnitShape, *, reduction: int) -> None:
        first = None if shape.convolutions == 1 else GatedLayer(settings, shape, reduction=reduction)
        super().__init__(settings, shape.last, reduction=reduction, first=first)
        self.shortcut = make_shortcut(shape)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) + self.shortcut(x)
        return out


class InputScaled(nn.Module):
    """layers(x) * K(x), XNOR-Net's second scale (Rastegari et al., 2016, section 3.2): how large the real inputs are.

    Args:
        layers: sign and a binary layer, by name.
        means: K, the mean magnitude of the channels and then of every window; None, where the layer is real, is no K.
    """

    def __init__(self, layers: dict[str, nn.Module], means: nn.Module | None) -> None:
        super().__init__()
        self.order = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.means = means

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for name in self.order:
            out = getattr(self, name)(out)
        return out if self.means is None else out * self.means(x)


def _post_layer(settings: ActivatedSettings, shape: UnitShape) -> dict[str, nn.Module]:
    return {
        "sign": make_sign(settings, shape.in_channels),
        "conv": _binary_conv(settings, shape),
        "norm": nn.BatchNorm2d(shape.out_channels),
        "act": make_activation(settings, shape.out_channels),
    }


def _pre_layer(settings: ActivatedSettings, shape: UnitShape) -> dict[str, nn.Module]:
    return {
        "norm": nn.BatchNorm2d(shape.in_channels),
        "act": make_activation(settings, shape.in_channels),
        "sign": make_sign(settings, shape.in_channels),
        "conv": _binary_conv(settings, shape, unit_variance=True),
    }


def _binary_conv(settings: ActivatedSettings, shape: UnitShape, *, unit_variance: bool = False) -> BinaryConv2d:
    """The unit's convolution; with `unit_variance` a learned scale starts at 1 / sqrt(fan-in).

    It matters where no norm follows: the sum of n signs has variance n, and would drown what the shortcut carries.
    """
    conv = BinaryConv2d(
        shape.in_channels, shape.out_channels, shape.kernel, shape.stride, shape.kernel // 2,
        scale=settings.scale, alpha_gradient=settings.alpha_gradient,
    )  # fmt: skip
    if unit_variance and conv.alpha is not None:
        nn.init.constant_(conv.alpha, 1 / math.sqrt(shape.in_channels * shape.kernel**2))
    return conv
