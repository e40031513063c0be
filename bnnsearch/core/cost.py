"""What a network costs, computed from its layers for one image: memory, operations, energy. Nothing is measured here.

memory  = 1 bit per binary weight, 8 per int8 weight, 32 per other parameter
BOPs    = multiply-accumulates (MACs) of binary layers; of other whole numbers, MACs * weight bits * activation bits
FLOPs   = MACs of real convolutions and linear layers
OPs     = BOPs / 64 + FLOPs                                       (Liu et al., 2018)

Cost models, energy among them, are in `bnnsearch.config.cost`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from bnnsearch.config.cost import CostSettings, EnergyConfig
from bnnsearch.core.folding import folded_bits
from bnnsearch.core.integers import Int8Conv2d, PixelSum, Quantise
from bnnsearch.core.layers import BinaryConv2d, BinaryLayer, BinaryLinear, RSign, Sign, sign_view
from bnnsearch.core.models.graph import layer_of, out_shape, trace_shapes
from bnnsearch.core.wide import MeanMagnitude, WindowMean

REAL_BITS = 32
INT8_BITS = 8


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer's share.

    Attributes:
        name: its name in the network.
        kind: its class.
        out_shape: of its output, without the batch.
        params: parameters, binary weights included; buffers are none.
        binary_params: weights of 1 bit.
        int8_params: weights of 8 bits.
        folded_bits: bits of its parameters once batch norms are folded into their neighbours.
        macs: multiply-accumulates.
        mac_bits: bits of the weight times bits of the input where both are whole numbers, 1 being XNOR and count; 0 of
            real ones.
        binary: whether its weights are binary.
        signed_inputs: whether its inputs are signs.
        follows_real: whether a gradient of its inputs leads to real-valued parameters before it.
        follows_binary: whether one leads to binary weights before it.
        learns_frozen: whether a gradient of its weights is computed even where these are frozen, for their scale.
    """

    name: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    binary_params: int
    int8_params: int
    folded_bits: int
    macs: int
    mac_bits: int
    binary: bool
    signed_inputs: bool
    follows_real: bool
    follows_binary: bool
    learns_frozen: bool

    @property
    def bits(self) -> int:
        """Bits of its parameters as they are trained."""
        real = self.params - self.binary_params - self.int8_params
        return self.binary_params + INT8_BITS * self.int8_params + REAL_BITS * real


