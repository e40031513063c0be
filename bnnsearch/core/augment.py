"""Augmentation of whole batches: a handful of tensor operations, whatever the batch size, on the batch's own device.

Every function takes and gives uint8 images (B, C, H, W). Random numbers are drawn from a CPU generator: one seed gives
the same images on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from bnnsearch.config.data import (
    AugmentationSettings,
    CropConfig,
    CutoutConfig,
    FlipConfig,
    LightingConfig,
    RotationConfig,
    ShiftConfig,
)

EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Of the colours of ImageNet, components as columns, for pixels in [0, 1], as published with fb.resnet.torch."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a batch's transformations are drawn from.

    Attributes:
        index: int64, (B,): which images of the data set these are; an alternating flip follows them.
        epoch: number of the epoch, from 0.
        mean: mean colour in [0, 1], (C,); what cut-out leaves.
        generator: source of all randomness, on the CPU.
    """

    index: Tensor
    epoch: int
    mean: Sequence[float]
    generator: torch.Generator

    def integers(self, limit: int) -> Tensor:
        """Two integers in [-limit, limit] for each image, int64 (2, B)."""
        return torch.randint(-limit, limit + 1, (2, len(self.index)), generator=self.generator)


def augment_batch(images: Tensor, steps: Sequence[AugmentationSettings], draw: Draw) -> Tensor:
    """`images`, uint8 (B, C, H, W), after all of `steps`, in order."""
    for step in steps:
        images = step.apply(images, draw)
    return images


def crop(config: CropConfig, images: Tensor, draw: Draw) -> Tensor:
    """A random crop of the zero-padded image."""
    return _moved(images, draw.integers(config.padding))


def shift(config: ShiftConfig, images: Tensor, draw: Draw) -> Tensor:
    """A random translation."""
    return _moved(images, draw.integers(config.pixels))


def _moved(images: Tensor, offset: Tensor) -> Tensor:
    if images.shape[2] == 1:
        offset[0] = 0  # a signal moves along its one axis
    return translate(images, offset)


def flip_some(config: FlipConfig, images: Tensor, draw: Draw) -> Tensor:
    """A flip of some images, left to right."""
    if config.kind == "alternating":
        return flip(images, alternating(draw.index, draw.epoch))
    return flip(images, torch.rand(len(images), generator=draw.generator) < 0.5)


def turn(config: RotationConfig, images: Tensor, draw: Draw) -> Tensor:
    """A random rotation."""
    angles = (torch.rand(len(images), generator=draw.generator) * 2 - 1) * math.radians(config.degrees)
    return rotate(images, angles)


def cut(config: CutoutConfig, images: Tensor, draw: Draw) -> Tensor:
    """A random square cut out."""
    count, _, height, width = images.shape
    rows = torch.randint(height, (count,), generator=draw.generator)
    columns = torch.randint(width, (count,), generator=draw.generator)
    return cut_out(images, torch.stack((rows, columns)), size=config.size, mean=draw.mean)


def lighten(config: LightingConfig, images: Tensor, draw: Draw) -> Tensor:
    """A random change of the light."""
    return light(images, torch.randn((len(images), 3), generator=draw.generator) * config.deviation)


def translate(images: Tensor, offset: Tensor) -> Tensor:
    """Each image moved down and right by its own `offset`, int64 (2, B), zeros moving in.

    With offsets drawn from [-p, p] it is a random crop of the image padded by p zeros on each side.
    """
    count, _, height, width = images.shape
    margin = int(offset.abs().max())
    start = (margin - offset).to(images.device)  # where each image's window begins on the padded image
    windows = pad(images, (margin,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view: (B, C, rows, columns, H, W)
    return windows[torch.arange(count, device=images.device), :, start[0], start[1]]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """The `chosen` images, bool (B,), mirrored left to right."""
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def alternating(index: Tensor, epoch: int) -> Tensor:
    """Which images to flip, bool (B,): a fixed half of them in even epochs, the other half in odd ones.

    No image is seen in the same orientation twice running, which random flips do half of the time (Jordan, "94% on
    CIFAR-10 in 3.29 seconds", 2024). The half is chosen by a multiplicative hash of the index, int64 (B,).
    """
    return (((index * 0x9E3779B1) >> 16) + epoch) % 2 == 1


def rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Each image turned counter-clockwise about its centre by its own angle, radians (B,), bilinear, zeros outside."""
    height, width = images.shape[2:]
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # grid coordinates run over [-1, 1] whatever the shape: the aspect ratio keeps a rotation rigid
    matrix = torch.stack((cos, -sin * height / width, zero, sin * width / height, cos, zero), 1).view(-1, 2, 3)
    grid = affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    turned = grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)


def cut_out(images: Tensor, centre: Tensor, *, size: int, mean: Sequence[float]) -> Tensor:
    """In each image a square of `size` pixels becomes the mean colour; it may stick out at the edges.

    Args:
        images: uint8, (B, C, H, W).
        centre: row and column of the square's middle, int64 (2, B).
        size: side of the square, pixels.
        mean: mean colour in [0, 1], (C,).
    """
    first = (centre - size // 2).unsqueeze(2)  # (2, B, 1)
    rows, columns = torch.arange(images.shape[2]) - first[0], torch.arange(images.shape[3]) - first[1]
    inside_rows, inside_columns = (rows >= 0) & (rows < size), (columns >= 0) & (columns < size)  # (B, H), (B, W)
    inside = (inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1)  # (B, 1, H, W)
    colour = (torch.tensor(mean) * 255).round().to(torch.uint8).view(-1, 1, 1)
    return torch.where(inside.to(images.device), colour.to(images.device), images)


def light(images: Tensor, components: Tensor) -> Tensor:
    """Every pixel of an image moved by the sum over i of components_i eigenvalue_i eigenvector_i, and kept in range.

    Args:
        images: uint8, (B, 3, H, W).
        components: how far to move along each principal component, float32 (B, 3).
    """
    colours = 255 * (components * torch.tensor(EIGENVALUES)) @ torch.tensor(EIGENVECTORS).T  # (B, 3)
    moved = images + colours.to(images.device).view(-1, 3, 1, 1)
    return moved.round_().clamp_(0, 255).to(torch.uint8)
