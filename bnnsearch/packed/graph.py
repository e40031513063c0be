"""What a packed network computes: a short list of operations, the shapes of their values, the arrays they need.

This is the part of the file that a reader in another language follows; everything in it is checked before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from bnnsearch.packed.operations import (
    Affine,
    Array,
    Channels,
    Combine,
    Concatenate,
    Convolution,
    Flatten,
    Name,
    Operation,
    Part,
    Pool,
    Round,
    Shape,
    Side,
    Threshold,
)

INPUT = "input"
MAX_ELEMENTS = 2**28


class Normalisation(Part):
    """How octets become the real values of `input`: float32 (octet - 255 mean) * (1 / (255 std)), per channel."""

    shape: tuple[Channels, Side, Side] = Field(strict=False)
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] = Field(min_length=1, strict=False)
    std: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std must have one value per channel, of which there are {self.shape[0]}")
        return self


class Graph(Part):
    """The network: `operations` in the order in which they can be computed, `output` the logits."""

    images: Normalisation
    operations: tuple[Annotated[Operation, Field(discriminator="op")], ...] = Field(min_length=1, strict=False)
    output: Name

    @property
    def version(self) -> int:
        """The format's first version whose readers know all of its operations: 2 where it has integer layers."""
        return 2 if any(_is_of_version_2(operation) for operation in self.operations) else 1

    def users(self) -> dict[str, list[Operation]]:
        """The operations that read each value."""
        users: dict[str, list[Operation]] = {INPUT: []}
        for operation in self.operations:
            users[operation.name] = []
            for name in operation.inputs:
                users[name].append(operation)
        return users

    def shapes(self) -> dict[str, Shape]:
        """The shape of every value.

        Raises:
            ValueError: an operation reads what does not exist, or does not fit what it reads.
        """
        shapes = {INPUT: Shape(*self.images.shape)}
        bits: set[str] = set()
        for operation in self.operations:
            _check_inputs(operation, shapes, bits)
            shape = _shape(operation, shapes, bits)
            if min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
                raise ValueError(f"{operation.name}: a value of shape {tuple(shape)} is not possible")
            shapes[operation.name] = shape
            takes = isinstance(operation, Threshold) and not operation.real
            if takes or (isinstance(operation, Flatten) and operation.input in bits):
                bits.add(operation.name)
        if self.output not in shapes or self.output in bits or shapes[self.output][1:] != (1, 1):
            raise ValueError(f"the output {self.output!r} must be a vector of real values")
        return shapes


def _is_of_version_2(operation: Operation) -> bool:
    match operation:
        case Convolution():
            return operation.integer is not None
        case Threshold():
            return operation.real
        case Pool():
            return operation.kind == "sum"
        case _:
            return isinstance(operation, Round)


def _check_inputs(operation: Operation, shapes: Mapping[str, Shape], bits: set[str]) -> None:
    if operation.name in shapes:
        raise ValueError(f"two values are named {operation.name!r}")
    for name in operation.inputs:
        if name not in shapes:
            raise ValueError(f"{operation.name}: no value {name!r} stands before it")
        takes_bits = isinstance(operation, Convolution) and operation.binary
        if (name in bits) != takes_bits and not isinstance(operation, Flatten):
            raise ValueError(f"{operation.name}: its input {name!r} must be {'bits' if takes_bits else 'real'}")


def _shape(operation: Operation, shapes: Mapping[str, Shape], bits: set[str]) -> Shape:
    match operation:
        case Convolution():
            return Shape(operation.channels, *_windows(operation, shapes[operation.input], ceil=False))
        case Pool():
            shape = shapes[operation.input]
            return Shape(shape.channels, *_windows(operation, shape, ceil=operation.ceil))
        case Flatten():
            if operation.input in bits and shapes[operation.input][1:] != (1, 1):
                raise ValueError(f"{operation.name}: bits cannot be flattened, only real values")
            return Shape(math.prod(shapes[operation.input]), 1, 1)
        case Combine():
            x, y = shapes[operation.x], shapes[operation.y]
            if y not in (x, Shape(x.channels, 1, 1)):
                raise ValueError(f"{operation.name}: {tuple(x)} and {tuple(y)} do not fit")
            return x
        case Concatenate():
            return _concatenated(operation, shapes)
        case _:
            return shapes[operation.input]


