"""A network: a chain of binary convolutions that halve the image by their stride, not by pooling."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from bnnsearch.config.model import ActivatedSettings
from bnnsearch.core.layers import BinaryConv2d
from bnnsearch.core.models.blocks import make_activation, make_sign


class StridedConfig(ActivatedSettings):
    """A real first convolution, binary ones of stride 2, the mean over what is left, a real classifier.

    Attributes:
        channels: output channels of every convolution.
    """

    builder: ClassVar[str] = "build_strided"

    name: Literal["strided"] = "strided"
    channels: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=2, max_length=8)] = (16, 32)


def build_strided(config: StridedConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W): logits (N, classes)."""
    first, *others = config.channels
    layers = [nn.Conv2d(shape[0], first, 3, padding=1, bias=False), *_after(config, first)]
    width = first
    for out in others:
        layers += [make_sign(config, width), BinaryConv2d(width, out, 3, stride=2, padding=1), *_after(config, out)]
        width = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def _after(config: StridedConfig, channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), make_activation(config, channels)]
