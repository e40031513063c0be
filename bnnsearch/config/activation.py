"""Activations: what a layer's outputs go through, and how the next binary layer takes their signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from bnnsearch.config.families import ACTIVATIONS, Member, named

if TYPE_CHECKING:
    from torch import nn

    from bnnsearch.config.model import ActivatedSettings


class ActivationSettings(Member):
    """What stands between layers.

    Attributes:
        signs: place of what builds the sign before the next binary layer, called as the `builder` is. By default it is
            sign(x - s), s being the network's shift; an activation that shifts by itself has another.
    """

    kinds: ClassVar[tuple[str, ...]] = ("torch.nn:Module",)
    signs: ClassVar[str] = "bnnsearch.core.models.activations:build_shifted_sign"

    def build(self, network: ActivatedSettings, channels: int) -> nn.Module:
        """The activation of (N, `channels`, ...) in `network`; of modules that can be packed, its network can be."""
        activation: nn.Module = self._built(network, channels)
        return activation

    def build_sign(self, network: ActivatedSettings, channels: int) -> nn.Module:
        """What binarises its outputs, or those of a sum: one of `bnnsearch.core.layers`."""
        sign: nn.Module = named(self.signs)(self, network, channels)
        return sign

    @model_serializer(mode="wrap")
    def _bare_where_it_can(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Its name alone, as a configuration says it, where nothing else is set."""
        settings = handler(self)
        return self.name if settings.keys() == {"name"} else settings


class HardtanhConfig(ActivationSettings):
    """hardtanh(x - s)."""

    builder: ClassVar[str] = "bnnsearch.core.models.activations:build_hardtanh"
    signs: ClassVar[str] = "bnnsearch.core.models.activations:build_sign"

    name: Literal["hardtanh"] = "hardtanh"


class RpreluConfig(ActivationSettings):
    """ReActNet's, with learnable shifts and slopes; its signs have learnable thresholds, which start at s."""

    builder: ClassVar[str] = "bnnsearch.core.models.activations:build_rprelu"
    signs: ClassVar[str] = "bnnsearch.core.models.activations:build_rsign"

    name: Literal["rprelu"] = "rprelu"


class PreluConfig(ActivationSettings):
    """One learnable slope per channel."""

    builder: ClassVar[str] = "bnnsearch.core.models.activations:build_prelu"

    name: Literal["prelu"] = "prelu"


class NoActivationConfig(ActivationSettings):
    """None: sign alone is not linear."""

    builder: ClassVar[str] = "bnnsearch.core.models.activations:build_identity"

    name: Literal["none"] = "none"


Activation = Annotated[ActivationSettings, ACTIVATIONS]
"""An activation; its bare name stands for its defaults."""
