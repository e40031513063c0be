"""From files to labels, by a packed model: they become the octets that it was trained on, without torch.

A file is an image, or an array of samples in `.npy` or `.npz`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnsearch.core.arrays import CHUNK_BYTES, Scaling, check_axes, check_finite, image_shape, open_only
from bnnsearch.core.images import read_images
from bnnsearch.errors import DataError
from bnnsearch.packed.model import PackedModel

BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model makes of one sample.

    Attributes:
        file: the image, or the array that the sample is in.
        label: the class with the highest logit.
        name: of that class.
        scores: float64, (classes,), the softmax of the logits; of an evolved network, of its votes.
        sample: which of the array it is, from 0; None of an image.
    """

    file: Path
    label: int
    name: str
    scores: NDArray[np.float64]
    sample: int | None = None


def predict_files(model: PackedModel, files: Sequence[Path], *, threads: int = 1) -> Iterator[Prediction]:
    """Label files in their order, read and scaled as what the model was trained on.

    Raises:
        DataError: a file is no image or array, is cut short, or has values without a meaning; those before its batch
            are out.
    """
    for arrays, group in groupby(files, key=lambda file: file.suffix in (".npy", ".npz")):
        if arrays:
            for file in group:
                yield from _predict_array(model, file, threads)
            continue
        images = list(group)
        for first in range(0, len(images), BATCH):
            batch = images[first : first + BATCH]
            octets = read_images(batch, model.shape, crop=model.preprocessing.crop)
            for file, (label, scores) in zip(batch, _labelled(model, octets, threads), strict=True):
                yield Prediction(file, label, model.classes[label], scores)


def _predict_array(model: PackedModel, file: Path, threads: int) -> Iterator[Prediction]:
    """Label the samples of an array, of which an archive must hold one alone, or one that is called `images`.

    Raises:
        DataError: see `open_array`; or the samples are not of the model's shape.
    """
    array, place = open_only(file)
    channels = model.shape[0]
    scaling = model.preprocessing.arrays or Scaling(low=(0.0,) * channels, high=(255.0,) * channels)
    check_axes(array, scaling.layout, place)
    if (found := image_shape(array, scaling.layout)) != model.shape:
        raise DataError(
            f"{place}: expected samples of {model.shape}, channels, height and width, but shape {array.shape} of "
            f"layout {scaling.layout} has {found}"
        )
    if model.preprocessing.arrays is None and array.dtype != np.uint8:
        raise DataError(f"{place}: the model was trained on images: expected uint8, but it has {array.dtype}")
    check_finite(array, place)
    together = max(BATCH, CHUNK_BYTES // array[0].size)
    for first in range(0, len(array), together):
        octets = scaling.octets(array, np.arange(first, min(first + together, len(array))))
        for sample, (label, scores) in enumerate(_labelled(model, octets, threads), start=first):
            yield Prediction(file, label, model.classes[label], scores, sample)


def _labelled(model: PackedModel, octets: NDArray[np.uint8], threads: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
    logits = model.logits(octets, threads=threads)
    return ((int(label), scores) for label, scores in zip(logits.argmax(axis=1), softmax(logits), strict=True))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of every row of (N, classes)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
