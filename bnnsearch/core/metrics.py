"""What is measured of a network: correct predictions, binary weights, flips."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bnnsearch.core.layers import BinaryLayer

BINARY_TOLERANCE = 1e-3
"""A weight this near to +-1 counts as binary."""


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of `logits` (N, classes) have their largest entry at `labels` (N,): an int64 scalar on their device."""
    return (logits.argmax(dim=1) == labels).sum()


@torch.no_grad()
def weight_signs(layers: Mapping[str, BinaryLayer]) -> dict[str, Tensor]:
    """Per layer, whether each weight is +1 (True) or -1 (False) in the sign network."""
    return {name: layer.view(layer.weight) >= 0 for name, layer in layers.items()}


def flip_rates(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of the signs of each layer that differ."""
    return {name: float((signs ^ after[name]).float().mean()) for name, signs in before.items()}


@torch.no_grad()
def binary_fractions(layers: Mapping[str, BinaryLayer]) -> dict[str, float]:
    """Share of each layer's weights, as the forward pass uses them, that are within 1e-3 of +-1."""
    return {
        name: float(((layer.view(layer.weight).abs() - 1).abs() <= BINARY_TOLERANCE).float().mean())
        for name, layer in layers.items()
    }


def mean_over_weights(values: Mapping[str, float], layers: Mapping[str, BinaryLayer], *, empty: float) -> float:
    """Mean of per-layer values, each layer counting by its weights; `empty` where there is no layer."""
    total = sum(layer.weight.numel() for layer in layers.values())
    return sum(values[name] * layer.weight.numel() for name, layer in layers.items()) / total if total else empty
