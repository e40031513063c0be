"""An activation: a slope for what is negative, learnable per channel, with a start of one's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from bnnsearch.config.activation import ActivationSettings

if TYPE_CHECKING:
    from bnnsearch.config.model import ActivatedSettings


class LeakyConfig(ActivationSettings):
    """PReLU whose slopes start at `slope`."""

    builder: ClassVar[str] = "build_leaky"

    name: Literal["leaky"] = "leaky"
    slope: Annotated[float, Field(ge=0, le=1)] = 0.1


def build_leaky(config: LeakyConfig, network: ActivatedSettings, channels: int) -> nn.Module:  # noqa: ARG001
    """The activation of (N, `channels`, ...); `pack` knows PReLU."""
    return nn.PReLU(channels, init=config.slope)
