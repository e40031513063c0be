"""From a torch network to operations and stored arrays. The only module of `packed` that imports torch.

The network is traced symbolically: its modules and the few functions between them become operations one by one, with
batch norm as the fused multiply-add that PyTorch evaluates on a CPU. Thresholds are folded afterwards, see `fold`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, assert_never, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from bnnsearch.bits import pack_rows
from bnnsearch.core.integers import LARGEST, PIXEL_STEPS, Int8Conv2d, IntegerLogits, PixelSum, Quantise
from bnnsearch.core.layers import (
    BinaryConv2d,
    BinaryLinear,
    RPReLU,
    RSign,
    ShiftedHardtanh,
    Sign,
    output_scale,
    two_values,
    weight_bits,
)
from bnnsearch.core.models.real import RealConv2d
from bnnsearch.core.wide import HardSigmoid, MeanMagnitude, WideConv2d, WideLinear, WideMean, WideSigmoid, WindowMean
from bnnsearch.errors import InputError
from bnnsearch.packed import operations as ops
from bnnsearch.packed.fold import fold_thresholds
from bnnsearch.packed.graph import INPUT, Graph, Normalisation

Edges = Literal["float32", "int8"]

_OWN_LAYERS = (
    BinaryConv2d,
    BinaryLinear,
    Sign,
    RSign,
    RPReLU,
    ShiftedHardtanh,
    WideConv2d,
    WideLinear,
    WideMean,
    WideSigmoid,
    MeanMagnitude,
    WindowMean,
    HardSigmoid,
    RealConv2d,
    Quantise,
    Int8Conv2d,
    PixelSum,
    IntegerLogits,
)


def convert(
    module: nn.Module, images: Normalisation, *, edges: Edges = "float32"
) -> tuple[Graph, dict[str, ops.Array]]:
    """The operations of `module` in evaluation mode, batch norm folded, and its arrays.

    Args:
        module: from float32 (N, C, H, W) to logits (N, classes).
        images: shape and normalisation of its images.
        edges: how the weights of real layers are stored; int8 rounds them, per output channel.

    Raises:
        InputError: the network holds what a packed one cannot.
    """
    tracer = _Tracer()
    with _evaluating(module), torch.no_grad():
        traced = fx.GraphModule(module, tracer.trace(module))
        device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
        ShapeProp(traced).propagate(torch.zeros(1, *images.shape, device=device))
        converter = _Converter(module, edges)
        for node in traced.graph.nodes:
            converter.add(node)
    operations = _with_real_signs(converter.operations)
    graph = Graph(images=images, operations=operations, output=converter.output)
    try:
        graph.shapes()
    except ValueError as error:
        raise InputError(f"this network cannot be packed: {error}") from error
    return fold_thresholds(graph, converter.tensors)


def _with_real_signs(operations: Sequence[ops.Operation]) -> tuple[ops.Operation, ...]:
    """The operations, with real values for signs that binary layers do not read, and others do."""
    binary = {
        operation.input for operation in operations if isinstance(operation, ops.Convolution) and operation.binary
    }
    return tuple(
        operation.model_copy(update={"real": operation.name not in binary})
        if isinstance(operation, ops.Threshold)
        else operation
        for operation in operations
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _OWN_LAYERS) or super().is_leaf_module(m, module_qualified_name)


class _Converter:
    def __init__(self, module: nn.Module, edges: Edges) -> None:
        self.module = module
        self.edges = edges
        self.operations: list[ops.Operation] = []
        self.tensors: dict[str, ops.Array] = {}
        self.integers: set[str] = set()
        self.names: dict[fx.Node, str] = {}
        self.output = ""

    def add(self, node: fx.Node) -> None:
        """Append what `node` does."""
        match node.op:
            case "placeholder":
                self.names[node] = INPUT
            case "output":
                self.output = self.names[_one_node(node, node.args[0])]
            case "call_module":
                source = self.names[_one_node(node, node.args[0])]
                part = self.module.get_submodule(str(node.target))
                self.names[node] = self._module(str(node.target), part, source, _shape_of(node.args[0]))
            case "call_function" | "call_method":
                self.names[node] = self._function(node)
            case _:
                raise _unknown(f"{node.op} {node.target}")

    def _append(self, operation: ops.Operation) -> str:
        self.operations.append(operation)
        return operation.name

    def _store(self, name: str, values: Tensor | ops.Array) -> str:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        self.tensors[name] = np.ascontiguousarray(array)
        return name

    def _vector(self, name: str, values: Tensor) -> str:
        return self._store(name, values.detach().float().flatten())

    # --- modules ---

    def _module(self, name: str, part: nn.Module, source: str, shape: Sequence[int]) -> str:
        match part:
            case nn.Identity() | nn.Dropout() | nn.Dropout2d():
                return source
            case BinaryConv2d() | BinaryLinear():
                return self._binary(name, part, source)
            case nn.Conv2d() | nn.Linear():
                return self._real(name, part, source)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return self._norm(name, part, source)
            case Sign():
                return self._threshold(name, source, torch.tensor([part.shift]))
            case RSign():
                return self._threshold(name, source, -part.bias)
            case nn.MaxPool2d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d() | WideMean():
                return self._append(_pool(name, part, source, shape))
            case nn.Flatten():
                return self._append(ops.Flatten(name=name, input=source))
            case MeanMagnitude():
                slope = self._vector(f"{name}.magnitude", torch.tensor([-1.0]))
                source = self._append(ops.Prelu(name=slope, input=source))
                return self._constant(name, source, torch.full((1, part.channels, 1, 1), 1 / part.channels))
            case WindowMean():
                window = torch.full((1, 1, part.kernel_size, part.kernel_size), 1 / part.kernel_size**2)
                return self._constant(name, source, window, stride=part.stride, padding=part.padding)
            case Quantise() | Int8Conv2d() | PixelSum() | IntegerLogits():
                return self._whole(name, part, source, shape)
            case _:
                return self._activation(name, part, source)

    def _binary(self, name: str, layer: BinaryConv2d | BinaryLinear, source: str) -> str:
        weight = weight_bits(layer)
        filters = weight if weight.ndim == 4 else weight[:, :, None, None]
        bits = (filters > 0).permute(0, 2, 3, 1).flatten(1).cpu().numpy()
        self._store(name, pack_rows(bits))
        stride, padding = (1, 0) if isinstance(layer, BinaryLinear) else (layer.stride, layer.padding)
        integers = source in self.integers
        operation = ops.Convolution(
            name=name,
            input=source,
            binary=not integers,
            integer="bits" if integers else None,
            channels=len(bits),
            kernel=tuple(filters.shape[2:]),
            stride=_pair(stride),
            padding=_pair(padding),
        )
        made = self._append(operation)
        if layer.two_valued:
            made = self._two_valued(operation, layer)
        scale = output_scale(layer)
        if scale is None:
            return made
        return self._append(ops.Scale(name=self._vector(f"{name}.scaled", scale), input=made))

    def _whole(
        self, name: str, part: Quantise | Int8Conv2d | PixelSum | IntegerLogits, source: str, shape: Sequence[int]
    ) -> str:
        """What computes whole numbers."""
        match part:
            case Quantise():
                return self._quantise(name, source)
            case Int8Conv2d():
                return self._int8(name, part, source)
            case PixelSum():
                whole = (int(shape[2]), int(shape[3]))
                return self._append(ops.Pool(name=name, input=source, kind="sum", kernel=whole, stride=whole))
            case IntegerLogits():
                source = self._shift(f"{name}.shift", source, part.shift)
                return self._append(ops.Scale(name=self._vector(name, part.scale), input=source))
            case _:
                assert_never(part)

    def _quantise(self, name: str, source: str) -> str:
        steps = self._vector(f"{name}.steps", torch.tensor([PIXEL_STEPS]))
        source = self._append(ops.Scale(name=steps, input=source))
        source = self._append(ops.Round(name=f"{name}.round", input=source))
        self.integers.add(name)
        return self._append(ops.Clamp(name=name, input=source, low=-LARGEST, high=LARGEST))

    def _int8(self, name: str, layer: Int8Conv2d, source: str) -> str:
        filters = layer.integers()
        self._store(name, filters.permute(0, 2, 3, 1).to(torch.int8))
        return self._append(
            ops.Convolution(
                name=name,
                input=source,
                binary=False,
                integer="int8",
                channels=len(filters),
                kernel=tuple(filters.shape[2:]),
                padding=_pair(layer.padding),
            )
        )

    def _two_valued(self, signs: ops.Convolution, layer: BinaryConv2d | BinaryLinear) -> str:
        """Spread * signs + centre * window, the window being the sum of the inputs below the kernel."""
        _, spread, centre = two_values(layer.view(layer.weight))
        made = self._append(ops.Scale(name=self._vector(f"{signs.name}.spread", spread), input=signs.name))
        if not centre.any():
            return made
        ones = np.ones((1, layer.weight[0].numel()), np.bool_)
        window = self._store(f"{signs.name}.window", pack_rows(ones))
        self._append(signs.model_copy(update={"name": window, "channels": 1}))
        centred = self._constant(f"{signs.name}.centre", window, centre.flatten()[:, None, None, None])
        return self._append(ops.Combine(op="add", name=f"{signs.name}.two", x=made, y=centred))

    def _real(self, name: str, layer: nn.Conv2d | nn.Linear, source: str) -> str:
        filters = layer.weight.detach().float()
        if isinstance(layer, nn.Linear):
            filters, stride, padding = filters[:, :, None, None], (1, 1), (0, 0)
        else:
            _check_convolution(name, layer)
            stride, padding = _pair(layer.stride), _pair(layer.padding)
        self._store_filters(name, filters.permute(0, 2, 3, 1).cpu().numpy())
        operation = ops.Convolution(
            name=name,
            input=source,
            binary=False,
            int8=self.edges == "int8",
            wide=isinstance(layer, WideConv2d | WideLinear),
            channels=len(filters),
            kernel=tuple(filters.shape[2:]),
            stride=stride,
            padding=padding,
        )
        self._append(operation)
        if layer.bias is None:
            return name
        return self._shift(f"{name}.biased", name, layer.bias)

    def _constant(self, name: str, source: str, filters: Tensor, *, stride: int = 1, padding: int = 0) -> str:
        """A convolution with filters (out, in, height, width) that are no parameters, and so are never rounded."""
        operation = ops.Convolution(
            name=self._store(name, filters.permute(0, 2, 3, 1)),
            input=source,
            binary=False,
            wide=True,
            channels=len(filters),
            kernel=(filters.shape[2], filters.shape[3]),
            stride=(stride, stride),
            padding=(padding, padding),
        )
        return self._append(operation)

    def _store_filters(self, name: str, filters: NDArray[np.float32]) -> None:
        """Store real filters; as int8, the largest magnitude of every output channel becomes 127."""
        if self.edges == "float32":
            self._store(name, filters)
            return
        largest = np.abs(filters).max(axis=(1, 2, 3))
        scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        self._store(name, np.rint(filters / scale[:, None, None, None]).astype(np.int8))
        self._store(f"{name}.scale", scale)

    def _norm(self, name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d, source: str) -> str:
        """fma(x, scale, offset), with the roundings that PyTorch has when it evaluates batch norm on a CPU."""
        if norm.running_mean is None or norm.running_var is None:
            raise _unknown(f"{name}, batch norm without running statistics,")
        mean, variance = (array.detach().cpu().numpy() for array in (norm.running_mean, norm.running_var))
        scale = np.float32(1) / np.sqrt(variance + np.float32(norm.eps))
        offset = np.zeros_like(mean)
        if norm.affine:
            scale = scale * norm.weight.detach().cpu().numpy()
            offset = norm.bias.detach().cpu().numpy()
        offset = (offset - mean.astype(np.float64) * scale).astype(np.float32)
        return self._append(ops.Affine(name=self._store(name, np.stack((scale, offset))), input=source))

    def _threshold(self, name: str, source: str, level: Tensor) -> str:
        return self._append(ops.Threshold(name=self._vector(name, level), input=source))

    def _shift(self, name: str, source: str, values: Tensor) -> str:
        return self._append(ops.Shift(name=self._vector(name, values), input=source))

    def _activation(self, name: str, part: nn.Module, source: str) -> str:
        match part:
            case ShiftedHardtanh():
                if part.shift != 0:
                    source = self._shift(f"{name}.shift", source, torch.tensor([-part.shift]))
                return self._append(ops.Clamp(name=name, input=source, low=-1.0, high=1.0))
            case nn.ReLU():
                return self._append(ops.Clamp(name=name, input=source, low=0.0))
            case nn.Hardtanh():
                return self._append(ops.Clamp(name=name, input=source, low=part.min_val, high=part.max_val))
            case nn.PReLU():
                return self._append(ops.Prelu(name=self._vector(name, part.weight), input=source))
            case nn.LeakyReLU():
                slope = self._vector(name, torch.tensor([part.negative_slope]))
                return self._append(ops.Prelu(name=slope, input=source))
            case RPReLU():
                source = self._shift(f"{name}.centre", source, -part.centre)
                source = self._append(ops.Prelu(name=self._vector(f"{name}.slope", part.slope), input=source))
                return self._shift(f"{name}.out", source, part.out)
            case WideSigmoid():
                return self._append(ops.Sigmoid(name=name, input=source))
            case HardSigmoid():
                source = self._shift(f"{name}.shift", source, torch.tensor([3.0]))
                source = self._append(ops.Clamp(name=f"{name}.clamp", input=source, low=0.0, high=6.0))
                return self._append(ops.Scale(name=self._vector(name, torch.tensor([1 / 6])), input=source))
            case _:
                raise _unknown(f"{name}, a {type(part).__name__},")

    # --- functions ---

    def _function(self, node: fx.Node) -> str:
        target = node.target
        if _is_idle(node):
            return self.names[_one_node(node, node.args[0])]
        if target in (operator.add, operator.iadd, torch.add):
            return self._combine(node, "add")
        if target in (operator.mul, operator.imul, torch.mul):
            return self._combine(node, "multiply")
        if target is nn.functional.pad:
            return self._pad(node)
        if target is torch.cat:
            return self._concatenate(node)
        if target is operator.getitem:
            return self._select(node)
        if target in (torch.flatten, "flatten"):
            return self._append(ops.Flatten(name=node.name, input=self.names[_one_node(node, node.args[0])]))
        raise _unknown(f"the function {getattr(target, '__name__', target)}")

    def _combine(self, node: fx.Node, op: Literal["add", "multiply"]) -> str:
        x, y = (_one_node(node, argument) for argument in node.args[:2])
        if _shape_of(x) != _shape_of(node) and _shape_of(y) == _shape_of(node):
            x, y = y, x
        other, channels = self.names[y], _shape_of(x)[1]
        if _shape_of(y)[1] < channels:  # one channel for all
            other = self._constant(f"{node.name}.spread", other, torch.ones(channels, 1, 1, 1))
        return self._append(ops.Combine(op=op, name=node.name, x=self.names[x], y=other))

    def _pad(self, node: fx.Node) -> str:
        """Zero channels before and after; a negative number cuts channels off."""
        source = _one_node(node, node.args[0])
        padding = list(node.args[1]) if len(node.args) > 1 else []  # type: ignore[arg-type]
        settings = {**dict(zip(("mode", "value"), node.args[2:], strict=False)), **node.kwargs}
        zeros = settings.get("mode", "constant") == "constant" and not settings.get("value")
        if len(padding) != 6 or any(padding[:4]) or not zeros:
            raise _unknown("padding other than of channels with zeros")
        before, after = int(padding[4]), int(padding[5])
        first, stop = max(0, -before), _shape_of(source)[1] + min(0, after)
        parts = [ops.Slice(count=before)] if before > 0 else []
        parts.append(ops.Slice(input=self.names[source], first=first, count=stop - first))
        parts += [ops.Slice(count=after)] if after > 0 else []
        return self._append(ops.Concatenate(name=node.name, parts=tuple(parts)))

    def _concatenate(self, node: fx.Node) -> str:
        if node.args[1:] != (1,) and node.kwargs != {"dim": 1}:
            raise _unknown("a concatenation along another axis than the channels")
        sources = [_one_node(node, part) for part in node.args[0]]  # type: ignore[union-attr]
        parts = tuple(ops.Slice(input=self.names[source], count=_shape_of(source)[1]) for source in sources)
        return self._append(ops.Concatenate(name=node.name, parts=parts))

    def _select(self, node: fx.Node) -> str:
        source, index = _one_node(node, node.args[0]), cast(Any, node.args[1])
        everything = slice(None)
        if not isinstance(index, tuple) or [*index[:1], *index[2:]] != [everything] * (len(index) - 1):
            raise _unknown("a selection other than of neighbouring channels")
        first, stop, step = index[1].indices(_shape_of(source)[1]) if isinstance(index[1], slice) else (0, 0, 0)
        if step != 1:
            raise _unknown("a selection other than of neighbouring channels")
        part = ops.Slice(input=self.names[source], first=first, count=stop - first)
        return self._append(ops.Concatenate(name=node.name, parts=(part,)))


def _pool(
    name: str, part: nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d | WideMean, source: str, shape: Sequence[int]
) -> ops.Pool:
    if isinstance(part, nn.AdaptiveAvgPool2d | WideMean):
        if isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size not in (1, (1, 1)):
            raise _unknown(f"{name}, an adaptive pool to more than one pixel,")
        whole = (int(shape[2]), int(shape[3]))
        return ops.Pool(name=name, input=source, kind="mean", kernel=whole, stride=whole, wide=True)
    kernel, padding = _pair(part.kernel_size), _pair(part.padding)
    if isinstance(part, nn.MaxPool2d):
        if part.dilation not in (1, (1, 1)):
            raise _unknown(f"{name}, a dilated pool,")
    elif padding != (0, 0) and part.count_include_pad:
        raise _unknown(f"{name}, a mean that counts padding,")
    return ops.Pool(
        name=name,
        input=source,
        kind="max" if isinstance(part, nn.MaxPool2d) else "mean",
        kernel=kernel,
        stride=_pair(part.stride),
        padding=padding,
        ceil=part.ceil_mode,
    )


def _check_convolution(name: str, layer: nn.Conv2d) -> None:
    plain = layer.groups == 1 and _pair(layer.dilation) == (1, 1) and layer.padding_mode == "zeros"
    if not plain or isinstance(layer.padding, str):
        raise _unknown(f"{name}, a convolution with groups, dilation or padding by name,")


def _is_idle(node: fx.Node) -> bool:
    """Whether it only does something in training."""
    name = getattr(node.target, "__name__", "")
    return name in ("dropout", "dropout2d", "stochastic_depth") and False in (
        node.args[-1],
        node.kwargs.get("training"),
    )


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _one_node(user: fx.Node, argument: object) -> fx.Node:
    if not isinstance(argument, fx.Node):
        raise _unknown(f"{user.name} with a constant operand")
    return argument


def _shape_of(node: object) -> Sequence[int]:
    told = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    if not isinstance(told, TensorMetadata):
        raise _unknown(f"{node}, which is no map or vector,")
    return tuple(told.shape)


def _unknown(what: str) -> InputError:
    return InputError(f"this network cannot be packed: {what} has no packed form")
