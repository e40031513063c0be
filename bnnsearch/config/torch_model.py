"""A network of one's own: any `nn.Module` that a function makes, its layers made binary by rule.

model: {name: torch, factory: "torchvision.models:resnet18", keep_real: [first, last, "*.downsample.*"]}
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.guests import factory_module, missing_factory
from bnnsearch.config.model import ActivatedSettings

Grouped = Literal["dense", "real"]


class TorchConfig(ActivatedSettings):
    """A torch network whose convolutions and linear layers become binary; see `bnnsearch.core.models.converter`.

    Attributes:
        factory: `module:name` of what makes the network: a function or class in a module that can be imported, or in a
            file that `use:` names.
        arguments: what it is called with, by keyword. `num_classes`, `in_channels` (or `in_chans`) and `input_shape`,
            (C, H, W), are added where it takes them and they are not given.
        keep_real: layers that stay real, by their names in the network; `*` stands for anything. `first` and `last` are
            the first and the last layer that an image meets.
        grouped: what becomes of convolutions with groups: `dense` binary ones over all channels, as in ReActNet, or
            they stay `real`, which cannot be packed.
        pack: whether the network must have a packed form, which is found out before it trains.
    """

    builder: ClassVar[str] = "bnnsearch.core.models.own:build_torch"

    name: Literal["torch"] = "torch"
    factory: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    arguments: dict[str, Any] = Field(default_factory=dict)
    keep_real: tuple[str, ...] = ("first", "last")
    grouped: Grouped = "dense"
    pack: bool = True

    @property
    def place(self) -> str:
        """What errors about the network begin with."""
        return f"model.factory {self.factory}"

    @property
    def must_pack(self) -> str | None:
        return self.place if self.pack else None

    @model_validator(mode="after")
    def _factory_is_there(self) -> Self:
        if (problem := missing_factory(self.factory)) is not None:
            raise ValueError(f"factory {self.factory}: {problem}")
        return self

    def code_modules(self) -> tuple[str, ...]:
        return (*super().code_modules(), factory_module(self.factory))

    def called_with(self, accepted: set[str], shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
        """The arguments for a factory that takes those named `accepted`."""
        offered = {
            "num_classes": classes, "in_channels": shape[0], "in_chans": shape[0], "input_shape": shape
        }  # fmt: skip
        return {name: value for name, value in offered.items() if name in accepted} | self.arguments
