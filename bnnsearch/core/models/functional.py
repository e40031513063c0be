"""A network of anyone's as a graph of modules: traced by torch.fx, functions between its layers written as modules.

What follows, making layers binary, counting costs and packing, then has one form of every operation to know.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional

from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, RPReLU, RSign, ShiftedHardtanh, Sign
from bnnsearch.core.models.blocks import named
from bnnsearch.core.wide import HardSigmoid, WideConv2d, WideLinear, WideMean, WideSigmoid
from bnnsearch.errors import InputError

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Softplus, nn.RReLU,
)  # fmt: skip
"""Those whose outputs are hardly ever negative, or which have no packed form."""

SIGMOIDS = (HardSigmoid, WideSigmoid)

_OWN = (
    BinaryConv2d, BinaryLinear, RPReLU, RSign, ShiftedHardtanh, Sign,
    HardSigmoid, WideConv2d, WideLinear, WideMean, WideSigmoid,
)  # fmt: skip

_ARITHMETIC = {
    **dict.fromkeys((operator.iadd, operator.add, "add", "add_"), operator.add),
    **dict.fromkeys((operator.imul, operator.mul, "mul", "mul_"), operator.mul),
}


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Shape of the output of a node, the batch included; () where it is no tensor."""
    told = node.meta.get("tensor_meta")
    return tuple(told.shape) if isinstance(told, TensorMetadata) else ()


class _Tracer(fx.Tracer):
    """Stops at torch's modules and at ours, and at small ones that do something else in training."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        asks = "training" in getattr(type(m).forward, "__code__", _nothing.__code__).co_names
        return (
            isinstance(m, _OWN) or (asks and not any(m.children())) or super().is_leaf_module(m, module_qualified_name)
        )


def _nothing() -> None: ...


def trace(network: nn.Module) -> fx.GraphModule:
    """The graph of a network, dropout written as modules.

    Raises:
        InputError: it does something else in training than in evaluation, beside what its layers do.
        Exception: whatever its code raises where it is traced.
    """
    _take_apart(network)
    graphs = []
    for training in (True, False):
        network.train(training)
        graph = fx.GraphModule(network, _Tracer().trace(network))
        for node in list(graph.graph.nodes):
            if node.target in (functional.dropout, functional.dropout1d, functional.dropout2d):
                share = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
                kind = nn.Dropout if node.target is functional.dropout else nn.Dropout2d
                _replace(graph, node, kind(float(share)))
        graphs.append(graph)
    steps = [[node.format_node() for node in graph.graph.nodes] for graph in graphs]
    if steps[0] != steps[1]:
        raise InputError("computes something else in training than in evaluation, which no graph can tell")
    return graphs[0]


def _take_apart(network: nn.Module) -> None:
    """Write norms that have an activation of their own, timm's BatchNormAct2d, as a norm and what follows it."""
    for parent in list(network.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, nn.BatchNorm2d) and type(norm).__name__ == "BatchNormAct2d":
                parts = dict(norm.named_children())
                plain = nn.BatchNorm2d(
                    norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
                )
                plain.load_state_dict(norm.state_dict(), strict=False)
                setattr(parent, name, named({"norm": plain, **parts}))


def write_as_modules(graph: fx.GraphModule, shape: tuple[int, int, int]) -> None:
    """Write functions as modules, each call of a module without parameters as a module of its own, in place.

    Args:
        graph: of `trace`, in evaluation mode.
        shape: (C, H, W) of its images; afterwards every node knows the shape of its output for two of them.
    """
    ShapeProp(graph).propagate(torch.zeros(2, *shape))
    seen: set[str] = set()
    for node in list(graph.graph.nodes):
        module = _as_module(graph, node)
        if module is not None:
            _replace(graph, node, module)
        elif node.target in _WEIGHTED and (layer := _layer(graph, node)) is not None:
            _replace(graph, node, layer[1], layer[0])
        elif node.op == "call_module":
            own = graph.get_submodule(str(node.target))
            if str(node.target) in seen and not any(own.parameters()) and not any(own.buffers()):
                _replace(graph, node, deepcopy(own))
            seen.add(str(node.target))
        elif (operation := _arithmetic(node)) is not None:  # nothing in place: what comes before may be needed
            node.op, node.target = "call_function", operation
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    for part in graph.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    graph.recompile()


def _arithmetic(node: fx.Node) -> Callable[..., Any] | None:
    if node.op in ("call_function", "call_method") and len(node.args) == 2 and not node.kwargs:
        return _ARITHMETIC.get(node.target)
    return None


def _replace(graph: fx.GraphModule, node: fx.Node, module: nn.Module, name: str | None = None) -> None:
    """Let `node` call `module`, on its first input; by default beside the module that it called, where it was one."""
    place = str(node.target).rpartition(".")[0] if node.op == "call_module" else ""
    name = name or (f"{place}.{node.name}" if place else node.name)
    graph.add_submodule(name, module.train(graph.training))
    source = node.args[0] if node.args else next(iter(node.kwargs.values()))
    node.op, node.target, node.args, node.kwargs = "call_module", name, (source,), {}


