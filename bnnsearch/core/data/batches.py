"""Batches of a split: shuffled and augmented to train on, in order and plain to evaluate on.

Images stay uint8 until their batch is drawn; a batch is then augmented as a whole and normalised to float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from bnnsearch.config.data import AugmentationSettings
from bnnsearch.core.augment import Draw, augment_batch
from bnnsearch.core.data.dataset import AnySplit, Split
from bnnsearch.core.data.imagenet import stream_images
from bnnsearch.core.reproducible import derived_seed


def steps_per_epoch(split: AnySplit, batch_size: int) -> int:
    """Training batches in one epoch: whole batches only, or the one short batch of a split smaller than that."""
    return max(1, len(split) // batch_size)


def train_batches(
    split: AnySplit,
    *,
    batch_size: int,
    augment: Sequence[AugmentationSettings] = (),
    generator: torch.Generator,
    epoch: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order, without the last short batch, which would unbalance batch norm.

    Args:
        split: what to learn from.
        batch_size: images per batch.
        augment: transformations, in order.
        generator: source of order and augmentation, on the CPU; its state decides the whole epoch.
        epoch: number of the epoch, from 0; an alternating flip needs it.
        share: rank and number of the processes that train together; each has its own images of every batch.

    Yields:
        x, float32 (B, C, H, W), normalised; y, int64 (B,); both on the split's device.
    """
    batch_size = min(batch_size, len(split))
    order = torch.randperm(len(split), generator=generator)
    rank, size = share
    batches = list(order[: steps_per_epoch(split, batch_size) * batch_size].view(-1, batch_size)[:, rank::size])
    if rank:
        generator.manual_seed(derived_seed(generator.initial_seed(), rank))  # its images, its own augmentation
    for index, images, labels in _images(split, batches, crops=generator):
        augmented = augment_batch(images, augment, Draw(index, epoch, split.mean, generator))
        yield normalised(augmented, split), labels


def eval_batches(split: AnySplit, *, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, in the split's order, never augmented; the last batch may be short.

    Yields:
        x, float32 (B, C, H, W), normalised; y, int64 (B,); both on the split's device.
    """
    starts = range(0, len(split), batch_size)
    batches = [torch.arange(start, min(start + batch_size, len(split))) for start in starts]
    for _, images, labels in _images(split, batches, crops=None):
        yield normalised(images, split), labels


def normalised(images: Tensor, split: AnySplit) -> Tensor:
    """(images / 255 - mean) / std per channel, float32; `images` uint8 (B, C, H, W)."""
    mean, scale = _normalisation(split.mean, split.std, images.device)
    return images.float().sub_(mean).mul_(scale)


@lru_cache(maxsize=16)
def _normalisation(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """What is subtracted and multiplied, (C, 1, 1) each; kept, for on a GPU every copy of a number waits for it."""
    scale = 1 / (torch.tensor(std, device=device).view(-1, 1, 1) * 255)
    return torch.tensor(mean, device=device).view(-1, 1, 1) * 255, scale


def _images(
    split: AnySplit, batches: Sequence[Tensor], *, crops: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Index int64 (B,), images uint8 (B, C, H, W) and labels int64 (B,) of every batch; `crops` of streamed images."""
    if not isinstance(split, Split):
        yield from stream_images(split, batches, crops=crops)
        return
    for index in batches:
        place = index.to(split.images.device)
        yield index, split.images[place], split.labels[place]
