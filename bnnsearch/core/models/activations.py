"""Activations and the signs that follow them, from their settings and those of the network they stand in."""

from __future__ import annotations

from torch import nn

from bnnsearch.config.activation import ActivationSettings
from bnnsearch.config.model import ActivatedSettings
from bnnsearch.core.layers import RPReLU, RSign, ShiftedHardtanh, Sign


def build_hardtanh(_: ActivationSettings, network: ActivatedSettings, _channels: int) -> nn.Module:
    """hardtanh(x - shift)."""
    return ShiftedHardtanh(network.shift)


def build_rprelu(_: ActivationSettings, _network: ActivatedSettings, channels: int) -> nn.Module:
    """ReActNet's PReLU."""
    return RPReLU(channels)


def build_prelu(_: ActivationSettings, _network: ActivatedSettings, channels: int) -> nn.Module:
    """One slope per channel."""
    return nn.PReLU(channels)


def build_identity(_: ActivationSettings, _network: ActivatedSettings, _channels: int) -> nn.Module:
    """No activation."""
    return nn.Identity()


def build_sign(_: ActivationSettings, network: ActivatedSettings, _channels: int) -> nn.Module:
    """sign(x): the activation has shifted already."""
    return Sign(0.0, network.sign_gradient, standardise=network.standardise)


def build_shifted_sign(_: ActivationSettings, network: ActivatedSettings, _channels: int) -> nn.Module:
    """sign(x - shift)."""
    return Sign(network.shift, network.sign_gradient, standardise=network.standardise)


def build_rsign(_: ActivationSettings, network: ActivatedSettings, channels: int) -> nn.Module:
    """sign(x + bias), its thresholds -bias starting at the shift."""
    sign = RSign(channels, network.sign_gradient)
    nn.init.constant_(sign.bias, -network.shift)
    return sign
