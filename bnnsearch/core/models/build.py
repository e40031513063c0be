"""From a model's settings to the network."""

from __future__ import annotations

from torch import nn

from bnnsearch.config.model import BinarySettings
from bnnsearch.core.models.real import keep_real


def build_model(config: BinarySettings, *, shape: tuple[int, int, int], classes: int) -> nn.Module:
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
    return keep_real(config.build(shape, classes), config.float_layers)
