"""Images as bits: packed once, then drawn as columns of 64 pixels to a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words
from bnnsearch.config.data import AugmentationSettings
from bnnsearch.core.data import AnySplit, DataError, Dataset, Split
from bnnsearch.evolve.network import BLOCK, Binarizer, to_columns

MOST_INPUTS = 32_767


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Samples to evaluate on.

    Attributes:
        columns: (blocks, words, 128).
        labels: int64 (blocks, 128); -1 where there is no sample.
        count: number of samples.
    """

    columns: Words
    labels: NDArray[np.int64]
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A data set as evolution sees it.

    Attributes:
        rows: training images, (shifts * n, words): all of them once per shift, the unshifted ones first.
        labels: int64 (n,).
        val: the validation split.
        test: the test split.
        classes: number of labels.
        inputs: bits of one image.
        binarizer: how pixels became bits.
    """

    rows: Words
    labels: NDArray[np.int64]
    val: Blocks
    test: Blocks
    classes: int
    inputs: int
    binarizer: Binarizer

    @property
    def count(self) -> int:
        """Number of training images."""
        return len(self.labels)

    @property
    def shifts(self) -> int:
        """Versions of each training image."""
        return len(self.rows) // len(self.labels)

    def draw(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Every training image once, in random order, each as a random one of its versions: indices of `rows`."""
        order = generator.permutation(self.count)
        return order + self.count * generator.integers(0, self.shifts, self.count)

    def mini_batches(self, size: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """One pass in mini-batches, indices of `rows`; what does not fill the last one is left out."""
        order = self.draw(generator)
        for first in range(0, len(order) - size + 1, size):
            yield order[first : first + size]

    def blocks(self, picks: NDArray[np.int64]) -> Blocks:
        """The training images at `picks`, indices of `rows`."""
        return to_blocks(self.rows[picks], self.labels[picks % self.count])


def pack_data(data: Dataset, binarizer: Binarizer, augment: Sequence[AugmentationSettings] = ()) -> Samples:
    """Pack the three splits.

    Args:
        data: images in memory.
        binarizer: pixels to bits.
        augment: at most shifts; all shifted versions of the training images are packed.

    Raises:
        DataError: the images are streamed, cropped to nothing, or too large.
    """
    if binarizer.crop * 2 >= min(data.shape[1:]):
        raise DataError(f"model.crop * 2 < image size must hold, but got {binarizer.crop} * 2 >= {min(data.shape[1:])}")
    inputs = binarizer.inputs(data.shape)
    if inputs > MOST_INPUTS:
        raise DataError(f"at most {MOST_INPUTS} bits per image fit 16-bit counts, but these have {inputs}")
    train, train_labels = _arrays(data.train)
    reach = sum(step.translation or 0 for step in augment)
    steps = sorted(range(-reach, reach + 1), key=abs)
    downward = steps if data.shape[1] > 1 else [0]  # a signal moves along its one axis
    rows = np.concatenate([binarizer.rows(train, (down, right)) for down in downward for right in steps])
    val, test = (to_blocks(binarizer.rows(images), labels) for images, labels in map(_arrays, (data.val, data.test)))
    return Samples(rows, train_labels, val, test, data.classes, inputs, binarizer)


def _arrays(split: AnySplit) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not isinstance(split, Split):
        raise DataError("evolution needs images in memory, but these are streamed; choose another data set")
    return split.images.cpu().numpy(), split.labels.cpu().numpy()


def to_blocks(rows: Words, labels: NDArray[np.int64]) -> Blocks:
    """Packed rows (n, words) with labels (n,) as blocks."""
    columns = to_columns(rows)
    known = np.full((len(columns), BLOCK), -1, np.int64)
    known.ravel()[: len(rows)] = labels
    return Blocks(columns, known, len(rows))
