"""How stored arrays and values lie in memory for the kernels of `bnnsearch/native/packed`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import padded, unpack_rows
from bnnsearch.packed import kernels
from bnnsearch.packed.graph import Normalisation
from bnnsearch.packed.kernels import LANES
from bnnsearch.packed.operations import Array, Convolution, Shape

Offsets = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Layout:
    """A value of `images` images as (image, row, column, channel) with a border of zeros.

    Attributes:
        shape: the value's own shape.
        images: images side by side.
        border: pixels on each side, rows and columns.
        pixel_bytes: distance of neighbouring pixels.
    """

    shape: Shape
    images: int
    border: tuple[int, int]
    pixel_bytes: int

    @property
    def pixels(self) -> int:
        """Pixels inside the borders."""
        return self.images * self.shape.height * self.shape.width

    @property
    def row_bytes(self) -> int:
        """Distance of neighbouring rows."""
        return (self.shape.width + 2 * self.border[1]) * self.pixel_bytes

    @property
    def image_bytes(self) -> int:
        """Distance of neighbouring images."""
        return (self.shape.height + 2 * self.border[0]) * self.row_bytes

    def place(self, rows: Array, columns: Array) -> NDArray[np.int64]:
        """Bytes from the start to pixels (row, column) of every image, (images, rows, columns); borders count too."""
        image = np.arange(self.images)[:, None, None] * self.image_bytes
        row = (np.asarray(rows)[:, None] + self.border[0]) * self.row_bytes
        return np.asarray(image + row + (np.asarray(columns) + self.border[1]) * self.pixel_bytes)

    def pixel_places(self) -> NDArray[np.int64]:
        """Bytes from the start to every pixel, flat."""
        return self.place(np.arange(self.shape.height), np.arange(self.shape.width)).ravel()


def real_bytes(channels: int) -> int:
    """Bytes of a pixel of float32, whole vectors."""
    return 4 * padded(channels, LANES)


def bits_bytes(channels: int) -> int:
    """Bytes of a pixel of bits: one, or two for every 16."""
    return 1 if channels <= 8 else padded(channels, LANES) // 8


def offset_table(places: NDArray[np.int64]) -> Offsets:
    """`places` as the kernels read them."""
    return np.ascontiguousarray(places, np.int32)


def per_channel(values: Array, channels: int, fill: float = 0.0) -> NDArray[np.float32]:
    """`values` (channels,) or (1,) as whole vectors of float32, filled up with `fill`."""
    lanes = np.full(padded(channels, LANES), fill, np.float32)
    lanes[:channels] = values
    return lanes


def reversed_lanes(flags: Array | None, channels: int) -> NDArray[np.uint8]:
    """Flags (channels,) of 0 and 1 as bits, 16 to a vector."""
    lanes = np.zeros(padded(channels, LANES), np.uint8)
    if flags is not None:
        lanes[:channels] = flags
    return np.packbits(lanes, bitorder="little")


def filter_bits(operation: Convolution, words: NDArray[np.uint64], channels: int) -> NDArray[np.bool_]:
    """Stored words of a binary convolution as bits (out, height, width, in)."""
    shape = (operation.channels, *operation.kernel, channels)
    return unpack_rows(words, int(np.prod(shape[1:]))).reshape(shape)


def binary_lanes(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Filters (out, height, width, in) as the instruction set that is used reads them."""
    out, height, width, channels = bits.shape
    filled = np.zeros((padded(out, LANES), height, width, 8 * bits_bytes(channels)), np.bool_)
    filled[:out, ..., :channels] = bits
    octets = np.packbits(filled, axis=-1, bitorder="little").reshape(len(filled), -1)
    lanes = np.empty(kernels.filter_bytes(*octets.shape), np.uint8)
    kernels.lay_filters(octets, *octets.shape, lanes)
    return lanes


def real_lanes(weight: NDArray[np.float32], in_lanes: int) -> NDArray[np.float32]:
    """Filters (out, height, width, in) as (group, height, width, in filled up to `in_lanes`, 16 output channels)."""
    out, height, width, channels = weight.shape
    filled = np.zeros((padded(out, LANES), height, width, in_lanes), np.float32)
    filled[:out, ..., :channels] = weight
    return _lanes_last(filled)


def _lanes_last(filters: Array) -> Array:
    groups = filters.reshape(-1, LANES, *filters.shape[1:])
    return np.ascontiguousarray(np.moveaxis(groups, 1, -1))


def border_bases(
    operation: Convolution, bits: NDArray[np.bool_], source: Shape, out: Shape
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What twice the distances are taken from, per kind of border.

    Zeros outside the image are stored as bits 0, so each such tap adds popcount(w) to the distance d, and counts
    nothing: dot = channels taps_inside + 2 popcount(w outside) - 2 d.

    Returns:
        Bases (kinds, output channels) as whole vectors, and the kind of each output pixel (height, width).
    """
    tap_counts = bits.sum(axis=3).astype(np.int64)
    inside = [
        _inside(source[1 + axis], count, operation.kernel[axis], operation.stride[axis], operation.padding[axis])
        for axis, count in enumerate(out[1:])
    ]
    (row_masks, row_kinds), (column_masks, column_kinds) = (
        np.unique(mask, axis=0, return_inverse=True) for mask in inside
    )
    taps = np.einsum("yh,xw->yx", row_masks, column_masks)
    covered = np.einsum("yh,xw,ohw->yxo", row_masks, column_masks, tap_counts)
    outside = tap_counts.sum(axis=(1, 2)) - covered
    bases = np.zeros((*taps.shape, padded(operation.channels, LANES)), np.float32)
    bases[..., : operation.channels] = source.channels * taps[..., None] + 2 * outside
    kinds = row_kinds.reshape(-1, 1) * len(column_masks) + column_kinds.reshape(1, -1)
    return bases.reshape(-1, bases.shape[-1]), kinds


def _inside(side: int, windows: int, kernel: int, stride: int, padding: int) -> NDArray[np.int64]:
    """Which of the kernel's taps lie inside the image, (windows, kernel) of 0 and 1."""
    places = np.arange(windows)[:, None] * stride - padding + np.arange(kernel)
    return ((places >= 0) & (places < side)).astype(np.int64)


def octet_table(images: Normalisation) -> NDArray[np.float32]:
    """What each octet becomes, (channels, 256)."""
    mean = np.array(images.mean, np.float32)[:, None] * np.float32(255)
    scale = np.float32(1) / (np.array(images.std, np.float32)[:, None] * np.float32(255))
    return np.asarray((np.arange(256, dtype=np.float32) - mean) * scale, np.float32)
