"""A packed network as ONNX, for ONNX Runtime and for compilers to hardware.

`plain` has standard operators only: signs are comparisons, and binary weights int8 that are cast. `qonnx` marks what
is binary with the operator BipolarQuant of https://github.com/fastmachinelearning/qonnx, as FINN and hls4ml read it.

Both compute in float32 what the packed network computes. Sums of +-1 are exact; real layers are summed in an order of
the runtime's own, so values can differ in their last bits, and labels where two classes all but tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.packed import operations as ops
from bnnsearch.packed.graph import INPUT
from bnnsearch.packed.layout import filter_bits
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.prepare import real_weight

if TYPE_CHECKING:
    import onnx

Dialect = Literal["plain", "qonnx"]

QONNX_DOMAIN = "qonnx.custom_op.general"
OPSET = 17


Batch = int | Literal["any"]
"""Images per call; `any` leaves it open, as the symbolic dimension `N`."""


def export_onnx(
    model: PackedModel, path: Path | str, *, dialect: Dialect = "plain", batch: Batch | None = None
) -> None:
    """Write `model` as ONNX: `images`, uint8 (N, C, H, W), to `logits`, float32 (N, classes).

    Args:
        model: what to write.
        path: the file.
        dialect: see the module.
        batch: images per call. None is `any` for `plain` and 1 for `qonnx`: the tools of QONNX run and count a graph
            of fixed shapes, and make one of an open one by `qonnx-cleanup --override-inpsize 1`.

    Raises:
        EnvironmentProblem: the package onnx is missing, or the file cannot be written.
        InputError: the network sums windows of an image.
    """
    content = to_onnx(model, dialect=dialect, batch=batch).SerializeToString()
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written: {error.strerror}") from error


def to_onnx(model: PackedModel, *, dialect: Dialect = "plain", batch: Batch | None = None) -> onnx.ModelProto:
    """`model` as an ONNX model, checked, with the shape of every value; see `export_onnx`.

    Raises:
        EnvironmentProblem: the package onnx is missing.
        InputError: the network sums windows of an image.
    """
    try:
        import onnx
    except ImportError as error:
        raise EnvironmentProblem("ONNX export needs the package onnx: pip install 'bnnsearch[onnx]'") from error
    builder = _Builder(model, dialect)
    builder.add_images()
    users = model.graph.users()
    for operation in model.graph.operations:
        builder.add(operation)
        if len(users[operation.name]) > 1 and not isinstance(operation, ops.Threshold):
            builder.share(operation.name)
    builder.node("Flatten", [model.graph.output], "logits", axis=1)
    classes = builder.shapes[model.graph.output].channels
    if batch is None:
        batch = 1 if dialect == "qonnx" else "any"
    images = "N" if batch == "any" else batch
    graph = onnx.helper.make_graph(
        builder.nodes,
        "packed",
        [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, [images, *model.shape])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [images, classes])],
        builder.initializers,
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    if dialect == "qonnx":
        opsets.append(onnx.helper.make_opsetid(QONNX_DOMAIN, 1))
    exported = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="bnnsearch")
    onnx.checker.check_model(exported)
    _add_shapes(exported)
    return exported


def _add_shapes(exported: onnx.ModelProto) -> None:
    """Note the shape of every value, which qonnx wants to be told; ONNX infers them where it knows the operator.

    It knows no BipolarQuant, whose result has the shape of its first input: an Identity stands in for it.
    """
    import onnx

    known = onnx.ModelProto()
    known.CopyFrom(exported)
    for node in known.graph.node:
        if node.domain == QONNX_DOMAIN:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:]
    inferred = onnx.shape_inference.infer_shapes(known, check_type=True, strict_mode=True, data_prop=True)
    exported.graph.value_info.extend(inferred.graph.value_info)


class _Builder:
    def __init__(self, model: PackedModel, dialect: Dialect) -> None:
        self.model = model
        self.dialect = dialect
        self.shapes = model.graph.shapes()
        self.shared: dict[str, str] = {}
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return its name.

        An input that it takes twice gets a second name: qonnx renames values one use at a time.
        """
        import onnx

        names: list[str] = []
        for name in (self.shared.get(name, name) for name in inputs):
            again = name in names and name != ""
            names.append(self.node("Identity", [name], f"{output}.again{len(names)}") if again else name)
        self.nodes.append(onnx.helper.make_node(kind, names, [output], domain=domain, **attributes))
        return output

    def share(self, name: str) -> None:
        """Let what reads the value `name` from now on read it behind a cast that changes nothing.

        qonnx's channels-last step moves a transposition downstream past one of several readers, and the others then
        read the wrong layout. It moves none past a cast.
        """
        self.shared[name] = self._cast(name, f"{name}.shared")

    def _cast(self, source: str, name: str) -> str:
        import onnx

        return self.node("Cast", [source], name, to=onnx.TensorProto.FLOAT)

    def constant(self, name: str, values: ops.Array) -> str:
        """Append an initializer."""
        import onnx

        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def per_channel(self, name: str, values: ops.Array) -> str:
        """A constant that broadcasts over (N, C, H, W)."""
        return self.constant(name, np.asarray(values, np.float32).reshape(1, -1, 1, 1))

    def add_images(self) -> None:
        """From octets to the normalised image."""
        images = self.model.graph.images
        mean = np.array(images.mean, np.float32) * np.float32(255)
        scale = np.float32(1) / (np.array(images.std, np.float32) * np.float32(255))
        self._cast("images", "images.real")
        self.node("Sub", ["images.real", self.per_channel("images.mean", mean)], "images.centred")
        self.node("Mul", ["images.centred", self.per_channel("images.scale", scale)], INPUT)

    def add(self, operation: ops.Operation) -> None:
        """Append what `operation` does."""
        name, tensors = operation.name, self.model.tensors
        match operation:
            case ops.Convolution():
                self._convolution(operation)
            case ops.Affine():
                scaled = self.node(
                    "Mul", [operation.input, self.per_channel(f"{name}.a", tensors[name][0])], f"{name}.product"
                )
                self.node("Add", [scaled, self.per_channel(f"{name}.b", tensors[name][1])], name)
            case ops.Scale() | ops.Shift():
                kind = "Mul" if isinstance(operation, ops.Scale) else "Add"
                self.node(kind, [operation.input, self.per_channel(f"{name}.values", tensors[name])], name)
            case ops.Prelu():
                slope = np.broadcast_to(tensors[name], (self.shapes[name].channels,))
                self.node("PRelu", [operation.input, self.constant(f"{name}.values", slope[:, None, None])], name)
            case ops.Clamp():
                self._clamp(operation)
            case ops.Round() | ops.Sigmoid():
                self.node(type(operation).__name__, [operation.input], name)
            case ops.Threshold():
                self._threshold(operation)
            case ops.Pool():
                self._pool(operation)
            case ops.Flatten():
                shape = np.array([0, self.shapes[name].channels, 1, 1])  # 0 is the batch, as it comes
                self.node("Reshape", [operation.input, self.constant(f"{name}.shape", shape)], name)
            case ops.Combine():
                self.node("Add" if operation.op == "add" else "Mul", operation.inputs, name)
            case ops.Concatenate():
                self._concatenate(operation)
            case _:
                assert_never(operation)

    def _convolution(self, operation: ops.Convolution) -> None:
        (top, left), name = operation.padding, operation.name
        if self._repeats(operation):  # costs nothing in a search, so it must cost nothing here
            ones = self.per_channel(f"{name}.ones", np.ones(operation.channels))
            self.node("Mul", [self._cast(operation.input, f"{name}.single"), ones], name)  # the cast: see `share`
            return
        self.node(
            "Conv",
            [operation.input, self._binary_weight(operation) if operation.binary else self._real_weight(operation)],
            name,
            kernel_shape=list(operation.kernel),
            strides=list(operation.stride),
            pads=[top, left, top, left],
            dilations=[1, 1],  # the defaults, which qonnx's channels-last step wants to be told
            group=1,
        )

    def _repeats(self, operation: ops.Convolution) -> bool:
        """Whether it gives its one input channel again and again, as where one factor scales every channel."""
        one = self.shapes[operation.input].channels == 1 and (operation.kernel, operation.stride) == ((1, 1), (1, 1))
        return one and not operation.binary and bool((real_weight(operation, self.model.tensors, 1) == 1).all())

    def _real_weight(self, operation: ops.Convolution) -> str:
        weight = real_weight(operation, self.model.tensors, self.shapes[operation.input].channels).transpose(0, 3, 1, 2)
        return self.constant(f"{operation.name}.weight", weight)

    def _binary_weight(self, operation: ops.Convolution) -> str:

        name = operation.name
        bits = filter_bits(operation, self.model.tensors[name], self.shapes[operation.input].channels)
        signs = np.where(bits, 1, -1).astype(np.int8).transpose(0, 3, 1, 2)
        if self.dialect == "plain":
            stored = self.constant(f"{name}.signs", signs)
            return self._cast(stored, f"{name}.weight")
        return self._bipolar(self.constant(f"{name}.signs", signs.astype(np.float32)), f"{name}.weight")

    def _bipolar(self, source: str, name: str) -> str:
        scale = self.constant(f"{name}.one", np.array(1.0, np.float32))
        return self.node("BipolarQuant", [source, scale], name, domain=QONNX_DOMAIN)

    def _threshold(self, operation: ops.Threshold) -> None:
        name, tensors = operation.name, self.model.tensors
        channels = self.shapes[name].channels
        level = np.array(operation.level) if operation.level is not None else tensors[name]
        levels = np.broadcast_to(level.astype(np.float32), (channels,))
        falling = np.zeros(channels, np.bool_)
        if operation.reverses:
            falling = tensors[operation.reversed_name].astype(np.bool_)
        if self.dialect == "plain":
            value = self._cast(operation.input, f"{name}.value")  # or else qonnx's transpositions pass what gives bools
            above = self.node("GreaterOrEqual", [value, self.per_channel(f"{name}.level", levels)], f"{name}.above")
            high = self.per_channel(f"{name}.high", np.where(falling, -1, 1))
            low = self.per_channel(f"{name}.low", np.where(falling, 1, -1))
            self.node("Where", [above, high, low], name)
            return
        below = np.nextafter(levels, np.float32(-np.inf))  # x < level is x <= the float before it
        reached = self.per_channel(f"{name}.level", np.where(falling, below, levels))
        direction = self.per_channel(f"{name}.direction", np.where(falling, -1, 1))
        distance = self.node("Sub", [operation.input, reached], f"{name}.distance")
        self._bipolar(self.node("Mul", [distance, direction], f"{name}.turned"), name)

    def _clamp(self, operation: ops.Clamp) -> None:
        """Max and Min instead of Clip, whose bounds must be scalars: qonnx's channels-last step makes maps of them."""
        name, source = operation.name, operation.input
        if operation.low is not None:
            below = f"{name}.raised" if operation.high is not None else name
            source = self.node("Max", [source, self.per_channel(f"{name}.low", np.array(operation.low))], below)
        if operation.high is not None:
            source = self.node("Min", [source, self.per_channel(f"{name}.high", np.array(operation.high))], name)
        if source == operation.input:
            self.node("Identity", [source], name)

    def _pool(self, operation: ops.Pool) -> None:
        (top, left), shape = operation.padding, self.shapes[operation.input]
        if operation.kind == "sum":
            if self.shapes[operation.name][1:] != (1, 1):
                raise InputError(f"{operation.name}, sums of windows, cannot be written as ONNX: it sums whole images")
            axes = self.constant(f"{operation.name}.axes", np.array([2, 3]))
            self.node("ReduceSum", [operation.input, axes], operation.name, keepdims=1)
            return
        if operation.kind == "mean" and operation.kernel == (shape.height, shape.width) and (top, left) == (0, 0):
            self.node("GlobalAveragePool", [operation.input], operation.name)
            return
        self.node(
            "MaxPool" if operation.kind == "max" else "AveragePool",
            [operation.input],
            operation.name,
            kernel_shape=list(operation.kernel),
            strides=list(operation.stride),
            pads=[top, left, top, left],
            ceil_mode=int(operation.ceil),
        )

    def _concatenate(self, operation: ops.Concatenate) -> None:
        """Zeros become padding of the slice before them, or of the first one."""
        pieces: list[tuple[str, int, int, list[int]]] = []
        zeros = 0
        for part in operation.parts:
            if part.input is not None:
                pieces.append((part.input, part.first, part.count, [zeros, 0]))
                zeros = 0
            elif pieces:
                pieces[-1][3][1] += part.count
            else:
                zeros += part.count
        names = [self._slice(f"{operation.name}.{index}", *piece) for index, piece in enumerate(pieces)]
        self.node("Concat", names, operation.name, axis=1)

    def _slice(self, name: str, source: str, first: int, count: int, padding: Sequence[int]) -> str:
        if count < self.shapes[source].channels:
            bounds = [
                self.constant(f"{name}.{side}", np.array([value]))
                for side, value in (("first", first), ("stop", first + count), ("axis", 1))
            ]
            source = self.node("Slice", [source, *bounds], f"{name}.slice")
        if not any(padding):
            return source
        pads: NDArray[np.int64] = np.zeros(8, np.int64)
        pads[[1, 5]] = padding
        return self.node("Pad", [source, self.constant(f"{name}.pads", pads)], name)
