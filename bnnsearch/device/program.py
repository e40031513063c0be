"""A network as the functions of `native/device` run it: stages, their steps, tables, and what lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from bnnsearch.packed.operations import Array, Shape

BYTES = {"i8": 1, "i16": 2, "i32": 4, "f32": 4}
"""Of a stored number, by its kind; a pixel of `bits` takes whole octets."""


@dataclass(frozen=True, slots=True)
class Window:
    """Kernel, stride and padding, each (vertical, horizontal), on a map of `shape`."""

    shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Stored:
    """A value in the arena: its shape, and `bits` or how its numbers are stored."""

    shape: Shape
    kind: str

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel."""
        channels = self.shape.channels
        return -(-channels // 8) if self.kind == "bits" else channels * BYTES[self.kind]

    @property
    def bytes(self) -> int:
        """Bytes of all."""
        return self.pixel_bytes * self.shape.height * self.shape.width

    @property
    def alignment(self) -> int:
        """Of its address."""
        return BYTES.get(self.kind, 1)


@dataclass(frozen=True, slots=True)
class Step:
    """What is done to a number: the function, its tables or the stage beside it, the value it stores."""

    take: str
    a: Array | Stage | None = None
    b: Array | None = None
    to: str | None = None
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """`count` channels of `of` from `first` on; zeros of None."""

    of: Stage | None
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """Where numbers come from, the function and what it reads, and what is done to each; `name` is the value's."""

    name: str
    source: str
    shape: Shape
    window: Window
    inner: Stage | None = None
    map: str | None = None
    weights: Array | tuple[Part, ...] | None = None
    steps: tuple[Step, ...] = ()

    def others(self) -> Iterator[Stage]:
        """The stages it asks for numbers."""
        if self.inner is not None:
            yield self.inner
        if isinstance(self.weights, tuple):
            yield from (part.of for part in self.weights if part.of is not None)
        yield from (step.a for step in self.steps if isinstance(step.a, Stage))

    def all(self) -> Iterator[Stage]:
        """It and all below it; those asked come first."""
        for other in self.others():
            yield from other.all()
        yield self

    def tables(self) -> list[Array]:
        """Its own constant arrays."""
        values = [self.weights, *(table for step in self.steps for table in (step.a, step.b))]
        return [table for table in values if isinstance(table, np.ndarray)]

    @property
    def reads(self) -> set[str]:
        """The stored values it reads."""
        return {stage.map for stage in self.all() if stage.map is not None}

    @property
    def writes(self) -> list[str]:
        """The values it stores."""
        return [step.to for step in self.steps if step.to is not None]


@dataclass(frozen=True, slots=True)
class Program:
    """The whole network.

    Attributes:
        number: the C type that numbers are computed in.
        real: why that is float, in words; empty for integers.
        image: (C, H, W) of the image.
        stages: run in this order.
        stored: the values in the arena.
        starts: their places, in bytes.
        output: the value with the scores, which have the type `number`.
        exponent: integer scores are in units of 2^exponent.
        factor: scores times this are the logits.
        multiply_free: its C multiplies by sums.
    """

    number: str
    real: str
    image: Shape
    stages: tuple[Stage, ...]
    stored: dict[str, Stored]
    output: str
    exponent: int = 0
    factor: float = 1.0
    multiply_free: bool = False
    starts: dict[str, int] = field(default_factory=dict)

    def written(self) -> list[Stage]:
        """Every stage, those below others too, once."""
        return list({id(stage): stage for top in self.stages for stage in top.all()}.values())

    def tables(self) -> list[Array]:
        """All constant arrays."""
        return [table for stage in self.written() for table in stage.tables()]

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena, whole words."""
        end = max(start + self.stored[name].bytes for name, start in self.starts.items())
        return -(-end // 4) * 4
