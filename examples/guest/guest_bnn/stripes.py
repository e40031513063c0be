"""A data set: bars and stripes, drawn with noise; is the picture striped along its rows or along its columns?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from bnnsearch.config.data import DataSettings, Shape
from bnnsearch.core.data.dataset import Dataset, ImageSet, Split
from bnnsearch.core.data.load import in_memory


class StripesConfig(DataSettings):
    """Grey images of `side` x `side` pixels in two classes, horizontal and vertical.

    Attributes:
        side: pixels.
        images: how many to train on; a quarter as many to test.
        noise: share of the pixels that are inverted.
    """

    builder: ClassVar[str] = "load_stripes"

    name: Literal["stripes"] = "stripes"
    side: Annotated[int, Field(ge=4, le=64)] = 8
    images: Annotated[int, Field(ge=100, le=100_000)] = 800
    noise: Annotated[float, Field(ge=0, lt=0.5)] = 0.1

    @property
    def colours(self) -> int:
        """Channels."""
        return 1

    @property
    def known(self) -> tuple[Shape, int]:
        """Shape and classes, without looking."""
        return (1, self.side, self.side), 2


def load_stripes(config: StripesConfig, device: torch.device) -> Dataset:
    """The data set, split and normalised."""
    drawn = ImageSet(
        _draw(config, config.images, seed=0), _draw(config, config.images // 4, seed=1), ("rows", "columns")
    )
    return in_memory(drawn, config, device)


def _draw(config: StripesConfig, count: int, *, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    lines = torch.rand((count, 1, 1, config.side), generator=generator) < 0.5
    pictures = lines.expand(-1, -1, config.side, -1)  # striped along its columns
    labels = torch.arange(count) % 2
    pictures = torch.where(labels.bool().view(-1, 1, 1, 1), pictures, pictures.transpose(2, 3))
    pictures = pictures ^ (torch.rand(pictures.shape, generator=generator) < config.noise)
    return Split(pictures.to(torch.uint8) * 255, labels)