@dataclass(frozen=True)
class ModelCost:
    """A network's cost for one image.

    Attributes:
        layers: in the order of the forward pass.
        peak_activation_bytes: most bytes of activations alive at once, each layer writing its output to new memory;
            outputs of sign have 1 bit, quantised pixels 8, others 32.
        moved_activation_bits: bits of activations written and read, see `_moved_bits`.
    """

    layers: tuple[LayerCost, ...]
    peak_activation_bytes: int
    moved_activation_bits: int

    @cached_property
    def params(self) -> int:
        """Trained parameters."""
        return sum(layer.params for layer in self.layers)

    @cached_property
    def binary_params(self) -> int:
        """Trained parameters that are +-1."""
        return sum(layer.binary_params for layer in self.layers)

    @cached_property
    def memory_bytes(self) -> int:
        """Parameters as trained, batch norm's running statistics not counted, as in the literature."""
        return math.ceil(sum(layer.bits for layer in self.layers) / 8)

    @cached_property
    def folded_memory_bytes(self) -> int:
        """Parameters as deployed, batch norms folded into their neighbours (see `folding`)."""
        return math.ceil(sum(layer.folded_bits for layer in self.layers) / 8)

    @cached_property
    def bops(self) -> int:
        """Multiply-accumulates of whole numbers, each weighted by the product of its operands' bits."""
        return sum(layer.macs * layer.mac_bits for layer in self.layers)

    @cached_property
    def flops(self) -> int:
        """Real multiply-accumulates."""
        return sum(layer.macs for layer in self.layers if not layer.mac_bits)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of any kind."""
        return sum(layer.macs for layer in self.layers)

    @property
    def ops(self) -> float:
        """BOPs / 64 + FLOPs."""
        return self.bops / 64 + self.flops

    def metrics(self, models: Iterable[CostSettings] = ()) -> dict[str, float]:
        """The costs that a search can have as objectives, by their names there, those of cost models among them."""
        return {
            "params": float(self.params),
            "memory_bytes": float(self.memory_bytes),
            "bops": float(self.bops),
            "flops": float(self.flops),
            "ops": self.ops,
            **{each.name: each.checked(self) for each in (EnergyConfig(), *models)},
        }


def model_cost(model: nn.Module, shape: tuple[int, int, int]) -> ModelCost:
    """The cost of `model` for one image of `shape` (C, H, W); the model is neither run nor changed."""
    graph = trace_shapes(model, shape)
    trained = _trained_before(graph)
    layers = tuple(_layer_cost(node, graph, trained[node]) for node in graph.graph.nodes if node.op == "call_module")
    return ModelCost(layers, _peak_activation_bytes(graph), _moved_bits(graph))


def _layer_cost(node: fx.Node, graph: fx.GraphModule, trained_before: tuple[bool, bool]) -> LayerCost:
    layer = graph.get_submodule(str(node.target))
    binary = isinstance(layer, BinaryConv2d | BinaryLinear)
    return LayerCost(
        name=str(node.target),
        kind=type(layer).__name__,
        out_shape=out_shape(node),
        params=sum(parameter.numel() for parameter in layer.parameters()),
        binary_params=layer.weight.numel() if isinstance(layer, BinaryConv2d | BinaryLinear) else 0,
        int8_params=layer.weight.numel() if isinstance(layer, Int8Conv2d) else 0,
        folded_bits=folded_bits(node, graph),
        macs=_macs(layer, out_shape(node)),
        mac_bits=_mac_bits(node, graph),
        binary=binary,
        signed_inputs=all(_is_signed(source, graph) for source in node.all_input_nodes),
        follows_real=trained_before[0],
        follows_binary=trained_before[1],
        learns_frozen=isinstance(layer, BinaryConv2d | BinaryLinear) and _learns_frozen(layer, node),
    )


def _trained_before(graph: fx.GraphModule) -> dict[fx.Node, tuple[bool, bool]]:
    """For every node, whether real-valued parameters and whether binary weights before it are trained."""
    before: dict[fx.Node, tuple[bool, bool]] = {}
    upto: dict[fx.Node, tuple[bool, bool]] = {}
    for node in graph.graph.nodes:
        sources = [upto[source] for source in node.all_input_nodes]
        real, binary = (any(source[kind] for source in sources) for kind in range(2))
        before[node] = real, binary
        layer = layer_of(node, graph)
        learning = [each for each in layer.parameters() if each.requires_grad] if layer else []
        signs = layer.weight if isinstance(layer, BinaryConv2d | BinaryLinear) else None
        upto[node] = (
            real or any(each is not signs for each in learning),
            binary or any(each is signs for each in learning),
        )
    return before


def _learns_frozen(layer: BinaryLayer, node: fx.Node) -> bool:
    """Whether autograd computes a gradient of what the layer multiplies with, though no gradient passes its view."""
    layer.view = Tensor.detach
    try:
        inputs = torch.empty(1, *out_shape(node.all_input_nodes[0]), device="meta")
        return bool(layer.train()(inputs).requires_grad)
    finally:
        layer.eval().view = sign_view


def _mac_bits(node: fx.Node, graph: fx.GraphModule) -> int:
    match layer_of(node, graph):
        case BinaryConv2d() | BinaryLinear():
            weight_bits = 1
        case Int8Conv2d():
            weight_bits = INT8_BITS
        case _:
            return 0
    inputs = max(_element_bits(source, graph) for source in node.all_input_nodes)
    return weight_bits * (1 if inputs == REAL_BITS else inputs)  # a guest's own sign is as good as ours


def _macs(layer: nn.Module, out: tuple[int, ...]) -> int:
    match layer:
        case BinaryConv2d() | Int8Conv2d():
            return math.prod(out) * math.prod(layer.weight.shape[1:])
        case nn.Conv2d():
            return math.prod(out) * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        case BinaryLinear() | nn.Linear():
            return math.prod(out) * layer.in_features
        case MeanMagnitude():
            return math.prod(out) * layer.channels
        case WindowMean():
            return math.prod(out) * layer.kernel_size**2
        case _:
            return 0


def _bits(node: fx.Node, graph: fx.GraphModule) -> int:
    """Bits of the output of `node`."""
    return math.prod(out_shape(node)) * _element_bits(node, graph)


def _element_bits(node: fx.Node, graph: fx.GraphModule) -> int:
    owner = _owner(node, graph)
    match layer_of(owner, graph):
        case Sign() | RSign():
            return 1
        case Quantise():
            return INT8_BITS
        case PixelSum() if _is_signed(owner.all_input_nodes[0], graph):
            return (2 * math.prod(out_shape(owner.all_input_nodes[0])[1:])).bit_length()  # from -pixels to pixels
        case _:
            return REAL_BITS


def _is_signed(node: fx.Node, graph: fx.GraphModule) -> bool:
    return isinstance(layer_of(_owner(node, graph), graph), Sign | RSign)


def _owner(node: fx.Node, graph: fx.GraphModule) -> fx.Node:
    """The node whose memory `node` hands on: itself, unless it does nothing to its input."""
    while isinstance(layer_of(node, graph), nn.Identity | nn.Flatten | nn.Dropout):
        node = node.all_input_nodes[0]
    return node


def _peak_activation_bytes(graph: fx.GraphModule) -> int:
    nodes = [node for node in graph.graph.nodes if node.op != "output"]
    place = {node: step for step, node in enumerate(nodes)}
    last_use = {
        _owner(node, graph): step for step, node in enumerate(nodes)
    }  # what nothing uses lives for its own step
    for step, node in enumerate(nodes):
        for source in node.all_input_nodes:
            owner = _owner(source, graph)
            last_use[owner] = max(last_use[owner], step)
    alive = [0] * len(nodes)
    for owner, last in last_use.items():
        for step in range(place[owner], last + 1):
            alive[step] += _bits(owner, graph)
    return math.ceil(max(alive) / 8)


_GATHERING = (
    BinaryConv2d, BinaryLinear, Int8Conv2d, nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, MeanMagnitude, WindowMean,
)  # fmt: skip
"""Layers that make an element of their output from many."""


def _moved_bits(graph: fx.GraphModule) -> int:
    """Bits of activations that an inference moves: every value in memory is written once, and read by each reader.

    What works element by element (norm, activation, sign, addition) does so on a value as it is made: it reads nothing,
    and a value that has no other reader is never in memory. Of the values that meet in an addition, the last one is so
    changed, and the others are read. The image is only read, the logits are only written.
    """
    readers: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if _owner(node, graph) is not node:
            continue
        changed = _made_with(node, list(readers), graph)
        for source in {_owner(source, graph) for source in node.all_input_nodes} - {changed}:
            readers[source].append(node)
        readers[node] = []
    return sum(
        _bits(node, graph) * ((node.op != "placeholder") + sum(user.op != "output" for user in users))
        for node, users in readers.items()
        if users
    )


def _made_with(node: fx.Node, before: Sequence[fx.Node], graph: fx.GraphModule) -> fx.Node | None:
    """The value that `node` changes element by element as it is made: the last of its inputs of its size."""
    if node.op == "output" or isinstance(layer_of(node, graph), _GATHERING):
        return None
    sources = {_owner(source, graph) for source in node.all_input_nodes}
    made = [each for each in before if each in sources and each.op != "placeholder"]
    same = [each for each in made if math.prod(out_shape(each)) == math.prod(out_shape(node))]
    return same[-1] if same else None
