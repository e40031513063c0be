"""An augmentation: every image lighter or darker by a random amount."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from bnnsearch.config.data import AugmentationSettings
from bnnsearch.core.augment import Draw


class BrightnessConfig(AugmentationSettings):
    """All pixels of an image moved by one amount, at most `levels` of 255, and kept in range."""

    name: Literal["brightness"] = "brightness"
    levels: Annotated[int, Field(ge=1, le=128)] = 16

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """The images, uint8 (B, C, H, W), transformed."""
        moves = torch.randint(-self.levels, self.levels + 1, (len(images), 1, 1, 1), generator=draw.generator)
        return (images.int() + moves.to(images.device)).clamp_(0, 255).to(torch.uint8)
