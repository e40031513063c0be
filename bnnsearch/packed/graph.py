"""What a packed network computes: a short list of operations on maps of (channels, height, width).

A value is real (float32) or bits (+-1). Operations name their inputs and their result; `input` is the normalised image.
An operation's stored array has the operation's name; a second one has a suffix.
This is the part of the file that a reader in another language follows; `docs/packed-format.md` says what each does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

INPUT = "input"
MAX_ELEMENTS = 2**28

Array = NDArray[Any]
Side = Annotated[int, Field(ge=1, le=4096)]
Border = Annotated[int, Field(ge=0, le=64)]
Channels = Annotated[int, Field(ge=1, le=2**20)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Shape(NamedTuple):
    """Channels, height and width of a value; a vector is (n, 1, 1)."""

    channels: int
    height: int
    width: int


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class _Operation(_Part):
    name: Name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values it reads."""
        return (self.input,)  # type: ignore[attr-defined]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the stored arrays it reads."""
        return ()


class _Unary(_Operation):
    input: Name


class Convolution(_Unary):
    """Sum over a window, zeros outside the image; a linear layer has a 1x1 kernel on a 1x1 map.

    `binary`: the input is bits, and the array is words (out, ceil(height width in / 64)) of bits in the order (row,
    column, in-channel). Else the input is real, and the array is float32 (out, height, width, in); with `int8` it is
    int8 of that shape, and `NAME.scale` is float32 (out,). `wide`: summed in float64 and rounded once.
    """

    op: Literal["convolution"] = "convolution"
    binary: bool
    int8: bool = False
    wide: bool = False
    channels: Channels
    kernel: tuple[Side, Side] = Field(strict=False)
    stride: tuple[Side, Side] = Field(default=(1, 1), strict=False)
    padding: tuple[Border, Border] = Field(default=(0, 0), strict=False)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The weights, and the scales of int8 ones."""
        return (self.name, f"{self.name}.scale") if self.int8 else (self.name,)


class _Channelwise(_Unary):
    @property
    def tensors(self) -> tuple[str, ...]:
        """The one that has the operation's name."""
        return (self.name,)


class Affine(_Channelwise):
    """fma(x, values[0], values[1]) per channel: batch norm; float32 (2, channels)."""

    op: Literal["affine"] = "affine"


class Scale(_Channelwise):
    """x * values, per channel; float32 (channels,), or (1,) for all of them."""

    op: Literal["scale"] = "scale"


class Shift(_Channelwise):
    """x + values, stored as in `Scale`."""

    op: Literal["shift"] = "shift"


class Prelu(_Channelwise):
    """x where x > 0, else x * values, stored as in `Scale`."""

    op: Literal["prelu"] = "prelu"


class Clamp(_Unary):
    """min(max(x, low), high); None is no bound."""

    op: Literal["clamp"] = "clamp"
    low: Finite | None = None
    high: Finite | None = None


class Sigmoid(_Unary):
    """1 / (1 + exp(-x))."""

    op: Literal["sigmoid"] = "sigmoid"


class Threshold(_Unary):
    """Bits: (x >= level) xor reversed.

    `level` None: levels per channel are stored, int32 where x is an integer and else float32. With `reverses` the array
    `NAME.reversed` is uint8 (channels,), 1 where the comparison is reversed.
    """

    op: Literal["threshold"] = "threshold"
    level: Finite | None = None
    reverses: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Levels, and which channels are reversed, where they are stored."""
        return ((self.name,) if self.level is None else ()) + ((self.reversed_name,) if self.reverses else ())

    @property
    def reversed_name(self) -> str:
        """Name of the array that says which channels are reversed."""
        return f"{self.name}.reversed"


class Pool(_Unary):
    """Maximum or mean of windows; those that reach outside the image use what is inside. `wide` as above."""

    op: Literal["pool"] = "pool"
    kind: Literal["max", "mean"]
    kernel: tuple[Side, Side] = Field(strict=False)
    stride: tuple[Side, Side] = Field(strict=False)
    padding: tuple[Border, Border] = Field(default=(0, 0), strict=False)
    ceil: bool = False
    wide: bool = False

    @model_validator(mode="after")
    def _starts_inside(self) -> Self:
        if any(2 * border > side for border, side in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"padding must be at most half the kernel, but got {self.padding} and {self.kernel}")
        return self


class Flatten(_Unary):
    """(channels, height, width) as one vector in that order."""

    op: Literal["flatten"] = "flatten"


class Combine(_Operation):
    """x + y or x * y; a y of 1x1 counts for every pixel of x."""

    op: Literal["add", "multiply"]
    x: Name
    y: Name

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both operands."""
        return (self.x, self.y)


class Slice(_Part):
    """`count` channels of `input` from `first` on, or of zeros where there is no input."""

    input: Name | None = None
    first: Annotated[int, Field(ge=0, le=2**20)] = 0
    count: Channels


class Concatenate(_Operation):
    """Slices of channels, one after another."""

    op: Literal["concatenate"] = "concatenate"
    parts: tuple[Slice, ...] = Field(min_length=1, strict=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The values the slices are of."""
        return tuple(part.input for part in self.parts if part.input is not None)


Elementwise = Affine | Scale | Shift | Prelu | Clamp | Sigmoid
Operation = Convolution | Elementwise | Threshold | Pool | Flatten | Combine | Concatenate


class Normalisation(_Part):
    """How octets become the real values of `input`: float32 (octet - 255 mean) * (1 / (255 std)), per channel."""

    shape: tuple[Channels, Side, Side] = Field(strict=False)
    mean: tuple[Finite, ...] = Field(min_length=1, strict=False)
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std must have one value per channel, of which there are {self.shape[0]}")
        return self


class Graph(_Part):
    """The network: `operations` in the order in which they can be computed, `output` the logits."""

    images: Normalisation
    operations: tuple[Annotated[Operation, Field(discriminator="op")], ...] = Field(min_length=1, strict=False)
    output: Name

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
            if isinstance(operation, Threshold) or (isinstance(operation, Flatten) and operation.input in bits):
                bits.add(operation.name)
        if self.output not in shapes or self.output in bits or shapes[self.output][1:] != (1, 1):
            raise ValueError(f"the output {self.output!r} must be a vector of real values")
        return shapes


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
            if operation.binary:
                return {operation.name: [("uint64", (channels, -(-fan_in // 64)))]}
            shape = (channels, *operation.kernel, shapes[operation.input].channels)
            if not operation.int8:
                return {operation.name: [("float32", shape)]}
            return {operation.name: [("int8", shape)], f"{operation.name}.scale": [("float32", (channels,))]}
        case Affine():
            return {operation.name: [("float32", (2, channels))]}
        case Threshold():
            kinds: list[TensorKind] = [("float32", (channels,)), ("int32", (channels,))]
            flags: list[TensorKind] = [("uint8", (channels,))]
            return {name: flags if name == operation.reversed_name else kinds for name in operation.tensors}
        case _:
            return dict.fromkeys(operation.tensors, reals)
