"""From the graph of a packed network to a program: which function computes what, in integers or in floats.

The stages are those of the packed runtime, with two differences: a convolution that only a pool reads is computed below
it, window by window; and what only moves numbers (the image, slices, vectors of a map) is read where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from bnnsearch.device.arena import place
from bnnsearch.device.fixed import (
    Fixed,
    NotFixedError,
    clamp_bounds,
    fixed_values,
    integers,
    pixel_chain,
    pixel_table,
)
from bnnsearch.device.program import Part, Program, Stage, Step, Stored, Window
from bnnsearch.errors import InputError
from bnnsearch.packed import operations as ops
from bnnsearch.packed.graph import INPUT, Graph
from bnnsearch.packed.layout import filter_bits
from bnnsearch.packed.prepare import real_weight
from bnnsearch.packed.schedule import Change, Image, Load, Schedule, schedule
from bnnsearch.packed.schedule import Stage as PackedStage

Tensors = Mapping[str, ops.Array]
MAX_SIDE = 2**15 - 1


def lower(graph: Graph, tensors: Tensors, *, integer: bool = False, multiply_free: bool = False) -> Program:
    """The program of a network.

    Args:
        graph: the network, thresholds folded.
        tensors: its arrays.
        integer: refuse what needs floating point.
        multiply_free: its C is to have no multiplication; this too refuses what needs floating point.

    Raises:
        InputError: one line that names what cannot be lowered.
    """
    if max(max(shape) for shape in graph.shapes().values()) > MAX_SIDE:
        raise InputError(f"this network cannot run on a device: a side or a number of channels is above {MAX_SIDE}")
    brief, factor = _without_common_factor(graph, tensors)
    try:
        fixed, real = fixed_values(brief, tensors), ""
    except NotFixedError as error:
        fixed, real, brief, factor = None, str(error), graph, 1.0
        if integer or multiply_free:
            raise InputError(f"this network needs floating point: {error}") from error
    return replace(_Lowering(brief, tensors, fixed).program(real, factor), multiply_free=multiply_free)


def _without_common_factor(graph: Graph, tensors: Tensors) -> tuple[Graph, float]:
    """Without a positive factor that all scores have in common at the end: it changes no label; and that factor."""
    operations = list(graph.operations)
    output, factor = graph.output, 1.0
    while True:
        last = next((operation for operation in operations if operation.name == output), None)
        if isinstance(last, ops.Scale) and np.unique(tensors[last.name]).size == 1 and tensors[last.name][0] > 0:
            operations.remove(last)
            output, factor = last.input, factor * float(tensors[last.name][0])
        elif isinstance(last, ops.Pool) and last.kind == "mean" and last.padding == (0, 0) and not last.ceil:
            operations[operations.index(last)] = last.model_copy(update={"kind": "sum"})
            factor /= np.prod(last.kernel)
        elif isinstance(last, ops.Flatten) and graph.shapes()[last.input] == graph.shapes()[output]:
            operations.remove(last)
            output = last.input
        else:
            return graph.model_copy(update={"operations": tuple(operations), "output": output}), factor


class _Lowering:
    def __init__(self, graph: Graph, tensors: Tensors, fixed: Mapping[str, Fixed] | None) -> None:
        self.graph = graph
        self.tensors = tensors
        self.fixed = fixed
        self.shapes = graph.shapes()
        self.users = graph.users()
        self.makers = {operation.name: operation for operation in graph.operations}
        self.plan: Schedule = schedule(graph)
        self.pixels = self._pixels()
        self.stored: dict[str, Stored] = {}
        self.views: dict[str, Stage] = {}

    def program(self, real: str, factor: float) -> Program:
        """All stages, lowered, and their places; `factor` is that of the scores."""
        stages = []
        for number, stage in enumerate(self.plan.stages):
            if (lowered := self._stage(number, stage)) is not None:
                stages.append(lowered)
        output = self.plan.source_of(self.graph.output)
        exponent = 0 if self.fixed is None else self.fixed[output].exponent
        program = Program(
            number="float" if self.fixed is None else "int32_t",
            real=real,
            image=ops.Shape(*self.graph.images.shape),
            stages=tuple(stages),
            stored=self.stored,
            output=output,
            exponent=exponent,
            factor=factor * 2.0**exponent,
        )
        return replace(program, starts=place(program.stages, program.stored, output))

    def _pixels(self) -> dict[str, str]:
        """The values that are functions of one octet and kept in no map; the last of them is read through a table."""
        chain = pixel_chain(self.graph) if self.fixed is not None else []
        return dict.fromkeys([INPUT, *(operation.name for operation in chain)], chain[-1].name if chain else INPUT)

    # --- where numbers come from ---

    def _view(self, name: str) -> Stage:
        """A stage that gives the numbers of value `name` where they lie, or computes them."""
        name = self.plan.source_of(name)
        if name not in self.views:
            self.views[name] = self._new_view(name)
        return self.views[name]

    def _new_view(self, name: str) -> Stage:
        if name in self.pixels:
            return self._pixel_view(name)
        if name in self.stored:
            stored = self.stored[name]
            source = "sign" if stored.kind == "bits" else f"element_{stored.kind}"
            return Stage(name, source, stored.shape, Window(stored.shape), map=name)
        maker = self.makers[name]
        match maker:
            case ops.Convolution():
                return self._convolution(maker)
            case ops.Flatten():
                inner = self._view(maker.input)
                return Stage(name, "flattened", self.shapes[name], Window(inner.shape), inner=inner)
            case ops.Concatenate():
                parts = tuple(
                    Part(None if part.input is None else self._view(part.input), part.first, part.count)
                    for part in maker.parts
                )
                shape = self.shapes[name]
                return Stage(name, "concatenated", shape, Window(shape), weights=parts)
            case _:
                raise AssertionError(f"{name} is stored")

    def _pixel_view(self, name: str) -> Stage:
        shape = self.shapes[INPUT]
        if self.fixed is None:
            mean = np.array(self.graph.images.mean, np.float32) * np.float32(255)
            scale = np.float32(1) / (np.array(self.graph.images.std, np.float32) * np.float32(255))
            weights = np.stack((mean, scale), axis=1)
            return Stage(name, "normalised", shape, Window(shape), weights=weights)
        table = integers(pixel_table(self.graph, self.tensors))[0]
        if (table == np.arange(256)).all():
            return Stage(name, "whole", shape, Window(shape))
        kind = _kind(int(table.min()), int(table.max()))
        alike = bool((table == table[0]).all())
        source = f"pixel_{kind}" if alike else f"pixels_{kind}"
        return Stage(name, source, shape, Window(shape), weights=_as(kind, table[0] if alike else table))

    def _convolution(self, operation: ops.Convolution) -> Stage:
        source = self.shapes[operation.input]
        window = Window(source, operation.kernel, operation.stride, operation.padding)
        shape = self.shapes[operation.name]
        if operation.binary:
            bits = filter_bits(operation, self.tensors[operation.name].astype(np.uint64), source.channels)
            rows = np.packbits(bits, axis=-1, bitorder="little")
            return Stage(operation.name, "dot", shape, window, map=operation.input, weights=rows)
        inner = self._view(operation.input)
        if operation.integer == "bits":
            bits = filter_bits(operation, self.tensors[operation.name].astype(np.uint64), source.channels)
            rows = np.packbits(bits.reshape(len(bits), -1), axis=-1, bitorder="little")
            return Stage(operation.name, "convolve_bits", shape, window, inner=inner, weights=rows)
        weights = real_weight(operation, self.tensors, source.channels)
        if self.fixed is not None:
            numbers = integers(weights)[0]
            kind = "i8" if operation.integer else _kind(int(numbers.min()), int(numbers.max()))
            direct = kind == "i8" and inner.source == "pixel_i8"
            name = "convolve_pixels" if direct else f"convolve_{kind}"
            return Stage(operation.name, name, shape, window, inner=inner, weights=_as(kind, numbers))
        if operation.integer:
            return Stage(operation.name, "convolve_i8", shape, window, inner=inner, weights=_as("i8", weights))
        name = "convolve_wide" if operation.wide else "convolve_f32"
        return Stage(operation.name, name, shape, window, inner=inner, weights=weights)

    def _pool(self, operation: ops.Pool) -> Stage:
        inner = self._view(operation.input)
        shape = self.shapes[operation.name]
        window = Window(self.shapes[operation.input], operation.kernel, operation.stride, operation.padding)
        name = {"max": "largest", "sum": "total", "mean": "mean"}[operation.kind]
        wide = operation.wide and operation.kind != "max" and self.fixed is None
        return Stage(operation.name, f"{name}_wide" if wide else name, shape, window, inner=inner)

    # --- stages ---

    def _stage(self, number: int, stage: PackedStage) -> Stage | None:
        """What runs a stage; None where nothing does: its numbers are read where they lie, or computed below a pool."""
        if all(name in self.pixels for name in stage.values) and not self._bits_of(number, stage):
            return None
        source = self._source(number, stage)
        if source is None:
            return None
        steps = [Step("sigmoid")] if isinstance(stage.source, ops.Sigmoid) else []
        for before, name in enumerate(stage.values, start=-1):
            if before >= 0 and name not in self.pixels:  # the table of pixels has what is done to them
                steps.extend(self._change(stage.changes[before]))
            if self.plan.homes[name] != number:
                continue
            if self._is_kept(stage, name):
                steps.append(self._store(name))
            steps.extend(self._threshold(bits) for bits in self.plan.thresholds.get(name, ()))
        return replace(source, steps=tuple(steps))

    def _source(self, number: int, stage: PackedStage) -> Stage | None:
        match stage.source:
            case Image() | ops.Flatten() | ops.Concatenate():
                return None
            case ops.Convolution():
                below = not stage.changes and not self._bits_of(number, stage) and self._only_pooled(stage.source.name)
                return None if below else self._convolution(stage.source)
            case ops.Pool():
                return self._pool(stage.source)
            case ops.Sigmoid():
                view = self._view(stage.source.input)
                return replace(view, name=stage.source.name)
            case Load():
                return self._view(self.pixels.get(stage.source.name, stage.source.name))
            case _:
                assert_never(stage.source)

    def _bits_of(self, number: int, stage: PackedStage) -> bool:
        return any(self.plan.thresholds.get(name) for name in stage.values if self.plan.homes[name] == number)

    def _only_pooled(self, name: str) -> bool:
        users = self.users[name]
        return len(users) == 1 and isinstance(users[0], ops.Pool)

    def _is_kept(self, stage: PackedStage, name: str) -> bool:
        """Whether a value is written to memory by this stage."""
        if name not in self.plan.stored or name in self.pixels or name in self.stored:
            return False
        return not (isinstance(stage.source, Load) and stage.source.name == name)

    # --- what is done to numbers ---

    def _store(self, name: str) -> Step:
        shape, maker = self.shapes[name], self.makers[name]
        if isinstance(maker, ops.Threshold):  # real signs, kept as bits
            return self._threshold(maker)
        kind = "f32"
        if self.fixed is not None:
            kind = _kind(self.fixed[name].low, self.fixed[name].high)
            if name == self.plan.source_of(self.graph.output):
                kind = "i32"
        self.stored[name] = Stored(shape, kind)
        return Step(f"store_{kind}", to=name, channels=shape.channels)

    def _threshold(self, operation: ops.Threshold) -> Step:
        kind, levels, turned = self._levels(operation)
        channels = self.shapes[operation.name].channels
        self.stored[operation.name] = Stored(self.shapes[operation.name], "bits")
        return Step(f"threshold_{kind}", levels, turned, operation.name, channels)

    def _levels(self, operation: ops.Threshold) -> tuple[str, ops.Array, ops.Array]:
        """Kind and values of the levels of all channels, and which are reversed, as bits."""
        channels = self.shapes[operation.name].channels
        levels = np.array([operation.level]) if operation.level is not None else self.tensors[operation.name]
        levels = np.broadcast_to(levels, (channels,))
        flags = self.tensors[operation.reversed_name] if operation.reverses else np.zeros(channels, np.uint8)
        turned = np.packbits(flags, bitorder="little")
        if self.fixed is None:
            return "f32", levels.astype(np.float32), turned
        x = (
            self.fixed[operation.input]
            if operation.input not in self.pixels
            else self.fixed[self.pixels[operation.input]]
        )
        reached = np.ceil(np.ldexp(levels.astype(np.float64), -x.exponent))
        kind = _kind(x.low, x.high + 1)
        return kind, _as(kind, np.clip(reached, x.low, x.high + 1)), turned

    def _change(self, change: Change) -> list[Step]:
        if self.fixed is not None:
            return self._integer_change(change)
        channels = self.shapes[change.name].channels
        values = self.tensors.get(change.name)
        match change:
            case ops.Affine():
                assert values is not None
                return [Step("affine", values[0], values[1])]
            case ops.Scale() | ops.Shift() | ops.Prelu():
                assert values is not None
                return [Step(change.op, np.broadcast_to(values, (channels,)).astype(np.float32))]
            case ops.Clamp():
                low = -np.inf if change.low is None else change.low
                high = np.inf if change.high is None else change.high
                finite = np.clip([low, high], np.finfo(np.float32).min, np.finfo(np.float32).max).astype(np.float32)
                return [Step("clamp", finite[:1], finite[1:])]
            case ops.Combine():
                return [Step(change.op, self._view(change.y))]
            case ops.Round():
                far = np.full(channels, 1.5 * 2**23, np.float32)
                return [Step("shift", far), Step("shift", -far)]
            case ops.Threshold():
                return self._signs(change)
            case _:
                assert_never(change)

    def _integer_change(self, change: Change) -> list[Step]:
        assert self.fixed is not None
        if isinstance(change, ops.Threshold):
            return self._signs(change)
        x, to = self.fixed[change.inputs[0]], self.fixed[change.name]
        channels = self.shapes[change.name].channels
        match change:
            case ops.Scale():
                return [Step("scale", self._numbers(change.name, to.exponent - x.exponent))]
            case ops.Shift():
                return [*_finer(x, to, channels), Step("shift", self._numbers(change.name, to.exponent))]
            case ops.Clamp():
                bounds = np.array(clamp_bounds(change, Fixed(to.exponent, to.low, to.high)), np.int32)
                return [*_finer(x, to, channels), Step("clamp", bounds[:1], bounds[1:])]
            case ops.Combine():
                return [Step("add", self._view(change.y))]
            case _:
                raise AssertionError(f"{change.name} is not fixed-point")

    def _numbers(self, name: str, exponent: int) -> ops.Array:
        values = np.ldexp(self.tensors[name].astype(np.float64), -exponent)
        return np.broadcast_to(values, (self.shapes[name].channels,)).astype(np.int32)

    def _signs(self, operation: ops.Threshold) -> list[Step]:
        """Nothing where they are stored as bits and go no further."""
        if operation.name in self.plan.stored and self._ends(operation.name):
            return []
        kind, levels, turned = self._levels(operation)
        return [Step(f"signs_{kind}", levels, turned)]

    def _ends(self, name: str) -> bool:
        return all(stage.values[-1] == name for stage in self.plan.stages if name in stage.values)


def _finer(x: Fixed, to: Fixed, channels: int) -> list[Step]:
    """The step from the unit of x to a smaller one."""
    factor = 2 ** (x.exponent - to.exponent)
    return [Step("scale", np.full(channels, factor, np.int32))] if factor > 1 else []


def _kind(low: int, high: int) -> str:
    """The smallest type that holds integers from low to high."""
    for kind, bits in (("i8", 8), ("i16", 16)):
        if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1):
            return kind
    return "i32"


def _as(kind: str, values: ops.Array) -> ops.Array:
    return values.astype({"i8": np.int8, "i16": np.int16, "i32": np.int32, "f32": np.float32}[kind])
