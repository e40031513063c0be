"""The data set `arrays`: from `.npz` and `.npy` files to splits in memory; see `bnnsearch.core.arrays`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bnnsearch.config.data import ArraysConfig, DataSettings, Layout
from bnnsearch.core.arrays import (
    Array,
    check_axes,
    check_finite,
    checked_labels,
    measured_scaling,
    open_array,
)
from bnnsearch.core.data.dataset import Dataset, ImageSet, Split, hold_out
from bnnsearch.core.data.load import in_memory
from bnnsearch.errors import DataError, printable


class Samples(Protocol):
    """A torch data set of the kind that is indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Samples and their labels.

    Attributes:
        samples: (N, ...), along the axes of a layout.
        labels: (N,).
        place: where the samples are, for messages.
    """

    samples: Array
    labels: NDArray[np.int64]
    place: str


def load_arrays(config: ArraysConfig, device: torch.device) -> Dataset:
    """The data set.

    Raises:
        DataError: a file is missing or damaged, or its numbers are not as expected; see `docs/own-data.md`.
    """
    train = _labelled(config, config.images, config.labels)
    test = None
    if config.test_images is not None and config.test_labels is not None:
        test = _labelled(config, config.test_images, config.test_labels)
    return from_samples(
        train, test, config, device,
        layout=config.layout, clip=config.clip, test_fraction=config.test_fraction, names=config.classes,
    )  # fmt: skip


def from_samples(
    train: Labelled,
    test: Labelled | None,
    config: DataSettings,
    device: torch.device,
    *,
    layout: Layout,
    clip: float | None = None,
    test_fraction: float = 0.2,
    names: Sequence[str] = (),
) -> Dataset:
    """Numbers of any kind as a data set, scaled by those that are learned from.

    Args:
        train: what to learn from and to validate on.
        test: what to test on; None cuts it off, class-balanced, the same whatever the seed.
        config: how the validation split is cut off.
        device: where to keep it.
        layout: axes of the samples.
        clip: deviations from the mean beyond which numbers are clipped; None is from the least to the greatest.
        test_fraction: share that is cut off.
        names: of the classes; empty has numbers.

    Raises:
        DataError: training and test samples differ in shape, type or classes.
    """
    names = tuple(map(printable, names))
    for part in filter(None, (train, test)):
        check_axes(part.samples, layout, part.place)
    _check_classes(train, test, names)
    labels = torch.from_numpy(train.labels)
    learning, testing = torch.arange(len(labels)), torch.arange(0)
    if test is None:
        learning, testing = hold_out(labels, fraction=test_fraction, seed=0, names=names)
    kept, _ = hold_out(
        labels[learning], fraction=config.val_fraction, seed=config.seed, limit=config.train_limit, names=names
    )
    for part in filter(None, (train, test)):
        check_finite(part.samples, part.place)
    scaling = measured_scaling(train.samples, learning[kept].numpy(), layout, clip=clip)

    def split(part: Labelled, index: torch.Tensor) -> Split:
        octets = scaling.octets(part.samples, index.numpy())
        return Split(torch.from_numpy(octets), torch.from_numpy(part.labels)[index])

    tested = split(train, testing) if test is None else split(test, torch.arange(len(test.labels)))
    return in_memory(ImageSet(split(train, learning), tested, names, scaling), config, device)


def stacked(dataset: Samples, name: str) -> Labelled:
    """All samples of a torch data set, as they are without a random transformation, in memory.

    Args:
        dataset: of pairs, a sample (tensor, array or image) and its label, all samples of one shape.
        name: for messages.

    Raises:
        DataError: it is empty, its samples differ in shape or are no numbers, or its labels are no integers from 0 on.
    """
    pairs = [dataset[index] for index in range(len(dataset))]
    samples = [np.asarray(sample) for sample, _ in pairs]
    shapes = sorted({each.shape for each in samples})
    if len(shapes) != 1 or samples[0].dtype.kind not in "biuf":
        found = f"shapes {shapes[:3]}" if len(shapes) != 1 else str(samples[0].dtype)
        raise DataError(f"{name}: expected samples of one shape, numbers, but found {found}")
    return Labelled(np.stack(samples), checked_labels(np.array([int(label) for _, label in pairs]), name), name)


def _labelled(config: ArraysConfig, images: str, labels: str) -> Labelled:
    root = Path(config.root)
    samples, place = open_array(root, images)
    stored, labels_place = open_array(root, labels)
    read = checked_labels(stored, labels_place)
    if len(read) != len(samples):
        raise DataError(f"{labels_place}: expected a label for each of {len(samples)} samples, but found {len(read)}")
    return Labelled(samples, read, place)


def _check_classes(train: Labelled, test: Labelled | None, names: Sequence[str]) -> None:
    classes = int(train.labels.max()) + 1
    if classes < 2:
        raise DataError(f"{train.place}: expected at least 2 classes among the labels, but found 1")
    counts = np.bincount(train.labels)
    if not counts.all():
        raise DataError(f"{train.place}: labels must count the classes from 0 on, but none is {int(counts.argmin())}")
    if names and len(names) != classes:
        raise DataError(f"{train.place}: {len(names)} names are given for {classes} classes, labels 0 to {classes - 1}")
    if test is None:
        return
    if test.labels.max() >= classes:
        raise DataError(
            f"{test.place}: labels must be among those to learn from, 0 to {classes - 1}, but got {test.labels.max()}"
        )
    for what, ours, theirs in (
        ("samples of shape", train.samples.shape[1:], test.samples.shape[1:]),
        ("numbers of type", train.samples.dtype, test.samples.dtype),
    ):
        if ours != theirs:
            raise DataError(f"{test.place}: expected {what} {ours}, as in {train.place}, but got {theirs}")
