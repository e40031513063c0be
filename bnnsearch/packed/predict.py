"""From image files to labels, by a packed model: the files become the pixels that it was trained on, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnsearch.core.images import read_images
from bnnsearch.packed.model import PackedModel

BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model makes of one file.

    Attributes:
        file: the image.
        label: the class with the highest logit.
        name: of that class.
        scores: float64, (classes,), the softmax of the logits; of an evolved network, of its votes.
    """

    file: Path
    label: int
    name: str
    scores: NDArray[np.float64]


def predict_files(model: PackedModel, files: Sequence[Path]) -> Iterator[Prediction]:
    """Label image files in their order, decoded and scaled as the model's training images were.

    Raises:
        DataError: a file is no image, is cut short, or has pixels without a meaning; those before its batch are out.
    """
    for first in range(0, len(files), BATCH):
        batch = files[first : first + BATCH]
        logits = model.logits(read_images(batch, model.shape, crop=model.preprocessing.crop))
        for file, label, scores in zip(batch, logits.argmax(axis=1), softmax(logits), strict=True):
            yield Prediction(file, int(label), model.classes[label], scores)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of every row of (N, classes)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
