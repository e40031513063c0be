"""Augmentation of whole batches: a handful of tensor operations, whatever the batch size, on the batch's own device.

Every function takes and gives uint8 images (B, C, H, W). Random numbers are drawn from a CPU generator: one seed gives
the same images on every device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from bnnsearch.config.data import (
    Augmentation,
    CropConfig,
    CutoutConfig,
    FlipConfig,
    RotationConfig,
    ShiftConfig,
)


def augment_batch(
    images: Tensor,
    steps: Sequence[Augmentation],
    *,
    index: Tensor,
    epoch: int,
    mean: Sequence[float],
    generator: torch.Generator,
) -> Tensor:
    """`images` after all of `steps`, in order.

    Args:
        images: uint8, (B, C, H, W).
        steps: what to do.
        index: int64, (B,): which images of the data set these are; an alternating flip follows them.
        epoch: number of the epoch, from 0.
        mean: mean colour in [0, 1], (C,); what cut-out leaves.
        generator: source of all randomness, on the CPU.
    """
    for step in steps:
        match step:
            case CropConfig():
                images = translate(images, step.padding, generator)
            case ShiftConfig():
                images = translate(images, step.pixels, generator)
            case FlipConfig(kind="random"):
                images = flip(images, torch.rand(len(images), generator=generator) < 0.5)
            case FlipConfig():
                images = flip(images, alternating(index, epoch))
            case RotationConfig():
                images = rotate(images, step.degrees, generator)
            case CutoutConfig():
                images = cut_out(images, step.size, mean, generator)
            case _:
                assert_never(step)
    return images


def translate(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by its own random offset in [-pixels, pixels]^2, zeros moving in.

    The same as a random crop of the image padded by `pixels` zeros on each side.
    """
    size, _, height, width = images.shape
    offset = torch.randint(2 * pixels + 1, (2, size, 1), generator=generator).to(images.device)
    rows = offset[0] + torch.arange(height, device=images.device)  # (B, H)
    columns = offset[1] + torch.arange(width, device=images.device)  # (B, W)
    padded = pad(images, (pixels,) * 4)
    batch = torch.arange(size, device=images.device).view(-1, 1, 1)
    picked = padded[batch, :, rows.unsqueeze(2), columns.unsqueeze(1)]  # (B, H, W, C): advanced indices come first
    return picked.permute(0, 3, 1, 2)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """The `chosen` images, bool (B,), mirrored left to right."""
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def alternating(index: Tensor, epoch: int) -> Tensor:
    """Which images to flip, bool (B,): a fixed half in even epochs, the other half in odd ones.

    No image is seen in the same orientation twice running, which random flips do half of the time (Jordan, "94% on
    CIFAR-10 in 3.29 seconds", 2024). The half is chosen by a multiplicative hash of the index.
    """
    return (((index * 0x9E3779B1) >> 16) + epoch) % 2 == 1


def rotate(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Each image turned about its centre by its own random angle in [-degrees, degrees], bilinear, zeros outside."""
    size, _, height, width = images.shape
    angle = (torch.rand(size, generator=generator) * 2 - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(size)
    # grid coordinates run over [-1, 1] whatever the shape: the aspect ratio keeps a rotation rigid
    matrix = torch.stack((cos, -sin * height / width, zero, sin * width / height, cos, zero), 1).view(-1, 2, 3)
    grid = affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    turned = grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)


def cut_out(images: Tensor, size: int, mean: Sequence[float], generator: torch.Generator) -> Tensor:
    """In each image a square of `size` pixels at a random centre becomes the mean colour; it may stick out at edges."""
    count, _, height, width = images.shape
    top = torch.randint(height, (count, 1), generator=generator) - size // 2
    left = torch.randint(width, (count, 1), generator=generator) - size // 2
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = (rows >= top) & (rows < top + size)  # (B, H)
    inside_columns = (columns >= left) & (columns < left + size)  # (B, W)
    inside = (inside_rows.unsqueeze(2) & inside_columns.unsqueeze(1)).unsqueeze(1)  # (B, 1, H, W)
    colour = (torch.tensor(mean) * 255).round().to(torch.uint8).view(-1, 1, 1)
    return torch.where(inside.to(images.device), colour.to(images.device), images)
