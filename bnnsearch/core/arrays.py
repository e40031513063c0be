"""Arrays in `.npz` and `.npy` files: opened without pickle, checked, and turned into octets as images have them.

Whatever the numbers are, a network sees octets: octet = round(255 (x - low) / (high - low)), clipped to 0..255, with
low and high per channel. A packed model keeps them, and makes octets of an array in the same way. Without torch, so
that it serves predictions.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bnnsearch.config.data import Layout
from bnnsearch.errors import DataError, printable
from bnnsearch.files import check_regular, open_regular

Array = NDArray[Any]
LARGEST = 3e38
"""What float32 holds."""

Bound = Annotated[float, Field(ge=-1e41, le=1e41)]  # with `clip`, beyond the largest number by its deviations

CHUNK_BYTES = 2**25
"""Of an array as it is stored, worked on at a time: one larger than memory may be read where its octets are not."""

FIXED = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}
"""What becomes 0 and 255 of numbers that are octets already."""


class Scaling(BaseModel):
    """How an array becomes octets (N, C, H, W).

    Attributes:
        layout: the array's axes; a signal has height 1.
        low: what becomes 0, per channel.
        high: what becomes 255.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    layout: Layout = "NCHW"
    low: tuple[Bound, ...] = Field(strict=False)
    high: tuple[Bound, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if len(self.low) != len(self.high) or not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must be below high for each channel, but got {self.low} and {self.high}")
        return self

    @property
    def keeps(self) -> bool:
        """Whether octets are taken as they are."""
        return set(self.low) == {0.0} and set(self.high) == {255.0}

    def described(self) -> str:
        """How numbers become octets, and how far an octet is off, in one line."""
        steps = [(high - low) / 255 for low, high in zip(self.low, self.high, strict=True)]
        if set(steps) == {1.0}:
            return (
                f"octets are x + {-self.low[0]:g}, which keeps whole numbers from {self.low[0]:g} to {self.high[0]:g}"
            )
        bounds = f"low {_span(self.low)}, high {_span(self.high)}"
        return (
            f"octets are round(255 (x - low) / (high - low)), {bounds}: within them off by half a step of "
            f"{_span(steps)} at most, clipped beyond"
        )

    def octets(self, array: Array, index: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
        """The samples at `index`, or all, as uint8 (N, C, H, W)."""
        index = np.arange(len(array)) if index is None else index
        octets = np.empty((len(index), *image_shape(array, self.layout)), np.uint8)
        low, high = (np.array(bound)[:, None, None] for bound in (self.low, self.high))
        kept = array.dtype == np.uint8 and self.keeps
        for first, chunk in chunks(array, index, self.layout):
            place = octets[first : first + len(chunk)]
            place[:] = chunk if kept else np.rint((chunk - low) * (255 / (high - low))).clip(0, 255)
        return octets


def _span(values: Sequence[float]) -> str:
    """The value of all channels, or the least and the greatest."""
    least, greatest = f"{min(values):.4g}", f"{max(values):.4g}"
    return least if least == greatest else f"{least} to {greatest} by channel"


def image_shape(array: Array, layout: Layout) -> tuple[int, int, int]:
    """(C, H, W) of a sample."""
    sides = dict(zip(layout, array.shape, strict=True))
    return sides.get("C", 1), sides.get("H", 1), sides.get("W", sides.get("L", 1))


def chunks(array: Array, index: NDArray[np.int64], layout: Layout) -> Iterator[tuple[int, Array]]:
    """Samples at `index` a part at a time: how many stand before, and the part (n, C, H, W)."""
    together = _in_chunk(array)
    axes = [layout.index(axis) for axis in "NCHWL" if axis in layout]
    for first in range(0, len(index), together):
        part = np.asarray(array[index[first : first + together]])
        yield first, part.transpose(axes).reshape(len(part), *image_shape(array, layout))


def _in_chunk(array: Array) -> int:
    """How many samples of an array are worked on at a time."""
    return max(1, CHUNK_BYTES * len(array) // max(1, array.nbytes))


def measured_scaling(array: Array, index: NDArray[np.int64], layout: Layout, *, clip: float | None) -> Scaling:
    """The scaling of an array by its samples at `index`: from least to greatest, or mean -+ clip deviations."""
    channels = image_shape(array, layout)[0]
    if array.dtype.name in FIXED:
        low, high = (np.full(channels, bound) for bound in FIXED[array.dtype.name])
        return Scaling(layout=layout, low=tuple(low.tolist()), high=tuple(high.tolist()))
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    origin: Array | None = None  # squares are summed from the first sample's mean: of large numbers, small differences
    for _, stored in chunks(array, index, layout):
        chunk = stored.astype(np.float64)
        low, high = (np.minimum(low, chunk.min((0, 2, 3))), np.maximum(high, chunk.max((0, 2, 3))))
        origin = chunk[0].mean((1, 2)) if origin is None else origin
        chunk -= origin[:, None, None]
        total, squares = total + chunk.sum((0, 2, 3)), squares + np.square(chunk).sum((0, 2, 3))
        count += chunk[:, 0].size
    if clip is not None and origin is not None:
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean * mean, 0))
        low, high = origin + mean - clip * deviation, origin + mean + clip * deviation
    high = np.where(high > low, high, low + np.maximum(1.0, np.abs(low)))  # a constant channel is 0 everywhere
    return Scaling(layout=layout, low=tuple(low.tolist()), high=tuple(high.tolist()))


def check_finite(array: Array, place: str) -> None:
    """See that all numbers are finite, and small enough for float32.

    Raises:
        DataError: naming the first sample where one is not.
    """
    together = _in_chunk(array)
    for first in range(0, len(array) if array.dtype.kind == "f" else 0, together):
        part = array[first : first + together].reshape(-1, array[0].size).astype(np.float64)
        fine = (np.abs(part) <= LARGEST).all(axis=1)  # in this form it does not hold of a NaN
        if not fine.all():
            sample = first + int(fine.argmin())
            raise DataError(
                f"{place}: expected finite numbers, within +-{LARGEST:g}, but sample {sample} has one that is not"
            )


def open_array(root: Path, name: str) -> tuple[Array, str]:
    """The array `name`, and its place for messages.

    Args:
        root: an `.npz` file, of which `name` is a key; or a folder, in which it is `NAME.npy`, mapped into memory, or
            `FILE.npz:KEY`.
        name: of the array.

    Raises:
        DataError: there is none, it cannot be read, is empty, larger than memory, or holds no real numbers.
    """
    if root.suffix == ".npz":
        return read_array(root, name)
    file, colon, key = name.rpartition(":")
    if colon:
        return read_array(root / file, key)
    return read_array(root / (name if name.endswith(".npy") else f"{name}.npy"))


def read_array(path: Path, key: str = "") -> tuple[Array, str]:
    """The array of an `.npy` file, or the one called `key` of an `.npz` file, and its place for messages.

    Raises:
        DataError: see `open_array`.
    """
    place = f"{printable(path)}{f': {printable(key)}' if key else ''}"
    try:
        check_regular(path)
        array = _member(path, key) if key else npy.open_memmap(path, mode="r")
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({error.strerror or printable(str(error))})") from error
    except MemoryError as error:
        raise DataError(f"{place}: is larger than the memory of this machine") from error
    except Exception as error:  # what a damaged archive makes zipfile, zlib and numpy raise is of a dozen kinds
        reason = printable(str(error)).removeprefix("'").removesuffix("'") or type(error).__name__
        raise DataError(f"{place}: expected an array of numbers, but {_plainly(reason)}") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{place}: expected integers or floating-point numbers, but it has {array.dtype}")
    if array.size == 0 or array.ndim == 0:
        raise DataError(f"{place}: expected samples along the first axis, but its shape is {array.shape}")
    if array.size > memory_bytes():
        raise DataError(f"{place}: shape {array.shape} is larger than the memory of this machine, a byte each")
    return array, place


def open_only(file: Path) -> tuple[Array, str]:
    """The array of an `.npy` file, or of an archive that holds one alone, or one that is called `images`.

    Raises:
        DataError: see `open_array`.
    """
    if file.suffix != ".npz":
        return read_array(file)
    try:
        with open_regular(file) as content, zipfile.ZipFile(content) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        keys = []  # which is told where it is opened
    return read_array(file, keys[0] if len(keys) == 1 else "images")


def memory_bytes() -> int:
    """Of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _member(path: Path, key: str) -> Array:
    """One array of an archive; nothing is unpickled."""
    with open_regular(path) as content, zipfile.ZipFile(content) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist()]
        if key not in keys:
            raise KeyError(f"it has no key {key}, only {', '.join(keys[:20])}")
        member = archive.namelist()[keys.index(key)]
        if archive.getinfo(member).file_size > memory_bytes():
            raise MemoryError
        with archive.open(member) as stored:
            array: Array = npy.read_array(stored, allow_pickle=False)
            stored.read()  # to its end, where the checksum is verified
            return array


def _plainly(reason: str) -> str:
    objects = "allow_pickle" in reason or "Python objects" in reason
    return "it holds Python objects, which are never read" if objects else f"it cannot be read ({reason})"


def check_axes(array: Array, layout: Layout, place: str) -> None:
    """See that the array has the axes of `layout`.

    Raises:
        DataError: it has more or fewer.
    """
    if array.ndim != len(layout):
        fitting = ", ".join(each for each in get_args(Layout) if len(each) == array.ndim) or "none"
        raise DataError(
            f"{place}: layout {layout} needs {len(layout)} axes, but its shape is {array.shape}; "
            f"layouts of {array.ndim} axes: {fitting}"
        )


def checked_labels(stored: Array, place: str) -> NDArray[np.int64]:
    """Labels (N,) of an array (N,) or (N, 1).

    Raises:
        DataError: they are no integers from 0 on.
    """
    if stored.dtype.kind not in "iu":
        raise DataError(f"{place}: labels must be integers, but they are {stored.dtype}")
    if math.prod(stored.shape[1:]) != 1:
        raise DataError(f"{place}: labels must have one axis, a class each, but their shape is {stored.shape}")
    labels = np.asarray(stored).reshape(-1)
    if labels.min() < 0 or labels.max() >= len(labels):  # a class without a sample would be among them
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{place}: labels must count the classes from 0 on, but there is {wrong}")
    return labels.astype(np.int64)
