"""Where the values of a network lie: one arena, addresses in bytes.

A real value's place is used again once its last reader has run. Bits, and values with a border, keep theirs: borders
are zeroed once, when the arena is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch.bits import padded
from bnnsearch.packed import kernels
from bnnsearch.packed.graph import INPUT
from bnnsearch.packed.layout import Layout, bits_bytes, real_bytes
from bnnsearch.packed.operations import Combine, Concatenate, Convolution, Flatten, Pool, Sigmoid
from bnnsearch.packed.prepare import Prepared
from bnnsearch.packed.schedule import Image, Load, Stage

LINE = 64


@dataclass(frozen=True, slots=True)
class Memory:
    """The arena and what lies where in it.

    Attributes:
        layouts: how each stored value and each value of bits lies.
        starts: bytes from the beginning of the arena.
        arena: zeroed once, when it is made.
        zeros: address of a pixel of zeros that nobody writes.
        gathered: address of room for the windows of a block of pixels.
    """

    layouts: dict[str, Layout]
    starts: dict[str, int]
    arena: NDArray[np.uint8]
    zeros: int
    gathered: int

    def address(self, name: str) -> int:
        """The address of value `name`."""
        return int(self.arena.ctypes.data) + self.starts[name]

    def values(self, name: str) -> NDArray[np.float32]:
        """The real value `name`, (images, height, width, channels): a view of the arena."""
        layout = self.layouts[name]
        start, size = self.starts[name], layout.images * layout.image_bytes
        (top, left), (channels, height, width) = layout.border, layout.shape
        pixels = self.arena[start : start + size].view(np.float32)
        bordered = pixels.reshape(layout.images, height + 2 * top, width + 2 * left, -1)
        return bordered[:, top : top + height, left : left + width, :channels]


@dataclass
class _Space:
    """First-fit allocation of bytes; free places are (start, size)."""

    size: int = 0
    free: list[tuple[int, int]] = field(default_factory=list)

    def take(self, size: int, *, used: bool) -> int:
        """A place of `size` bytes; with `used` it may be one that held something before."""
        for index, (start, room) in enumerate(self.free):
            if used and room >= size:
                self.free[index] = (start + size, room - size)
                return start
        start, self.size = self.size, self.size + size
        return start

    def give(self, start: int, size: int) -> None:
        """Free a place, joined with its free neighbours."""
        merged: list[tuple[int, int]] = []
        for place, room in sorted([*self.free, (start, size)]):
            if merged and merged[-1][0] + merged[-1][1] == place:
                merged[-1] = (merged[-1][0], merged[-1][1] + room)
            elif room:
                merged.append((place, room))
        self.free = merged


def lay_out(prepared: Prepared, images: int) -> Memory:
    """Lay out the values of the network that are stored, for `images` images at a time."""
    layouts = _layouts(prepared, images)
    widest = padded(max(real_bytes(shape.channels) for shape in prepared.shapes.values()), LINE)
    room = padded(max(map(kernels.gathered_bytes, _windows(prepared)), default=0), LINE)
    space = _Space(size=widest + room)
    last_read: dict[str, int] = {}
    for index, stage in enumerate(prepared.schedule.stages):
        last_read.update(dict.fromkeys(reads(prepared, stage), index))
    starts: dict[str, int] = {}
    for index, stage in enumerate(prepared.schedule.stages):
        for name in _writes(prepared, index, stage):
            starts[name] = space.take(_bytes(layouts[name]), used=_reusable(prepared, layouts[name], name))
        for name, start in starts.items():
            if last_read.get(name) == index and _reusable(prepared, layouts[name], name):
                space.give(start, _bytes(layouts[name]))
    memory = np.zeros(space.size + LINE, np.uint8)
    arena = memory[-memory.ctypes.data % LINE :]
    return Memory(layouts, starts, arena, arena.ctypes.data, arena.ctypes.data + widest)


def _windows(prepared: Prepared) -> list[int]:
    """Bytes of a window of each binary convolution."""
    return [
        math.prod(operation.kernel) * bits_bytes(prepared.shapes[operation.input].channels)
        for operation in prepared.graph.operations
        if isinstance(operation, Convolution) and operation.binary
    ]


def _bytes(layout: Layout) -> int:
    """Whole lines, and something to spare for reads over the end."""
    return padded(layout.images * layout.image_bytes + kernels.SLACK, LINE)


def _reusable(prepared: Prepared, layout: Layout, name: str) -> bool:
    return name in prepared.schedule.stored and name not in prepared.kept and layout.border == (0, 0)


def _layouts(prepared: Prepared, images: int) -> dict[str, Layout]:
    """Borders are as wide as the widest padding among the convolutions that read a value."""
    borders: dict[str, tuple[int, int]] = {}
    for operation in prepared.graph.operations:
        if isinstance(operation, Convolution):
            name = prepared.schedule.source_of(operation.input)
            height, width = borders.get(name, (0, 0))
            borders[name] = (max(height, operation.padding[0]), max(width, operation.padding[1]))
    layouts = {}
    bits = {operation.name for taken in prepared.schedule.thresholds.values() for operation in taken}
    for name in prepared.schedule.stored | bits:
        shape = prepared.shapes[name]
        if name in bits:
            pixel_bytes = bits_bytes(shape.channels)
        else:
            pixel_bytes = 4 * prepared.image_channels if name == INPUT else real_bytes(shape.channels)
        layouts[name] = Layout(shape, images, borders.get(name, (0, 0)), pixel_bytes)
    return layouts


def reads(prepared: Prepared, stage: Stage) -> set[str]:
    """The values a stage reads from memory."""
    names = {change.y for change in stage.changes if isinstance(change, Combine)}
    match stage.source:
        case Load():
            names.add(stage.source.name)
        case Convolution() | Pool() | Flatten() | Sigmoid() | Concatenate():
            names.update(stage.source.inputs)
        case Image():
            pass
        case _:
            assert_never(stage.source)
    return {prepared.schedule.source_of(name) for name in names}


def _writes(prepared: Prepared, place: int, stage: Stage) -> list[str]:
    """The values a stage writes: what is stored, and bits."""
    names = []
    for name in stage.values:
        reloaded = isinstance(stage.source, Load) and name == stage.source.name
        if name in prepared.schedule.stored and not reloaded:
            names.append(name)
        if prepared.schedule.homes[name] == place:
            names.extend(bits.name for bits in prepared.schedule.thresholds.get(name, ()))
    return names
