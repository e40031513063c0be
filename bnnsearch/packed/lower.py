"""From stages to the structures that the kernels run: addresses, counts, steps.

Every address handed to a kernel is computed here, from shapes that `Graph.shapes` has checked.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.bits import padded
from bnnsearch.packed import kernels
from bnnsearch.packed import operations as ops
from bnnsearch.packed.kernels import LANES, StageKind, StepKind
from bnnsearch.packed.layout import Layout, bits_bytes, offset_table, per_channel, reversed_lanes
from bnnsearch.packed.memory import Memory
from bnnsearch.packed.prepare import Prepared
from bnnsearch.packed.schedule import Change, Image, Load, Stage


@dataclass(frozen=True, slots=True)
class Tables:
    """What `run_stages` takes.

    Attributes:
        stages: an array of `kernels.Stage`.
        ends: the one after the last of each stage of the schedule.
        kept: arrays that the stages point into.
    """

    stages: ctypes.Array[kernels.Stage]
    ends: list[int]
    kept: list[object]


def lower(prepared: Prepared, memory: Memory, images: int) -> Tables:
    """The stages of a network for batches of `images` images whose values lie in `memory`."""
    lowering = _Lowering(prepared, memory, images)
    ends = []
    for index, stage in enumerate(prepared.schedule.stages):
        lowering.add(index, stage)
        ends.append(len(lowering.stages))
    return Tables((kernels.Stage * len(lowering.stages))(*lowering.stages), ends, lowering.kept)


class _Lowering:
    def __init__(self, prepared: Prepared, memory: Memory, images: int) -> None:
        self.prepared = prepared
        self.memory = memory
        self.images = images
        self.stages: list[kernels.Stage] = []
        self.kept: list[object] = []
        self._tables: dict[str, int] = {}

    def add(self, place: int, stage: Stage) -> None:
        """Append what runs a stage."""
        match stage.source:
            case Image():
                self._add_image(stage.source)
            case ops.Flatten():
                self._add_flatten(stage.source)
            case ops.Concatenate():
                self._add_concatenation(stage.source)
            case ops.Sigmoid():
                source, target = self.prepared.schedule.source_of(stage.source.input), stage.source.name
                self._add_copy(StageKind.SIGMOID, (source, self._table(source)), (target, self._table(target)))
            case ops.Convolution() | ops.Pool() | Load():
                self._add_block(place, stage)
            case _:
                assert_never(stage.source)

    def _keep(self, array: ops.Array) -> int:
        self.kept.append(array)
        return native.address(array)

    def _table(self, name: str, places: NDArray[np.int64] | None = None) -> int:
        """Address of the offsets of value `name`: of all its pixels, or of `places`."""
        if places is not None:
            return self._keep(offset_table(places))
        if name not in self._tables:
            self._tables[name] = self._keep(offset_table(self.memory.layouts[name].pixel_places()))
        return self._tables[name]

    # --- scalars that move ---

    def _add_image(self, source: Image) -> None:
        layout = self.memory.layouts[source.name]
        stage = kernels.Stage(
            kind=StageKind.INPUT,
            target=self.memory.address(source.name),
            target_offsets=self._table(source.name),
            pixels=layout.pixels,
            channels=layout.shape.channels,
            table=native.address(self.prepared.octets),
            shared=layout.shape.channels // self.prepared.graph.images.shape[0],
            images=self.images,
        )
        self.stages.append(stage)

    def _add_copy(
        self,
        kind: StageKind,
        source: tuple[str, int],
        target: tuple[str, int],
        *,
        pixels: int | None = None,
        channels: int | None = None,
    ) -> None:
        layout = self.memory.layouts[target[0]]
        stage = kernels.Stage(
            kind=kind,
            source=self.memory.address(source[0]),
            offsets=source[1],
            target=self.memory.address(target[0]),
            target_offsets=target[1],
            pixels=pixels or layout.pixels,
            channels=channels or layout.shape.channels,
        )
        self.stages.append(stage)

    def _add_flatten(self, source: ops.Flatten) -> None:
        name = self.prepared.schedule.source_of(source.input)
        layout, target = self.memory.layouts[name], self.memory.layouts[source.name]
        pixels = layout.pixel_places().reshape(self.images, 1, -1)
        read = pixels + 4 * np.arange(layout.shape.channels)[:, None]
        write = target.pixel_places()[:, None] + 4 * np.arange(target.shape.channels)
        self._add_copy(
            StageKind.COPY,
            (name, self._table(name, read.ravel())),
            (source.name, self._table(source.name, write.ravel())),
            pixels=read.size,
            channels=1,
        )

    def _add_concatenation(self, source: ops.Concatenate) -> None:
        """Zeros everywhere if there are any, then the slices: as vectors where they are whole ones, else as scalars."""
        layout = self.memory.layouts[source.name]
        places = layout.pixel_places()
        if any(part.input is None for part in source.parts):
            zeros = (self.memory.zeros, self._keep(offset_table(np.zeros(len(places), np.int64))))
            self._add_vectors(zeros, (source.name, places), layout.shape.channels)
        first = 0
        for part in source.parts:
            if part.input is not None:
                self._add_slice(part, (source.name, places + 4 * first))
            first += part.count

    def _add_slice(self, part: ops.Slice, target: tuple[str, NDArray[np.int64]]) -> None:
        assert part.input is not None
        name = self.prepared.schedule.source_of(part.input)
        if part.count % LANES == 0:
            self._add_vectors((self.memory.address(name) + 4 * part.first, self._table(name)), target, part.count)
            return
        read = self.memory.layouts[name].pixel_places() + 4 * part.first
        write = self._table(target[0], target[1])
        self._add_copy(StageKind.COPY, (name, self._table(name, read)), (target[0], write), channels=part.count)

    def _add_vectors(self, source: tuple[int, int], target: tuple[str, NDArray[np.int64]], count: int) -> None:
        """Copy whole vectors from the pixels at (address, offsets) to places of the target."""
        stage = kernels.Stage(kind=StageKind.MAX, source=source[0], offsets=source[1], rows=1)
        self._append_block(stage, count, len(target[1]), [self._stored(target[0], self._table(*target))])

    # --- blocks ---

    def _add_block(self, place: int, stage: Stage) -> None:
        block, steps = self._source(stage)
        for number, name in enumerate(stage.values):
            if number > 0:
                steps.extend(self._change(stage.changes[number - 1]))
            if self.prepared.schedule.homes[name] != place:
                continue
            if name in self.prepared.schedule.stored and not self._reloaded(stage, name):
                steps.append(self._stored(name, self._table(name)))
            steps.extend(self._bits(bits) for bits in self.prepared.schedule.thresholds.get(name, ()))
        shape = self.prepared.shapes[stage.source.name]
        self._append_block(block, shape.channels, self.images * shape.height * shape.width, steps)

    @staticmethod
    def _reloaded(stage: Stage, name: str) -> bool:
        return isinstance(stage.source, Load) and stage.source.name == name

    def _append_block(self, stage: kernels.Stage, channels: int, pixels: int, steps: Sequence[kernels.Step]) -> None:
        """Append a stage of blocks."""
        stage.channels, stage.pixels = padded(channels, LANES), pixels
        if steps:
            taken = (kernels.Step * len(steps))(*steps)
            self.kept.append(taken)
            stage.steps, stage.step_count = ctypes.addressof(taken), len(steps)
        self.stages.append(stage)

    def _stored(self, name: str, offsets: int) -> kernels.Step:
        return kernels.Step(kind=StepKind.STORE, map=self.memory.address(name), offsets=offsets)

    def _source(self, stage: Stage) -> tuple[kernels.Stage, list[kernels.Step]]:
        match stage.source:
            case ops.Convolution():
                return self._convolution(stage.source), []
            case ops.Pool():
                return self._pool(stage.source)
            case _:
                name = stage.source.name
                source, offsets = self.memory.address(name), self._table(name)
                return kernels.Stage(kind=StageKind.MAX, source=source, offsets=offsets, rows=1), []

    def _convolution(self, operation: ops.Convolution) -> kernels.Stage:
        name = self.prepared.schedule.source_of(operation.input)
        layout, out = self.memory.layouts[name], self.prepared.shapes[operation.name]
        rows, columns = (
            np.arange(count) * stride - padding
            for count, stride, padding in zip(out[1:], operation.stride, operation.padding, strict=True)
        )
        starts = layout.place(rows, columns)
        row_bytes = operation.kernel[1] * layout.pixel_bytes
        stage = kernels.Stage(
            kind=StageKind.WIDE_REAL if operation.wide else StageKind.REAL,
            source=self.memory.address(name),
            offsets=self._keep(offset_table(starts.ravel())),
            filters=native.address(self.prepared.weights[operation.name]),
            rows=operation.kernel[0],
            run=row_bytes if operation.binary else row_bytes // 4,
            row_stride=layout.row_bytes,
        )
        if operation.binary:
            bases, kinds = self.prepared.bases[operation.name]
            kind_of_pixel = np.broadcast_to(kinds * bases.strides[0], starts.shape).ravel()
            stage.kind, stage.bases = StageKind.BITS, native.address(bases)
            stage.base_offsets = self._keep(offset_table(kind_of_pixel))
        return stage

    def _pool(self, operation: ops.Pool) -> tuple[kernels.Stage, list[kernels.Step]]:
        name = self.prepared.schedule.source_of(operation.input)
        layout, out = self.memory.layouts[name], self.prepared.shapes[operation.name]
        address = self.memory.address(name)
        taps, inside = _windows(operation, layout, out)
        outside = taps.max(axis=0) if operation.kind == "max" else np.full(taps.shape[1], self.memory.zeros - address)
        table = offset_table(np.where(inside, taps, outside))
        stage = kernels.Stage(
            kind=_POOLS[operation.kind, operation.wide],
            source=address,
            offsets=self._keep(table),
            rows=len(table),
            row_stride=table.strides[0],
        )
        if operation.kind != "mean":
            return stage, []
        counts = inside.sum(axis=0).astype(np.float32)
        places = offset_table(np.arange(len(counts), dtype=np.int64) * 4)
        return stage, [kernels.Step(kind=StepKind.DIVIDE, map=self._keep(counts), offsets=self._keep(places))]

    def _change(self, change: Change) -> list[kernels.Step]:
        channels = self.prepared.shapes[change.name].channels
        match change:
            case ops.Combine():
                kind = StepKind.ADD if change.op == "add" else StepKind.MULTIPLY
                return [kernels.Step(kind=kind, map=self.memory.address(change.y), offsets=self._operand_table(change))]
            case ops.Clamp():
                low = -np.inf if change.low is None else change.low
                high = np.inf if change.high is None else change.high
                a, b = (self._keep(np.full(padded(channels, LANES), bound, np.float32)) for bound in (low, high))
                return [kernels.Step(kind=StepKind.CLAMP, a=a, b=b)]
            case ops.Round():  # among numbers this large the neighbours are 1 apart, and a sum rounds to one of them
                far = np.full(padded(channels, LANES), 1.5 * 2**23, np.float32)
                return [kernels.Step(kind=StepKind.SHIFT, a=self._keep(shift)) for shift in (far, -far)]
            case ops.Threshold():
                return [kernels.Step(kind=StepKind.SIGNS, **self._levels(change))]
        values = self.prepared.tensors[change.name]
        vectors = [per_channel(row, channels) for row in (values if isinstance(change, ops.Affine) else (values,))]
        return [kernels.Step(_STEPS[type(change)], *map(self._keep, vectors))]

    def _operand_table(self, change: ops.Combine) -> int:
        x, y = self.prepared.shapes[change.x], self.prepared.shapes[change.y]
        if x == y:
            return self._table(change.y)
        places = self.memory.layouts[change.y].pixel_places()
        return self._table(change.y, np.repeat(places, x.height * x.width))

    def _bits(self, operation: ops.Threshold) -> kernels.Step:
        return kernels.Step(
            kind=StepKind.BITS,
            map=self.memory.address(operation.name),
            offsets=self._table(operation.name),
            octets=bits_bytes(self.prepared.shapes[operation.name].channels),
            **self._levels(operation),
        )

    def _levels(self, operation: ops.Threshold) -> dict[str, int]:
        """The fields of a step that compare."""
        channels, tensors = self.prepared.shapes[operation.name].channels, self.prepared.tensors
        levels = np.array(operation.level) if operation.level is not None else tensors[operation.name]
        flags = tensors[operation.reversed_name] if operation.reverses else None
        return {
            "a": self._keep(per_channel(levels, channels, np.inf)),
            "turned": self._keep(reversed_lanes(flags, channels)),
        }


_POOLS = {
    ("max", False): StageKind.MAX,
    ("max", True): StageKind.MAX,
    ("mean", False): StageKind.SUM,
    ("mean", True): StageKind.WIDE_SUM,
    ("sum", False): StageKind.SUM,
    ("sum", True): StageKind.WIDE_SUM,
}
_STEPS: dict[type, StepKind] = {
    ops.Affine: StepKind.AFFINE,
    ops.Scale: StepKind.SCALE,
    ops.Shift: StepKind.SHIFT,
    ops.Prelu: StepKind.PRELU,
}


def _windows(operation: ops.Pool, layout: Layout, out: ops.Shape) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
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
