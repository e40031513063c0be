"""From stages to the tables that the kernels run: addresses, counts, steps.

Every address handed to a kernel is computed here, from shapes that `Graph.shapes` has checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels import conv
from bnnsearch.kernels.conv_emit import LANES
from bnnsearch.kernels.conv_source import Source as Fill
from bnnsearch.kernels.conv_step import Step
from bnnsearch.kernels.popcount import padded
from bnnsearch.packed.layout import Layout, offset_table, per_channel, reversed_lanes
from bnnsearch.packed.memory import Memory
from bnnsearch.packed.operations import (
    Affine,
    Array,
    Clamp,
    Combine,
    Concatenate,
    Convolution,
    Flatten,
    Pool,
    Prelu,
    Scale,
    Shape,
    Shift,
    Sigmoid,
    Slice,
    Threshold,
)
from bnnsearch.packed.prepare import Prepared
from bnnsearch.packed.schedule import Change, Image, Load, Stage

ALL_BITS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Tables:
    """What `conv.run_stages` takes.

    Attributes:
        stages: rows of `conv.Column` or `conv.CopyColumn`.
        steps: rows of kind, a, b, map, offsets.
        ends: the row after the last one of each stage of the schedule.
        kept: arrays that the rows point into.
    """

    stages: NDArray[np.int64]
    steps: NDArray[np.int64]
    ends: list[int]
    kept: list[Array]


def lower(prepared: Prepared, memory: Memory, images: int) -> Tables:
    """The tables of a network for batches of `images` images whose values lie in `memory`."""
    lowering = _Lowering(prepared, memory, images)
    ends = []
    for index, stage in enumerate(prepared.schedule.stages):
        lowering.add(index, stage)
        ends.append(len(lowering.rows))
    return Tables(np.array(lowering.rows, np.int64), np.array(lowering.steps, np.int64), ends, lowering.kept)


class _Lowering:
    def __init__(self, prepared: Prepared, memory: Memory, images: int) -> None:
        self.prepared = prepared
        self.memory = memory
        self.images = images
        self.rows: list[list[int]] = []
        self.steps: list[list[int]] = []
        self.kept: list[Array] = []
        self._tables: dict[str, int] = {}

    def add(self, place: int, stage: Stage) -> None:
        """Append the rows of a stage."""
        match stage.source:
            case Image():
                self._add_image(stage.source)
            case Flatten():
                self._add_flatten(stage.source)
            case Concatenate():
                self._add_concatenation(stage.source)
            case Sigmoid():
                source, target = self.prepared.schedule.source_of(stage.source.input), stage.source.name
                self._add_copy(conv.Stage.SIGMOID, (source, self._table(source)), (target, self._table(target)))
            case Convolution() | Pool() | Load():
                self._add_block(place, stage)
            case _:
                assert_never(stage.source)

    def _keep(self, array: Array) -> int:
        self.kept.append(array)
        return int(array.ctypes.data)

    def _table(self, name: str, places: NDArray[np.int64] | None = None) -> int:
        """Address of the offsets of value `name`: of all its pixels, or of `places`, filled up with the spare pixel."""
        rest = self.memory.spare - self.memory.address(name)
        if places is not None:
            return self._keep(offset_table(places, rest))
        if name not in self._tables:
            self._tables[name] = self._keep(offset_table(self.memory.layouts[name].pixel_places(), rest))
        return self._tables[name]

    # --- scalars that move ---

    def _add_image(self, source: Image) -> None:
        layout = self.memory.layouts[source.name]
        channels = self.prepared.graph.images.shape[0]
        row = dict.fromkeys(conv.CopyColumn, 0) | {
            conv.CopyColumn.KIND: conv.Stage.INPUT,
            conv.CopyColumn.TARGET: self.memory.address(source.name),
            conv.CopyColumn.TARGET_OFFSETS: self._table(source.name),
            conv.CopyColumn.PIXELS: layout.pixels,
            conv.CopyColumn.CHANNELS: layout.shape.channels,
            conv.CopyColumn.TABLE: self.prepared.octets.ctypes.data,
            conv.CopyColumn.PER_CHANNEL: layout.shape.channels // channels,
            conv.CopyColumn.IMAGES: self.images,
        }
        self._append(row)

    def _add_copy(
        self,
        kind: conv.Stage,
        source: tuple[str, int],
        target: tuple[str, int],
        *,
        pixels: int | None = None,
        channels: int | None = None,
    ) -> None:
        layout = self.memory.layouts[target[0]]
        row = dict.fromkeys(conv.CopyColumn, 0) | {
            conv.CopyColumn.KIND: kind,
            conv.CopyColumn.SOURCE: self.memory.address(source[0]),
            conv.CopyColumn.OFFSETS: source[1],
            conv.CopyColumn.TARGET: self.memory.address(target[0]),
            conv.CopyColumn.TARGET_OFFSETS: target[1],
            conv.CopyColumn.PIXELS: pixels or layout.pixels,
            conv.CopyColumn.CHANNELS: channels or layout.shape.channels,
        }
        self._append(row)

    def _add_flatten(self, source: Flatten) -> None:
        name = self.prepared.schedule.source_of(source.input)
        layout, target = self.memory.layouts[name], self.memory.layouts[source.name]
        pixels = layout.pixel_places().reshape(self.images, 1, -1)
        read = pixels + 4 * np.arange(layout.shape.channels)[:, None]
        write = target.pixel_places()[:, None] + 4 * np.arange(target.shape.channels)
        self._add_copy(
            conv.Stage.COPY,
            (name, self._table(name, read.ravel())),
            (source.name, self._table(source.name, write.ravel())),
            pixels=read.size,
            channels=1,
        )

    def _add_concatenation(self, source: Concatenate) -> None:
        """Zeros everywhere if there are any, then the slices: as vectors where they are whole ones, else as scalars."""
        layout = self.memory.layouts[source.name]
        places = layout.pixel_places()
        if any(part.input is None for part in source.parts):
            zeros = (self.memory.zeros, self._keep(offset_table(np.zeros(len(places), np.int64), 0)))
            self._add_vectors(zeros, (source.name, places), layout.shape.channels)
        first = 0
        for part in source.parts:
            if part.input is not None:
                self._add_slice(part, (source.name, places + 4 * first))
            first += part.count

    def _add_slice(self, part: Slice, target: tuple[str, NDArray[np.int64]]) -> None:
        assert part.input is not None
        name = self.prepared.schedule.source_of(part.input)
        if part.count % LANES == 0:
            self._add_vectors((self.memory.address(name) + 4 * part.first, self._table(name)), target, part.count)
            return
        read = self.memory.layouts[name].pixel_places() + 4 * part.first
        write = self._table(target[0], target[1])
        self._add_copy(conv.Stage.COPY, (name, self._table(name, read)), (target[0], write), channels=part.count)

    def _add_vectors(self, source: tuple[int, int], target: tuple[str, NDArray[np.int64]], count: int) -> None:
        """Copy whole vectors from the pixels at (address, offsets) to places of the target."""
        row = {conv.Column.SOURCE: source[0], conv.Column.OFFSETS: source[1], conv.Column.ROWS: 1}
        step = [Step.STORE, 0, 0, self.memory.address(target[0]), self._table(*target)]
        self._append_block(row | {conv.Column.KIND: Fill.MAX}, Shape(count, len(target[1]), 1), [step])

    # --- blocks ---

    def _add_block(self, place: int, stage: Stage) -> None:
        row, steps = self._source(stage)
        for number, name in enumerate(stage.values):
            if number > 0:
                steps.append(self._change(stage.changes[number - 1]))
            if self.prepared.schedule.homes[name] != place:
                continue
            if name in self.prepared.schedule.stored and not self._reloaded(stage, name):
                steps.append([Step.STORE, 0, 0, self.memory.address(name), self._table(name)])
            steps.extend(self._bits(bits) for bits in self.prepared.schedule.thresholds.get(name, ()))
        shape = self.prepared.shapes[stage.source.name]
        self._append_block(row, Shape(shape.channels, self.images * shape.height * shape.width, 1), steps)

    @staticmethod
    def _reloaded(stage: Stage, name: str) -> bool:
        return isinstance(stage.source, Load) and stage.source.name == name

    def _append_block(self, row: Mapping[conv.Column, int], shape: Shape, steps: Sequence[list[int]]) -> None:
        first = len(self.steps)
        self.steps.extend(steps)
        filled = dict.fromkeys(conv.Column, 0) | dict(row)
        filled[conv.Column.PIXELS] = shape.height
        filled[conv.Column.GROUPS] = padded(shape.channels, LANES) // LANES
        filled[conv.Column.FIRST_STEP], filled[conv.Column.LAST_STEP] = first, len(self.steps)
        self._append(filled)

    def _append(self, row: Mapping[conv.Column, int] | Mapping[conv.CopyColumn, int]) -> None:
        cells = [0] * conv.COLUMNS
        for column, value in row.items():
            cells[column] = int(value)
        self.rows.append(cells)

    def _source(self, stage: Stage) -> tuple[dict[conv.Column, int], list[list[int]]]:
        match stage.source:
            case Convolution():
                return self._convolution(stage.source), []
            case Pool():
                return self._pool(stage.source)
            case _:
                name = stage.source.name
                row = {conv.Column.SOURCE: self.memory.address(name), conv.Column.OFFSETS: self._table(name)}
                return row | {conv.Column.KIND: Fill.MAX, conv.Column.ROWS: 1}, []

    def _convolution(self, operation: Convolution) -> dict[conv.Column, int]:
        name = self.prepared.schedule.source_of(operation.input)
        layout, out = self.memory.layouts[name], self.prepared.shapes[operation.name]
        rows, columns = (
            np.arange(count) * stride - padding
            for count, stride, padding in zip(out[1:], operation.stride, operation.padding, strict=True)
        )
        starts = layout.place(rows, columns)
        row = {
            conv.Column.KIND: Fill.WIDE_REAL if operation.wide else Fill.REAL,
            conv.Column.SOURCE: self.memory.address(name),
            conv.Column.OFFSETS: self._keep(offset_table(starts.ravel(), 0)),
            conv.Column.WEIGHTS: self.prepared.weights[operation.name].ctypes.data,
            conv.Column.ROWS: operation.kernel[0],
            conv.Column.RUN: -(-operation.kernel[1] * layout.pixel_bytes // 4),
            conv.Column.ROW_STRIDE: layout.row_bytes,
        }
        if operation.binary:
            bases, kinds = self.prepared.bases[operation.name]
            kind_of_pixel = np.broadcast_to(kinds * bases.strides[0], starts.shape).ravel()
            masks = self.prepared.masks[operation.name]
            row[conv.Column.KIND] = Fill.BITS if (masks == ALL_BITS).all() else Fill.MASKED_BITS
            row[conv.Column.MASKS] = masks.ctypes.data
            row[conv.Column.BASE] = bases.ctypes.data
            row[conv.Column.BASE_OFFSETS] = self._keep(offset_table(kind_of_pixel, 0))
        return row

    def _pool(self, operation: Pool) -> tuple[dict[conv.Column, int], list[list[int]]]:
        name = self.prepared.schedule.source_of(operation.input)
        layout, out = self.memory.layouts[name], self.prepared.shapes[operation.name]
        address = self.memory.address(name)
        taps, inside = _windows(operation, layout, out)
        outside = taps.max(axis=0) if operation.kind == "max" else np.full(taps.shape[1], self.memory.zeros - address)
        tables = [offset_table(np.where(valid, tap, outside), 0) for tap, valid in zip(taps, inside, strict=True)]
        row = {
            conv.Column.KIND: _POOLS[operation.kind, operation.wide],
            conv.Column.SOURCE: address,
            conv.Column.OFFSETS: self._keep(np.concatenate(tables)),
            conv.Column.ROWS: len(tables),
            conv.Column.ROW_STRIDE: tables[0].nbytes,
        }
        if operation.kind == "max":
            return row, []
        counts = inside.sum(axis=0).astype(np.float32)
        places = offset_table(np.arange(len(counts), dtype=np.int64) * 4, 0)
        return row, [[Step.DIVIDE, 0, 0, self._keep(counts), self._keep(places)]]

    def _change(self, change: Change) -> list[int]:
        channels = self.prepared.shapes[change.name].channels
        if isinstance(change, Combine):
            step = Step.ADD if change.op == "add" else Step.MULTIPLY
            return [step, 0, 0, self.memory.address(change.y), self._operand_table(change)]
        if isinstance(change, Clamp):
            low = -np.inf if change.low is None else change.low
            high = np.inf if change.high is None else change.high
            bounds = [np.full(padded(channels, LANES), bound, np.float32) for bound in (low, high)]
            return [Step.CLAMP, *map(self._keep, bounds), 0, 0]
        values = self.prepared.tensors[change.name]
        vectors = [per_channel(row, channels) for row in (values if isinstance(change, Affine) else (values,))]
        places = [*map(self._keep, vectors), 0][:2]
        return [_STEPS[type(change)], *places, 0, 0]

    def _operand_table(self, change: Combine) -> int:
        x, y = self.prepared.shapes[change.x], self.prepared.shapes[change.y]
        if x == y:
            return self._table(change.y)
        places = self.memory.layouts[change.y].pixel_places()
        return self._table(change.y, np.repeat(places, x.height * x.width))

    def _bits(self, operation: Threshold) -> list[int]:
        channels = self.prepared.shapes[operation.name].channels
        tensors = self.prepared.tensors
        levels = np.array(operation.level) if operation.level is not None else tensors[operation.name]
        flags = tensors[operation.reversed_name] if operation.reverses else None
        level = per_channel(levels, channels, np.inf)
        places = [self._keep(level), self._keep(reversed_lanes(flags, channels))]
        return [Step.BITS, *places, self.memory.address(operation.name), self._table(operation.name)]


_POOLS = {("max", False): Fill.MAX, ("max", True): Fill.MAX, ("mean", False): Fill.SUM, ("mean", True): Fill.WIDE_SUM}
_STEPS: dict[type, Step] = {Affine: Step.AFFINE, Scale: Step.SCALE, Shift: Step.SHIFT, Prelu: Step.PRELU}


def _windows(operation: Pool, layout: Layout, out: Shape) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places of the source pixels of every window, and which lie inside the image, both (taps, output pixels)."""
    taps, inside = [], []
    (height, width), (down, right) = operation.stride, operation.padding
    for y in range(operation.kernel[0]):
        rows = np.arange(out.height) * height - down + y
        for x in range(operation.kernel[1]):
            columns = np.arange(out.width) * width - right + x
            valid = ((rows >= 0) & (rows < layout.shape.height))[:, None]
            valid = valid & (columns >= 0) & (columns < layout.shape.width)
            if not valid.any():
                continue
            places = layout.place(rows, columns)
            taps.append(np.where(valid, places, 0).ravel())
            inside.append(np.broadcast_to(valid, places.shape).ravel())
    return np.array(taps), np.array(inside)
