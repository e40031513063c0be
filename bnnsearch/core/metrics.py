"""What is measured of a network: correct predictions, binary weights, flips."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bnnsearch.config.measure import MacroF1Config
from bnnsearch.core.layers import BinaryLayer, weight_bits
from bnnsearch.core.trainer import WEIGHT_BINS

BINARY_TOLERANCE = 1e-3
"""A weight this near to +-1 counts as binary."""


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of `logits` (N, classes) have their largest entry at `labels` (N,): an int64 scalar on their device."""
    return (logits.argmax(dim=1) == labels).sum()


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Mean over the classes among `labels`, int64 (N,), of the share of their samples that `predicted` has right."""
    counts = labels.bincount()
    shares = labels[predicted == labels].bincount(minlength=len(counts)).double() / counts
    return float(shares[counts > 0].mean())


def macro_f1(_: MacroF1Config, predicted: Tensor, labels: Tensor, classes: int) -> float:
    """Mean of 2 right / (predicted + true) over the classes that are predicted or there."""
    right = labels[predicted == labels].bincount(minlength=classes).double()
    together = predicted.bincount(minlength=classes) + labels.bincount(minlength=classes)
    return float((2 * right / together)[together > 0].mean())


@torch.no_grad()
def weight_signs(layers: Mapping[str, BinaryLayer]) -> dict[str, Tensor]:
    """Per layer, whether each weight is +1 (True) or -1 (False) in the sign network."""
    return {
        name: weight_bits(layer) > 0 if layer.two_valued else layer.view(layer.weight) >= 0
        for name, layer in layers.items()
    }


def flip_rates(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of the signs of each layer that differ."""
    return {name: float((signs ^ after[name]).float().mean()) for name, signs in before.items()}


@torch.no_grad()
def binary_fractions(layers: Mapping[str, BinaryLayer]) -> dict[str, float]:
    """Share of each layer's weights, as the forward pass uses them, that are within 1e-3 of +-1.

    Of a layer with two values per filter that is all of them.
    """
    return {name: 1.0 if layer.two_valued else _near_binary(layer.view(layer.weight)) for name, layer in layers.items()}


def _near_binary(weight: Tensor) -> float:
    return float(((weight.abs() - 1).abs() <= BINARY_TOLERANCE).float().mean())


@torch.no_grad()
def weight_histogram(layers: Mapping[str, BinaryLayer]) -> list[float]:
    """Share of the latent weights of all layers in each bin of `WEIGHT_BINS`; empty without a layer."""
    total = sum(layer.weight.numel() for layer in layers.values())
    counts = torch.zeros(len(WEIGHT_BINS))
    step = WEIGHT_BINS[1] - WEIGHT_BINS[0]
    low, high = WEIGHT_BINS[0] - step / 2, WEIGHT_BINS[-1] + step / 2
    for layer in layers.values():
        weights = layer.weight.detach().cpu().clamp(WEIGHT_BINS[0], WEIGHT_BINS[-1])  # histc on CUDA is not exact
        counts += torch.histc(weights, bins=len(WEIGHT_BINS), min=low, max=high)
    return [round(share, 5) for share in (counts / total).tolist()] if total else []


def mean_over_weights(values: Mapping[str, float], layers: Mapping[str, BinaryLayer], *, empty: float) -> float:
    """Mean of per-layer values, each layer counting by its weights; `empty` where there is no layer."""
    total = sum(layer.weight.numel() for layer in layers.values())
    return sum(values[name] * layer.weight.numel() for name, layer in layers.items()) / total if total else empty
