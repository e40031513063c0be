"""A network as a graph of its layers: what costs are computed from, and what a 1-bit network is made of."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from bnnsearch.core.layers import binary_layers, sign_view


class _LayerTracer(fx.Tracer):
    """Stops at every module without submodules, and at torch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(m.children()) or super().is_leaf_module(m, module_qualified_name)


def trace_layers(model: nn.Module) -> fx.GraphModule:
    """The graph of `model`: a `call_module` node per layer, its target the layer's name, and the few functions between.

    The graph module shares the layers, and so the parameters, of `model`.
    """
    return fx.GraphModule(model, _LayerTracer().trace(model))


def trace_shapes(model: nn.Module, shape: tuple[int, int, int]) -> fx.GraphModule:
    """The graph of a copy of `model` without storage, for one image of `shape` (C, H, W), in evaluation mode.

    Every node's `meta["tensor_meta"].shape` is the shape of its output, the first dimension 1.
    """
    copy = deepcopy(model).to("meta").eval()
    for layer in binary_layers(copy).values():
        layer.view = sign_view  # a training method's view may hold tensors that have storage
    graph = trace_layers(copy)
    ShapeProp(graph).propagate(torch.empty(1, *shape, device="meta"))
    return graph


def layer_of(node: fx.Node, graph: fx.GraphModule) -> nn.Module | None:
    """The layer a node calls; None where it calls a function or is the input."""
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def out_shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of the output of a node of `trace_shapes`, without the batch; (0,) where it is no tensor."""
    told = node.meta.get("tensor_meta")
    return tuple(told.shape[1:]) if isinstance(told, TensorMetadata) else (0,)
