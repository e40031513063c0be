"""Binary multi-layer perceptron: sign, linear, norm and activation for every hidden layer, then the classifier."""

from __future__ import annotations

import math

from torch import nn

from bnnsearch.config.model import MlpConfig
from bnnsearch.core.layers import BinaryLinear, Sign
from bnnsearch.core.models.blocks import make_activation, make_sign, named


def build_mlp(config: MlpConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W): logits (N, classes)."""
    features = math.prod(shape)
    parts: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    if config.inputs == "binary":
        parts["binary_inputs"] = Sign(0.0, config.sign_gradient)
    for number, width in enumerate(config.hidden, start=1):
        layer: dict[str, nn.Module] = {}
        if number > 1:
            layer["sign"] = make_sign(config, features)
        real = number == 1 and config.inputs == "real"
        layer["linear"] = (
            nn.Linear(features, width, bias=False)
            if real
            else BinaryLinear(features, width, scale=config.scale, alpha_gradient=config.alpha_gradient)
        )
        layer["norm"] = nn.BatchNorm1d(width)
        layer["act"] = make_activation(config, width)
        parts[f"layer{number}"] = named(layer)
        features = width
    parts["classifier"] = nn.Linear(features, classes)
    return named(parts)
