"""Residual networks: ResNet-18 and -20, brn, Bi-Real-18, Real-to-Binary-18, ReActNet-A.

stem -> stage1 ... stageK -> head, the stages of units of one or two convolutions. ReActNet-A is one of them too: its
two parallel 1x1 convolutions, concatenated, are one 1x1 convolution with twice the outputs, around which the channels
are repeated.
"""

from __future__ import annotations

from typing import assert_never

from torch import nn

from bnnsearch.config.model import ReactnetAConfig, ResidualSettings
from bnnsearch.core.models.blocks import (
    GatedUnit,
    PostUnit,
    PreUnit,
    Stem2d,
    UnitShape,
    make_activation,
    named,
    scaled,
)


def build_residual(config: ResidualSettings, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W): logits (N, classes)."""
    width = scaled(config.channels[0], config.width)
    parts: dict[str, nn.Module] = {"stem": _stem(config, shape[0], width)}
    for number, (channels, depth) in enumerate(zip(config.channels, config.depths, strict=True), start=1):
        units = []
        for place in range(0, depth, config.shortcut_every):
            stride = 2 if number > 1 and place == 0 else 1
            out = scaled(channels, config.width)
            convolutions = 1 if place + 1 == depth else config.shortcut_every
            units.append(_unit(config, UnitShape(width, out, stride, config.kernel, config.shortcut, convolutions)))
            width = out
        parts[f"stage{number}"] = nn.Sequential(*units)
    parts["head"] = _head(config, width, classes)
    return named(parts)


def build_reactnet_a(config: ReactnetAConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W): logits (N, classes)."""
    width = scaled(config.stem_channels, config.width)
    parts: dict[str, nn.Module] = {"stem": _stem(config, shape[0], width)}
    previous = config.channels[0]
    for number, channels in enumerate(config.channels, start=1):
        out = scaled(channels, config.width)
        spatial = UnitShape(width, width, stride=2 if channels != previous else 1, shortcut="repeat")
        pointwise = UnitShape(width, out, kernel=1, shortcut="repeat")
        parts[f"step{number}"] = named({"spatial": PostUnit(config, spatial), "pointwise": PostUnit(config, pointwise)})
        width, previous = out, channels
    parts["head"] = named(_classifier(width, classes))
    return named(parts)


def _stem(config: ResidualSettings | ReactnetAConfig, in_channels: int, out_channels: int) -> Stem2d:
    act = make_activation(config, out_channels) if config.stem_activation else nn.Identity()
    return Stem2d(config.stem, in_channels, out_channels, act=act)


def _unit(config: ResidualSettings, shape: UnitShape) -> nn.Module:
    match config.block:
        case "post":
            return PostUnit(config, shape)
        case "pre":
            return PreUnit(config, shape)
        case "gated":
            return GatedUnit(config, shape, reduction=config.reduction)
        case _:
            assert_never(config.block)


def _head(config: ResidualSettings, width: int, classes: int) -> nn.Sequential:
    """Pre-activation units leave their sums to the head, which normalises and activates them first."""
    before: dict[str, nn.Module] = {}
    if config.block == "pre":
        before = {"norm": nn.BatchNorm2d(width), "act": make_activation(config, width)}
    return named(before | _classifier(width, classes, norm=config.head_norm))


def _classifier(width: int, classes: int, *, norm: bool = False) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    if norm:
        parts["classifier_norm"] = nn.BatchNorm1d(width)
    return parts | {"classifier": nn.Linear(width, classes)}
