"""From files to labels, by a packed model: they become the octets that it was trained on, without torch.

A file is an image, or an array of samples in `.npy` or `.npz`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from bnnsearch.core.arrays import CHUNK_BYTES, Scaling, check_axes, check_finite, image_shape, open_only
from bnnsearch.core.images import SUFFIXES, read_images
from bnnsearch.errors import DataError, printable
from bnnsearch.packed.model import PackedModel

BATCH = 64

READ = SUFFIXES | {".npy", ".npz"}
"""What files are called that are looked for in folders."""


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


def files_below(places: Iterable[Path]) -> list[Path]:
    """The files that are named, and in the place of a folder the images and arrays below it, sorted by their paths.

    As in training, links are followed, and what begins with a dot is left out, such as the pixels that training keeps.

    Raises:
        DataError: a folder has none, or may not be read.
    """
    files: list[Path] = []
    for place in places:
        found = [place]
        if place.is_dir():
            found = sorted(_below(place))
            if not found:
                raise DataError(f"{place}: no file below it is an image or an array ({', '.join(sorted(READ))})")
        files += found
    return files


def _below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise DataError(f"{printable(error.filename)}: cannot be read ({error.strerror})") from error

    entered = {folder.resolve()}
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = {name: Path(place, name).resolve() for name in folders}
        folders[:] = [name for name in folders if not name.startswith(".") and real[name] not in entered]
        entered |= {real[name] for name in folders}  # a link may lead back to where it is
        yield from (Path(place, name) for name in names if name[0] != "." and Path(name).suffix.lower() in READ)


def predict_files(
    model: PackedModel,
    files: Sequence[Path],
    *,
    threads: int = 1,
    unread: Callable[[Path, DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Label files in their order, read and scaled as what the model was trained on.

    Args:
        model: labels them.
        files: images and arrays.
        threads: to compute with.
        unread: told of a file that cannot be read, after which the next one follows; None raises.

    Raises:
        DataError: a file is no image or array, is cut short, or has values without a meaning; those before its batch
            are out.
    """
    if unread is None:
        yield from _predict(model, files, threads)
        return
    for first in range(0, len(files), BATCH):
        batch = files[first : first + BATCH]
        try:
            found = list(_predict(model, batch, threads))
        except DataError:  # one of them: each by itself
            found = []
            for file in batch:
                try:
                    found += _predict(model, [file], threads)
                except DataError as error:
                    yield from found
                    found = []
                    unread(file, error)
        yield from found


def _predict(model: PackedModel, files: Sequence[Path], threads: int) -> Iterator[Prediction]:
    for arrays, group in groupby(files, key=lambda file: file.suffix.lower() in (".npy", ".npz")):
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