def _windows(operation: Convolution | Pool, shape: Shape, *, ceil: bool) -> list[int]:
    sides = []
    for side, kernel, stride, padding in zip(
        shape[1:], operation.kernel, operation.stride, operation.padding, strict=True
    ):
        count = window_count(side, (kernel, stride, padding), ceil=ceil)
        sides.append(count)
    return sides


def window_count(side: int, geometry: tuple[int, int, int], *, ceil: bool) -> int:
    """How many windows of (kernel, stride, padding) fit `side` pixels; with `ceil` the last may reach outside."""
    kernel, stride, padding = geometry
    free = side + 2 * padding - kernel
    if not ceil:
        return free // stride + 1
    count = -(-free // stride) + 1
    return count - 1 if (count - 1) * stride >= side + padding else count


def _concatenated(operation: Concatenate, shapes: Mapping[str, Shape]) -> Shape:
    sides = {shapes[name][1:] for name in operation.inputs}
    if len(sides) != 1:
        raise ValueError(f"{operation.name}: its parts must have one height and width, but got {sorted(sides)}")
    for part in operation.parts:
        if part.input is not None and part.first + part.count > shapes[part.input].channels:
            raise ValueError(f"{operation.name}: {part.input!r} has only {shapes[part.input].channels} channels")
    return Shape(sum(part.count for part in operation.parts), *sides.pop())


def check_tensors(graph: Graph, tensors: Mapping[str, Array]) -> None:
    """Check that every stored array has the type and shape its operation needs, and that none is left over.

    Raises:
        ValueError: one line on the first that does not fit.
    """
    shapes = graph.shapes()
    used: set[str] = set()
    for operation in graph.operations:
        for name, allowed in expected_tensors(operation, shapes).items():
            used.add(name)
            if name not in tensors:
                raise ValueError(f"{operation.name}: tensor {name!r} is missing")
            found = (tensors[name].dtype.name, tensors[name].shape)
            if found not in allowed:
                raise ValueError(f"tensor {name!r} must be {' or '.join(map(str, allowed))}, but is {found}")
            if tensors[name].dtype.kind == "f" and not np.isfinite(tensors[name].astype(np.float32)).all():
                raise ValueError(f"tensor {name!r} holds values that are not finite")
    if left := set(tensors) - used:
        raise ValueError(f"no operation uses the tensors {sorted(left)}")


TensorKind = tuple[str, tuple[int, ...]]


def expected_tensors(operation: Operation, shapes: Mapping[str, Shape]) -> dict[str, Sequence[TensorKind]]:
    """For each stored array of `operation` the (dtype, shape) it may have; a shape (1,) stands for every channel."""
    channels = shapes[operation.name].channels
    reals: list[TensorKind] = [("float32", (channels,)), ("float32", (1,))]
    match operation:
        case Convolution():
            fan_in = math.prod(operation.kernel) * shapes[operation.input].channels
            if operation.binary or operation.integer == "bits":
                return {operation.name: [("uint64", (channels, -(-fan_in // 64)))]}
            shape = (channels, *operation.kernel, shapes[operation.input].channels)
            if not operation.int8:
                return {operation.name: [("int8" if operation.integer else "float32", shape)]}
            return {operation.name: [("int8", shape)], f"{operation.name}.scale": [("float32", (channels,))]}
        case Affine():
            return {operation.name: [("float32", (2, channels))]}
        case Threshold():
            kinds: list[TensorKind] = [("float32", (channels,)), ("int32", (channels,))]
            flags: list[TensorKind] = [("uint8", (channels,))]
            return {name: flags if name == operation.reversed_name else kinds for name in operation.tensors}
        case _:
            return dict.fromkeys(operation.tensors, reals)
