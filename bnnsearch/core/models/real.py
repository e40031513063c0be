"""Real-valued layers in the place of binary ones: some, by choice, or all, for teachers and for training in steps."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from bnnsearch.core.layers import (
    BinaryConv2d,
    BinaryLayer,
    BinaryLinear,
    RSign,
    ShiftedHardtanh,
    Sign,
    binary_layers,
    per_channel,
)
from bnnsearch.core.models.blocks import InputScaled

Activations = Literal["relu", "tanh", "binary"]


class RealConv2d(nn.Conv2d):
    """A convolution in the place of a binary one: by its class the units of a twin are still known."""


class SoftSign(nn.Module):
    """tanh(x - shift), in the place of sign(x - shift) (Martinez et al., 2020, section 3.2)."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x - self.shift if self.shift != 0 else x)


class SoftRSign(nn.Module):
    """tanh(x + bias), in the place of ReActNet's sign, whose thresholds `bias` (C,) it learns."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x + per_channel(self.bias, x))


def keep_real(model: nn.Module, patterns: Sequence[str]) -> nn.Module:
    """`model`, changed in place: the binary layers matching a pattern get real weights, and inputs as they come.

    Args:
        model: a network of this package, in which `a.b.sign` binarises the inputs of `a.b.conv` or `a.b.linear`.
        patterns: layer names, in which `*` stands for anything.

    Raises:
        ValueError: a pattern matches no binary layer.
    """
    layers = binary_layers(model)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ValueError(f"float_layers: {pattern!r} matches none of the binary layers {', '.join(layers)}")
    for name in layers:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            _make_real(model, name, sign=nn.Identity())
    return model


def real_twin(model: nn.Module, activations: Activations = "relu") -> nn.Module:
    """A copy of the network with real weights, drawn anew; output scales, which real weights absorb, fall away.

    Args:
        model: the binary network.
        activations: `relu`: where there are hardtanhs, they become ReLUs and signs fall away, so that a residual
            network is the usual one (He et al., 2016); where there are none, every sign before a layer becomes a ReLU
            and other signs fall away. `tanh`: every sign becomes tanh. `binary`: signs stay. All else stays as it is,
            under the same names.
    """
    twin = deepcopy(model)
    has_hardtanh = any(isinstance(module, ShiftedHardtanh) for module in twin.modules())
    for name in binary_layers(twin):
        _make_real(twin, name, sign=nn.ReLU() if activations == "relu" and not has_hardtanh else None)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, Sign | RSign | ShiftedHardtanh):
                setattr(module, name, _real_activation(child, activations))
    return twin


def _real_activation(module: Sign | RSign | ShiftedHardtanh, activations: Activations) -> nn.Module:
    match activations, module:
        case "relu", ShiftedHardtanh():
            return nn.ReLU()
        case "relu", _:
            return nn.Identity()
        case "tanh", Sign():
            return SoftSign(module.shift)
        case "tanh", RSign():
            return SoftRSign(module.bias)
        case _:
            return module


def _make_real(model: nn.Module, name: str, *, sign: nn.Module | None) -> None:
    """Put a real layer in the place of the binary layer `name`, and `sign`, if any, in that of its neighbour `sign`."""
    place, _, own_name = name.rpartition(".")
    parent = model.get_submodule(place)
    setattr(parent, own_name, _real_layer(getattr(parent, own_name)))
    if sign is not None and hasattr(parent, "sign"):
        parent.sign = sign
        if isinstance(parent, InputScaled):
            parent.means = None


def _real_layer(layer: BinaryLayer) -> nn.Module:
    match layer:
        case BinaryConv2d():
            return RealConv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False
            )
        case BinaryLinear():
            return nn.Linear(layer.in_features, layer.out_features, bias=False)
        case _:
            assert_never(layer)
