"""ImageNet-1k, or a subset of its classes, streamed: files are decoded and cropped by worker processes, batch by batch.

Training crops cover a random 8-100 % of the area at an aspect ratio in [3/4, 4/3] (Szegedy et al., 2015); evaluation
takes the central 224/256 of the shorter side.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from bnnsearch.config.data import ImagenetConfig
from bnnsearch.core.data.dataset import Dataset, StreamedSplit, hold_out
from bnnsearch.core.data.folder import check_same_classes, list_images
from bnnsearch.core.images import Box, central_box, open_image, scaled_pixels
from bnnsearch.errors import DataError

CLASSES, TRAIN_IMAGES, VAL_IMAGES = 1000, 1_281_167, 50_000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of its training images, as published with torchvision's models."""

CENTRE = 224 / 256
"""Share of the shorter side that evaluation sees."""


def load_imagenet(config: ImagenetConfig, device: torch.device) -> Dataset:
    """The three splits as lists of files; its validation folder is the test split.

    Raises:
        DataError: folders missing or differing in classes; other classes than those asked for, or not all images of
            all 1000.
    """
    root = Path(config.root)
    train, val = list_images(root / "train"), list_images(root / "val")
    check_same_classes(root / "train", root / "val", (train, val))
    if len(train.classes) != config.classes:
        raise DataError(
            f"{root / 'train'}: expected {config.classes} classes, but found {len(train.classes)}; "
            f"`data.classes: {len(train.classes)}` reads a subset"
        )
    if len(train.classes) == CLASSES:
        for folder, listing, expected in (("train", train, TRAIN_IMAGES), ("val", val, VAL_IMAGES)):
            if len(listing.files) != expected:
                raise DataError(f"{root / folder}: expected {expected} images, but found {len(listing.files)}")

    def split(files: tuple[str, ...], labels: Tensor) -> StreamedSplit:
        return StreamedSplit(files, labels, MEAN, STD, config.image_size, config.workers, device)

    labels = torch.from_numpy(train.labels)
    kept, held = hold_out(
        labels, fraction=config.val_fraction, seed=config.seed, limit=config.train_limit, names=train.names
    )
    everything = split(train.files, labels)
    return Dataset(
        train=everything.take(kept),
        val=everything.take(held),
        test=split(val.files, torch.from_numpy(val.labels)),
        classes=len(train.classes),
        shape=(3, config.image_size, config.image_size),
        names=train.names,
        crop=CENTRE,
    )


def stream_images(
    split: StreamedSplit, batches: Sequence[Tensor], *, crops: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Index int64 (B,), images uint8 (B, 3, S, S) and labels int64 (B,) of every batch, in order.

    Args:
        split: what to read.
        batches: indices of every batch.
        crops: draws a seed for the crop of each image, here and not in the workers, so that the images do not depend on
            their number; None takes the centre.
    """

    def keys(index: Tensor) -> list[_Key]:
        if crops is None:
            return [(place, None) for place in index.tolist()]
        return list(zip(index.tolist(), torch.randint(2**62, index.shape, generator=crops).tolist(), strict=True))

    loader = DataLoader(
        _Crops(split.files, split.image_size),
        batch_sampler=[keys(index) for index in batches],
        num_workers=split.workers,
        generator=torch.Generator(),  # its base seed is of no use here, and must not be drawn from the global generator
        pin_memory=split.device.type == "cuda",
    )
    for index, images in zip(batches, loader, strict=True):
        labels = split.labels[index].to(split.device, non_blocking=True)
        yield index, images.to(split.device, non_blocking=True), labels


_Key = tuple[int, int | None]


class _Crops(TorchDataset[Tensor]):
    """Decodes the file of an (index, seed) pair and crops it: at random, or the centre without a seed."""

    def __init__(self, files: tuple[str, ...], size: int) -> None:
        self.files = files
        self.size = size

    def __getitem__(self, key: _Key) -> Tensor:
        index, seed = key
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd EXIF in some images of the set
            picture = open_image(self.files[index], "RGB")
        box = central_box(picture.size, CENTRE) if seed is None else random_box(picture.size, random.Random(seed))
        return torch.from_numpy(np.ascontiguousarray(scaled_pixels(picture, (self.size, self.size), box)))


def random_box(size: tuple[int, int], source: random.Random) -> Box:
    """A random crop (left, top, right, bottom) of a (width, height) image; the central square after ten misses."""
    width, height = size
    for _ in range(10):
        area = width * height * source.uniform(0.08, 1.0)
        ratio = math.exp(source.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = source.randint(0, width - w), source.randint(0, height - h)
            return left, top, left + w, top + h
    return central_box(size, 1.0)
