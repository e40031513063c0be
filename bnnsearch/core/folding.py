"""How many bits a layer's parameters take once batch norm is folded into its neighbours.

Batch norm computes a x + b per channel. Before sign only the threshold -b / a and the side (the sign of a) remain;
after a real layer a goes into its weights and b is its bias, which int8 weights have no room for; before a linear one
nothing remains; elsewhere a and b do.
Where batch norm is all that follows a binary layer, the layer's output scale goes into a.
"""

from __future__ import annotations

from torch import fx, nn

from bnnsearch.core.integers import Int8Conv2d
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, ShiftedHardtanh, Sign
from bnnsearch.core.models.graph import layer_of

_BITS = 32
_INT8_BITS = 8
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def folded_bits(node: fx.Node, graph: fx.GraphModule) -> int:
    """Bits of the parameters of the layer that `node` calls, batch norms folded."""
    layer = layer_of(node, graph)
    match layer:
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return _norm_bits(node, graph, layer.num_features)
        case BinaryConv2d() | BinaryLinear():
            scaled = layer.scale != "none" and not _feeds_only(node, graph, _NORMS)
            return layer.weight.numel() + (_BITS * len(layer.weight) if scaled else 0)
        case Int8Conv2d():
            return _INT8_BITS * layer.weight.numel()
        case None:
            return 0
        case _:
            return _BITS * sum(parameter.numel() for parameter in layer.parameters())


def _norm_bits(node: fx.Node, graph: fx.GraphModule, channels: int) -> int:
    source = node.all_input_nodes[0]
    if isinstance(layer_of(source, graph), nn.Conv2d | nn.Linear) and len(source.users) == 1:
        return _BITS * channels
    if _feeds_only(node, graph, (nn.Linear,)):
        return 0
    if _only_signed(node, graph):
        return (_BITS + 1) * channels
    return 2 * _BITS * channels


def _only_signed(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether nothing but the sign of the output of `node` matters; hardtanh keeps it."""
    if _feeds_only(node, graph, (Sign,)):
        return True
    return _feeds_only(node, graph, (ShiftedHardtanh,)) and all(_only_signed(user, graph) for user in node.users)


def _feeds_only(node: fx.Node, graph: fx.GraphModule, kinds: tuple[type[nn.Module], ...]) -> bool:
    return all(isinstance(layer_of(user, graph), kinds) for user in node.users)
