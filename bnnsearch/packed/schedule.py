"""From operations to stages: what can be done to a block of values while it is in registers is done there.

A stage starts with a source (a convolution, a pool, or values loaded from memory) and goes on with the element-wise
operations that follow it. Bits are taken, and values stored, at any place of that chain where another stage needs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bnnsearch.packed import operations as ops
from bnnsearch.packed.graph import INPUT, Graph


@dataclass(frozen=True, slots=True)
class Image:
    """The normalised image as a source: as a map, or as one vector of features."""

    name: str
    flat: bool


@dataclass(frozen=True, slots=True)
class Load:
    """A stored value as a source."""

    name: str


Source = Image | Load | ops.Convolution | ops.Pool | ops.Flatten | ops.Concatenate | ops.Sigmoid
Change = ops.Affine | ops.Scale | ops.Shift | ops.Prelu | ops.Clamp | ops.Round | ops.Threshold | ops.Combine


@dataclass(slots=True)
class Stage:
    """A source and the operations that follow it in registers; an image, copy or sigmoid has none and is stored."""

    source: Source
    changes: list[Change] = field(default_factory=list)

    @property
    def values(self) -> list[str]:
        """Names of the values the stage holds, one after another."""
        return [self.source.name, *(change.name for change in self.changes)]

    @property
    def moves(self) -> bool:
        """Whether the stage moves scalars in memory and holds no block."""
        return isinstance(self.source, Image | ops.Flatten | ops.Concatenate | ops.Sigmoid)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The stages in order.

    Attributes:
        stored: values that are written to memory.
        thresholds: the bits to be taken of each value.
        homes: the stage, by its place, in which a value's bits are taken and after which it can be read.
        aliases: vectors that are another name of a value.
    """

    stages: list[Stage]
    stored: set[str]
    thresholds: dict[str, list[ops.Threshold]]
    homes: dict[str, int]
    aliases: dict[str, str]

    def source_of(self, name: str) -> str:
        """The value that `name` stands for."""
        return self.aliases.get(name, name)


def schedule(graph: Graph) -> Schedule:
    """Order the operations of `graph` and gather them into stages."""
    builder = _Builder(graph.shapes())
    builder.add_image(graph)
    for operation in _depth_first(graph):
        builder.add(operation)
    builder.plan.stored.add(builder.plan.source_of(graph.output))
    return builder.plan


def _depth_first(graph: Graph) -> list[ops.Operation]:
    """The operations that the output needs, each as late as may be, so that a sum follows its first operand."""
    by_name = {operation.name: operation for operation in graph.operations}
    done: dict[str, ops.Operation] = {}
    waiting = [graph.output]
    while waiting:
        operation = by_name[waiting[-1]]
        missing = [name for name in operation.inputs if name != INPUT and name not in done]
        if missing:
            waiting.append(missing[-1])
            continue
        done[operation.name] = operation
        waiting.pop()
        while waiting and waiting[-1] in done:
            waiting.pop()
    return list(done.values())


class _Builder:
    def __init__(self, shapes: dict[str, ops.Shape]) -> None:
        self.shapes = shapes
        self.plan = Schedule([], set(), {}, {}, {})

    def add_image(self, graph: Graph) -> None:
        if any(not isinstance(user, ops.Flatten) for user in graph.users()[INPUT]):
            self._start(Image(INPUT, flat=False))

    def add(self, operation: ops.Operation) -> None:
        match operation:
            case ops.Threshold() if not operation.real:
                self._take_bits(operation)
            case ops.Flatten():
                self._flatten(operation)
            case ops.Combine():
                self._combine(operation)
            case ops.Convolution():
                self._start(operation, () if operation.binary else (operation.input,))
            case ops.Pool() | ops.Concatenate() | ops.Sigmoid():
                self._start(operation, operation.inputs)
            case _:
                self._continue(self._in_registers(operation.input), operation)

    def _start(self, source: Source, reads: Sequence[str] = ()) -> Stage:
        self.plan.stored.update(map(self.plan.source_of, reads))
        stage = Stage(source)
        if stage.moves:
            self.plan.stored.add(source.name)
        if not (isinstance(source, Load) and self._holds_block(source.name)):
            self.plan.homes[source.name] = len(self.plan.stages)
        self.plan.stages.append(stage)
        return stage

    def _continue(self, stage: Stage, change: Change) -> None:
        stage.changes.append(change)
        self.plan.homes[change.name] = next(i for i, other in enumerate(self.plan.stages) if other is stage)

    def _holds_block(self, name: str) -> bool:
        return not self.plan.stages[self.plan.homes[name]].moves

    def _holder(self, name: str) -> Stage | None:
        """The stage that could go on with `name`."""
        stage = self.plan.stages[self.plan.homes[name]]
        return stage if not stage.moves and stage.values[-1] == name else None

    def _in_registers(self, name: str) -> Stage:
        name = self.plan.source_of(name)
        return self._holder(name) or self._start(Load(name), (name,))

    def _take_bits(self, operation: ops.Threshold) -> None:
        name = self.plan.source_of(operation.input)
        if not self._holds_block(name):
            self._start(Load(name), (name,))
        self.plan.thresholds.setdefault(name, []).append(operation)

    def _flatten(self, operation: ops.Flatten) -> None:
        name = self.plan.source_of(operation.input)
        if name == INPUT:
            self._start(Image(operation.name, flat=True))
        elif self.shapes[name][1:] == (1, 1):
            self.plan.aliases[operation.name] = name
        else:
            self._start(operation, (name,))

    def _combine(self, operation: ops.Combine) -> None:
        """Go on with the operand that is ready last; the other one comes from memory. A sum may be turned round."""
        x, y = map(self.plan.source_of, operation.inputs)
        turned = operation.op == "add" and self.shapes[x] == self.shapes[y] and self.plan.homes[y] > self.plan.homes[x]
        if turned:
            x, y = y, x
        held = self._holder(x)
        stage = held if held and self.plan.homes[y] < self.plan.homes[x] else self._start(Load(x), (x,))
        self.plan.stored.add(y)
        self._continue(stage, operation.model_copy(update={"x": x, "y": y}))
