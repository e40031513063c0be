"""What a data set is once it is found: three splits, in memory or streamed, and how their pixels are normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bnnsearch.core.arrays import Scaling
from bnnsearch.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Labelled images in memory.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,), in [0, classes).
        mean: per-channel mean that normalises its batches, pixels scaled to [0, 1].
        std: per-channel standard deviation, same scale.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same images on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, index: Tensor) -> Split:
        """The images at `index`, int64 (M,), in that order."""
        index = index.to(self.images.device)
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, slots=True, eq=False)
class StreamedSplit:
    """Labelled image files too many for memory, decoded batch by batch in worker processes.

    Attributes:
        files: absolute paths, N of them.
        labels: int64, (N,), in [0, classes), on the CPU.
        mean: as in `Split`.
        std: as in `Split`.
        image_size: height and width of the crops, pixels.
        workers: processes that decode; 0 decodes in this one.
        device: where batches are put.
    """

    files: tuple[str, ...]
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    workers: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: Tensor) -> StreamedSplit:
        """The files at `index`, int64 (M,), in that order."""
        return replace(self, files=tuple(self.files[i] for i in index.tolist()), labels=self.labels[index])


AnySplit = Split | StreamedSplit


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """What the reader of a data set returns.

    Attributes:
        train: training images.
        test: test images.
        names: of the classes, by label; left out where they have none but their numbers.
        scaling: how arrays became octets; None where they were images.
    """

    train: Split
    test: Split
    names: tuple[str, ...] = ()
    scaling: Scaling | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """The three splits: learn on `train`, choose on `val`, report on `test` once.

    Attributes:
        classes: number of classes.
        shape: (C, H, W) of an image as the network sees it.
        names: of the classes, by label; their numbers where nothing else is given.
        crop: share of a file's shorter side that evaluation sees, a central square; None is the whole image.
        scaling: how arrays became octets; None where they were images.
    """

    train: AnySplit
    val: AnySplit
    test: AnySplit
    classes: int
    shape: tuple[int, int, int]
    names: tuple[str, ...] = ()
    crop: float | None = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", tuple(map(str, range(self.classes))))
        assert len(self.names) == self.classes, f"{self.classes} classes, but {len(self.names)} names"

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel mean of the training images, pixels scaled to [0, 1]."""
        return self.train.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel standard deviation of the training images, same scale."""
        return self.train.std


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel of uint8 images (N, C, H, W), pixels scaled to [0, 1].

    Exact, from the histogram of the 256 pixel values; a constant channel has standard deviation 1, so that it
    normalises to 0.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.reshape(-1), minlength=256).to(levels) / channel.numel()
        mean = (share * levels).sum()
        std = (share * (levels - mean).square()).sum().sqrt()
        means.append(float(mean))
        stds.append(float(std) or 1.0)
    return tuple(means), tuple(stds)


def rank_in_class(labels: Tensor) -> Tensor:
    """How many images of the same class stand before each one, int64 (N,)."""
    by_class = labels.argsort(stable=True)
    first = labels.bincount().cumsum(0) - labels.bincount()
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return rank


def hold_out(
    labels: Tensor, *, fraction: float, seed: int, limit: int | None = None, names: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Indices to keep and to hold out, class-balanced, both in ascending order.

    Args:
        labels: int64, (N,), on the CPU.
        fraction: share held out of every class, in (0, 1); at least one image, and at least one is kept.
        seed: seed of the choice.
        limit: use only this many images in all, the classes in about their overall shares.
        names: of the classes, for the message; their numbers where left out.

    Raises:
        DataError: a class has fewer than two of the images in use.
    """
    used = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if limit is not None:
        share = (rank_in_class(labels[used]) + 0.5) / labels.bincount()[labels[used]]
        used = used[share.argsort(stable=True)[:limit]]
    counts = labels[used].bincount(minlength=int(labels.max()) + 1)
    if counts.min() < 2:
        least = int(counts.argmin())
        raise DataError(
            "every class needs at least 2 of the training images in use, one to learn from and one to validate on, "
            f"but class {names[least] if names else least} has {int(counts.min())}"
        )
    held_counts = torch.minimum((counts * fraction).round().long().clamp(min=1), counts - 1)
    held = rank_in_class(labels[used]) < held_counts[labels[used]]
    return used[~held].sort().values, used[held].sort().values
