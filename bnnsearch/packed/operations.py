"""The operations of a packed network, as they stand in its file; `docs/packed-format.md` says what each does.

A value is real (float32) or bits (+-1), a map of (channels, height, width). An operation's stored array has the
operation's name; a second one has a suffix.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LARGEST_SUM = 2**24
"""Up to this magnitude, float32 holds every whole number."""

Array = NDArray[Any]
Side = Annotated[int, Field(ge=1, le=4096)]
Border = Annotated[int, Field(ge=0, le=64)]
Channels = Annotated[int, Field(ge=1, le=2**20)]


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a name must be printable")
    return name


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Finite = Annotated[float, Field(ge=-3e38, le=3e38)]  # what float32 holds


class Shape(NamedTuple):
    """Channels, height and width of a value; a vector is (n, 1, 1)."""

    channels: int
    height: int
    width: int


class Part(BaseModel):
    """Anything in a manifest: frozen, and no number read from text."""

    model_config = ConfigDict(frozen=True, strict=True)


class _Operation(Part):
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

    `integer`: the input is whole numbers or +-1, and so are the weights: `int8` of the real shape without a scale, or
    `bits`, +-1 as words like those of a binary one. The sums are whole numbers below 2^24, exact in any order.
    """

    op: Literal["convolution"] = "convolution"
    binary: bool
    int8: bool = False
    integer: Literal["int8", "bits"] | None = None
    wide: bool = False
    channels: Channels
    kernel: tuple[Side, Side] = Field(strict=False)
    stride: tuple[Side, Side] = Field(default=(1, 1), strict=False)
    padding: tuple[Border, Border] = Field(default=(0, 0), strict=False)

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if self.binary + self.int8 + (self.integer is not None) > 1:
            raise ValueError("a convolution is at most one of binary, int8 and integer")
        return self

    @property
    def counts(self) -> bool:
        """Whether its sums are whole numbers."""
        return self.binary or self.integer is not None

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


class Round(_Unary):
    """The nearest whole number, of two as near the even one; |x| is below 2^22."""

    op: Literal["round"] = "round"


class Sigmoid(_Unary):
    """1 / (1 + exp(-x))."""

    op: Literal["sigmoid"] = "sigmoid"


class Threshold(_Unary):
    """Bits: (x >= level) xor reversed; with `real`, +-1 as real values.

    `level` None: levels per channel are stored, int32 where x is an integer and else float32. With `reverses` the array
    `NAME.reversed` is uint8 (channels,), 1 where the comparison is reversed.
    """

    op: Literal["threshold"] = "threshold"
    level: Finite | None = None
    reverses: bool = False
    real: bool = False

    @property
    def tensors(self) -> tuple[str, ...]:
        """Levels, and which channels are reversed, where they are stored."""
        return ((self.name,) if self.level is None else ()) + ((self.reversed_name,) if self.reverses else ())

    @property
    def reversed_name(self) -> str:
        """Name of the array that says which channels are reversed."""
        return f"{self.name}.reversed"


class Pool(_Unary):
    """Maximum, mean or sum of windows; those that reach outside the image use what is inside. `wide` as above."""

    op: Literal["pool"] = "pool"
    kind: Literal["max", "mean", "sum"]
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


class Slice(Part):
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


Elementwise = Affine | Scale | Shift | Prelu | Clamp | Round | Sigmoid
Operation = Convolution | Elementwise | Threshold | Pool | Flatten | Combine | Concatenate
