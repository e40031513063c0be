"""The network of the thesis, section 4.1: layers of XOR and bit count, majority voting, groups of bits per label.

    a_l[j] = 1 where at least half of the inputs agree with the weights: 2 popcount(a_(l-1) ^ w_j) <= inputs
    class  = the label whose group of output bits has most ones; the lowest label where several have

There is no batch norm and no bias; pixels become bits by thresholds. Weights and activations are packed 64 to a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import Words, pack_rows, padded
from bnnsearch.evolve.forward import predict
from bnnsearch.evolve.layout import Layout

BLOCK = 128
"""Samples per block of columns."""

_MANY = 4096


@dataclass(frozen=True)
class Binarizer:
    """Pixels to bits.

    Attributes:
        thresholds: a bit is 1 where pixel >= threshold (0 to 255); several thresholds give as many bits per pixel.
        crop: border rows and columns left out on every side.
    """

    thresholds: tuple[int, ...] = (128,)
    crop: int = 0

    def inputs(self, shape: tuple[int, int, int]) -> int:
        """Bits of one image of `shape` (channels, height, width)."""
        channels, height, width = shape
        return len(self.thresholds) * channels * (height - 2 * self.crop) * (width - 2 * self.crop)

    def rows(self, images: NDArray[np.uint8], shift: tuple[int, int] = (0, 0)) -> Words:
        """Pack images (n, channels, height, width), moved down and right by `shift` pixels, as rows (n, words)."""
        if shift != (0, 0):
            moved = np.zeros_like(images)
            _, _, height, width = images.shape
            down, right = shift
            moved[:, :, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = images[
                :, :, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
            ]
            images = moved
        edge = self.crop
        inner = images[:, :, edge : images.shape[2] - edge, edge : images.shape[3] - edge].reshape(len(images), -1)
        return pack_rows(np.concatenate([inner >= threshold for threshold in self.thresholds], axis=1))


@dataclass(frozen=True)
class XorNetwork:
    """A trained network: plain packed weights, enough to predict without the trainer that made them.

    Attributes:
        sizes: neurons per layer: input bits, hidden layers, classes * bits_per_label.
        classes: number of labels.
        genome: all weights, packed as `Layout(sizes)` says (uint64).
        binarizer: how pixels become input bits.
    """

    sizes: tuple[int, ...]
    classes: int
    genome: Words
    binarizer: Binarizer

    @cached_property
    def layout(self) -> Layout:
        """Where the weights lie in the genome."""
        return Layout(self.sizes)

    @property
    def bits_per_label(self) -> int:
        """Output bits that vote for one label."""
        return self.sizes[-1] // self.classes

    def layers(self) -> list[Words]:
        """Packed weights of each layer: (outputs, ceil(inputs / 64)) words; element i in bit i % 64, unused bits 0."""
        return [self.layout.layer(self.genome, index)[:outputs] for index, outputs in enumerate(self.sizes[1:])]

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Labels of uint8 images (n, channels, height, width)."""
        labels = [
            self._labels(self.binarizer.rows(images[first : first + _MANY])) for first in range(0, len(images), _MANY)
        ]
        return np.concatenate([np.zeros(0, np.int64), *labels])

    def _labels(self, rows: Words) -> NDArray[np.int64]:
        return predict(self.genome, self.layout, to_columns(rows), self.classes)[: len(rows)]


def to_columns(rows: Words) -> Words:
    """Packed rows (n, words) as blocks of columns (blocks, words, 128), filled up with zeros."""
    filled = np.zeros((padded(len(rows), BLOCK), rows.shape[1]), np.uint64)
    filled[: len(rows)] = rows
    return np.ascontiguousarray(filled.reshape(-1, BLOCK, rows.shape[1]).transpose(0, 2, 1))