def _as_module(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module in whose place a node stands; None where it stands for itself."""
    if node.op == "call_module":
        match graph.get_submodule(str(node.target)):
            case nn.Sigmoid():
                return WideSigmoid()
            case nn.Hardsigmoid():
                return HardSigmoid()
            case nn.AdaptiveAvgPool2d():
                return _adaptive(node)
            case nn.LogSoftmax():
                return _last_softmax(node)
    elif node.op in ("call_function", "call_method"):
        written = _WRITTEN.get(node.target)
        return written(node) if written else None
    return None


def _layer(graph: fx.GraphModule, node: fx.Node) -> tuple[str, nn.Module] | None:
    """The linear layer or convolution that a function is with parameters of a module, and the module's name."""
    told = _told(node, ("weight", "bias", "stride", "padding", "dilation", "groups"))
    weight, bias = (told.pop(name, None) for name in ("weight", "bias"))
    owned = [each.op == "get_attr" and "." in str(each.target) for each in (weight, bias) if isinstance(each, fx.Node)]
    if not isinstance(weight, fx.Node) or not all(owned):
        return None
    parameter = graph.get_parameter(str(weight.target))
    fan = (parameter.shape[1] * told.get("groups", 1), parameter.shape[0])
    layer: nn.Linear | nn.Conv2d
    if node.target is functional.linear:
        layer = nn.Linear(*fan, bias=bias is not None)
    else:
        layer = nn.Conv2d(*fan, tuple(parameter.shape[2:]), **told, bias=bias is not None)  # type: ignore[arg-type]
    layer.weight = parameter
    if isinstance(bias, fx.Node):
        layer.bias = graph.get_parameter(str(bias.target))
    return str(weight.target).rpartition(".")[0], layer


def _told(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    return {**dict(zip(names, node.args[1:], strict=False)), **{k: v for k, v in node.kwargs.items() if k != "input"}}


def _last_softmax(node: fx.Node) -> nn.Module | None:
    """Nothing, before the loss, which takes it once more without changing anything."""
    return nn.Identity() if all(user.op == "output" for user in node.users) else None


def _max_pool(node: fx.Node) -> nn.Module | None:
    told = _told(node, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"))
    return None if told.get("return_indices") else nn.MaxPool2d(**told)


def _mean_pool(node: fx.Node) -> nn.Module:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    return nn.AvgPool2d(**_told(node, names))


def _flatten(node: fx.Node) -> nn.Module | None:
    source = node.args[0]
    before = shape_of(source) if isinstance(source, fx.Node) else ()
    images, *rest = before or (0,)
    return nn.Flatten() if rest and shape_of(node) == (images, torch.Size(rest).numel()) else None


def _adaptive(node: fx.Node) -> nn.Module | None:
    """The mean over windows of one size, where there are such."""
    source = node.args[0]
    before, after = shape_of(source)[2:] if isinstance(source, fx.Node) else (), shape_of(node)[2:]
    if after == (1, 1):
        return WideMean()
    if before == after:
        return nn.Identity()
    if all(side % count == 0 for side, count in zip(before, after, strict=True)):
        high, wide = (side // count for side, count in zip(before, after, strict=True))
        return nn.AvgPool2d((high, wide))
    return None


def _mean(node: fx.Node) -> nn.Module | None:
    source, told = node.args[0], _told(node, ("dim", "keepdim"))
    dims = told.get("dim")
    if not isinstance(source, fx.Node) or len(shape_of(source)) != 4 or not isinstance(dims, list | tuple):
        return None
    if {int(each) % 4 for each in dims} != {2, 3}:
        return None
    return WideMean() if told.get("keepdim") else named({"mean": WideMean(), "flatten": nn.Flatten()})


def _plain(module: type[nn.Module]) -> Callable[[fx.Node], nn.Module]:
    return lambda _: module()


_WEIGHTED = (functional.linear, functional.conv2d)

_WRITTEN: Mapping[Any, Callable[[fx.Node], nn.Module | None]] = {
    **dict.fromkeys((functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"), _plain(nn.ReLU)),
    functional.relu6: _plain(nn.ReLU6),
    functional.elu: _plain(nn.ELU),
    functional.selu: _plain(nn.SELU),
    functional.celu: _plain(nn.CELU),
    functional.gelu: _plain(nn.GELU),
    functional.silu: _plain(nn.SiLU),
    functional.mish: _plain(nn.Mish),
    functional.hardswish: _plain(nn.Hardswish),
    functional.softplus: _plain(nn.Softplus),
    functional.hardsigmoid: _plain(HardSigmoid),
    **dict.fromkeys((torch.sigmoid, functional.sigmoid, "sigmoid"), _plain(WideSigmoid)),
    **dict.fromkeys((torch.flatten, torch.reshape, "flatten", "view", "reshape"), _flatten),
    **dict.fromkeys((functional.log_softmax, torch.log_softmax, "log_softmax"), _last_softmax),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    functional.max_pool2d: _max_pool,
    functional.avg_pool2d: _mean_pool,
    functional.adaptive_avg_pool2d: _adaptive,
}
"""What writes a function or method as a module, where one does the same."""
