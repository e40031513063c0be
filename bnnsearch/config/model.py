"""Networks: which architecture, how wide, which activation, which layers stay real."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bnnsearch.config.base import PositiveFloat, Settings

Activation = Literal["hardtanh", "rprelu"]
SignGradient = Literal["ste", "polynomial"]
Layers = Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(min_length=1, max_length=16)]


class _Binary(Settings):
    """What every binary network has.

    Attributes:
        activation: what follows batch norm: shifted `hardtanh`, or `rprelu` (learnable shifts and slopes, ReActNet).
        shift: fixed horizontal shift s of the activation's sign, sign(x - s).
        sign_gradient: derivative used for sign of activations: clipped `ste` (eq. 1) or Bi-Real `polynomial` (eq. 2).
    """

    activation: Activation = "hardtanh"
    shift: Annotated[float, Field(ge=-4, le=4)] = 0.0
    sign_gradient: SignGradient = "polynomial"


class MlpConfig(_Binary):
    """Binary multi-layer perceptron; the last layer, the classifier, stays real."""

    name: Literal["mlp"] = "mlp"
    hidden: Layers = (256, 256)


class Resnet20Config(_Binary):
    """Binary ResNet-20 for small images, one shortcut per convolution; stem and classifier stay real."""

    name: Literal["resnet20"] = "resnet20"
    width: PositiveFloat = 1.0


ModelConfig = Annotated[MlpConfig | Resnet20Config, Field(discriminator="name")]
