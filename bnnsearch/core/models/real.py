"""Real-valued layers in the place of binary ones: some, by choice, or all, for the teacher of a distillation."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import assert_never

from torch import nn

from bnnsearch.core.layers import BinaryConv2d, BinaryLayer, BinaryLinear, RSign, ShiftedHardtanh, Sign, binary_layers


def keep_real(model: nn.Sequential, patterns: Sequence[str]) -> nn.Sequential:
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


def real_twin(model: nn.Sequential) -> nn.Sequential:
    """A copy of the network with real weights and activations, its binary weights drawn anew: a teacher of its shape.

    Every sign before a layer becomes a ReLU and hardtanh falls away, so that a residual unit is norm, ReLU and
    convolution in one of the usual orders. Output scales fall away, inputs are no longer binarised.
    """
    twin = deepcopy(model)
    for name in binary_layers(twin):
        _make_real(twin, name, sign=nn.ReLU())
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, Sign | RSign | ShiftedHardtanh):
                setattr(module, name, nn.Identity())
    return twin


def _make_real(model: nn.Sequential, name: str, *, sign: nn.Module) -> None:
    """Put a real layer in the place of the binary layer `name`, and `sign` in the place of its neighbour `sign`."""
    place, _, own_name = name.rpartition(".")
    parent = model.get_submodule(place)
    setattr(parent, own_name, _real_layer(getattr(parent, own_name)))
    if hasattr(parent, "sign"):
        parent.sign = sign


def _real_layer(layer: BinaryLayer) -> nn.Module:
    match layer:
        case BinaryConv2d():
            return nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False
            )
        case BinaryLinear():
            return nn.Linear(layer.in_features, layer.out_features, bias=False)
        case _:
            assert_never(layer)
