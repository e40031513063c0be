"""From a model's settings to the network."""

from __future__ import annotations

from typing import assert_never

from torch import nn

from bnnsearch.config.model import (
    Bireal18Config,
    BrnConfig,
    CnnConfig,
    GradientModel,
    MlpConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.core.models.mlp import build_mlp
from bnnsearch.core.models.plain import build_plain, build_xnornet
from bnnsearch.core.models.real import keep_real
from bnnsearch.core.models.residual import build_reactnet_a, build_residual


def build_model(config: GradientModel, *, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network `config` names, with fresh weights from torch's global generator.

    Args:
        config: which network.
        shape: (C, H, W) of its images.
        classes: number of classes.

    Returns:
        From images float32 (N, C, H, W) to logits float32 (N, classes).

    Raises:
        ValueError: the network does not fit the images, or `float_layers` names no layer of it.
    """
    return keep_real(_build(config, shape, classes), config.float_layers)


def _build(config: GradientModel, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    match config:
        case MlpConfig():
            return build_mlp(config, shape=shape, classes=classes)
        case CnnConfig() | VggSmallConfig():
            return build_plain(config, shape=shape, classes=classes)
        case XnornetConfig():
            return build_xnornet(config, shape=shape, classes=classes)
        case Resnet20Config() | Resnet18Config() | BrnConfig() | Bireal18Config() | Realtobinary18Config():
            return build_residual(config, shape=shape, classes=classes)
        case ReactnetAConfig():
            return build_reactnet_a(config, shape=shape, classes=classes)
        case _:
            assert_never(config)
