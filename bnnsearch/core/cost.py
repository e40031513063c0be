"""What a network costs, computed from its layers for one image: memory, operations, energy. Nothing is measured here.

memory  = 1 bit per binary weight, 32 per other parameter
BOPs    = multiply-accumulates (MACs) of binary layers
FLOPs   = MACs of real convolutions and linear layers
OPs     = BOPs / 64 + FLOPs                                       (Liu et al., 2018)
ACE     = sum of MACs * weight bits * activation bits, real ones counted as bfloat16   (Zhang et al., 2022)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import fx, nn

from bnnsearch.core.folding import folded_bits
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, RSign, Sign
from bnnsearch.core.models.graph import layer_of, out_shape, trace_shapes

REAL_BITS = 32
ACE_REAL_BITS = 16


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Energy in picojoules of what an inference does: arithmetic, and every weight and activation moved once.

    Attributes:
        source: where the figures come from.
        real_mac: one float32 multiply-accumulate.
        binary_mac: one XNOR and its share of the count.
        weight_bit: reading one bit of a weight.
        activation_bit: reading or writing one bit of an activation.
    """

    source: str
    real_mac: float
    binary_mac: float
    weight_bit: float
    activation_bit: float


HOROWITZ_45NM = EnergyModel(
    source=(
        "Horowitz, ISSCC 2014, 45 nm, 0.9 V: float32 multiply 3.7 pJ, add 0.9 pJ; 8-bit integer add 0.03 pJ, of which "
        "a binary MAC is counted as two bits' shares (XNOR, count; ours); 64 bits read from a 1 MB memory 100 pJ "
        "(weights), from an 8 KB memory 10 pJ (activations)"
    ),
    real_mac=3.7 + 0.9,
    binary_mac=2 * 0.03 / 8,
    weight_bit=100 / 64,
    activation_bit=10 / 64,
)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer's share.

    Attributes:
        name: its name in the network.
        kind: its class.
        out_shape: of its output, without the batch.
        params: parameters, binary weights included; buffers are none.
        binary_params: weights of 1 bit.
        folded_bits: bits of its parameters once batch norms are folded into their neighbours.
        macs: multiply-accumulates.
        binary: whether these are XNOR and count.
        activation_bits: bits of all its inputs and outputs.
    """

    name: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    binary_params: int
    folded_bits: int
    macs: int
    binary: bool
    activation_bits: int

    @property
    def bits(self) -> int:
        """Bits of its parameters as they are trained."""
        return self.binary_params + REAL_BITS * (self.params - self.binary_params)


@dataclass(frozen=True)
class ModelCost:
    """A network's cost for one image.

    Attributes:
        layers: in the order of the forward pass.
        peak_activation_bytes: most bytes of activations alive at once, each layer writing its output to new memory;
            outputs of sign have 1 bit, others 32.
    """

    layers: tuple[LayerCost, ...]
    peak_activation_bytes: int

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
        """Binary multiply-accumulates."""
        return sum(layer.macs for layer in self.layers if layer.binary)

    @cached_property
    def flops(self) -> int:
        """Real multiply-accumulates."""
        return sum(layer.macs for layer in self.layers if not layer.binary)

    @property
    def ops(self) -> float:
        """BOPs / 64 + FLOPs."""
        return self.bops / 64 + self.flops

    @property
    def ace(self) -> int:
        """Arithmetic computation effort: MACs weighted by both operands' bits."""
        return self.bops + self.flops * ACE_REAL_BITS**2

    def energy(self, model: EnergyModel = HOROWITZ_45NM) -> float:
        """Microjoules of one inference, parameters folded."""
        picojoules = self.bops * model.binary_mac + self.flops * model.real_mac
        picojoules += sum(layer.folded_bits for layer in self.layers) * model.weight_bit
        picojoules += sum(layer.activation_bits for layer in self.layers) * model.activation_bit
        return picojoules / 1e6

    def metrics(self) -> dict[str, float]:
        """The costs a search can have as objectives, by their names there."""
        return {
            "params": float(self.params),
            "memory_bytes": float(self.memory_bytes),
            "bops": float(self.bops),
            "flops": float(self.flops),
            "ops": self.ops,
            "energy": self.energy(),
        }


def model_cost(model: nn.Module, shape: tuple[int, int, int]) -> ModelCost:
    """The cost of `model` for one image of `shape` (C, H, W); the model is neither run nor changed."""
    graph = trace_shapes(model, shape)
    layers = tuple(_layer_cost(node, graph) for node in graph.graph.nodes if node.op == "call_module")
    return ModelCost(layers, _peak_activation_bytes(graph))


def _layer_cost(node: fx.Node, graph: fx.GraphModule) -> LayerCost:
    layer = graph.get_submodule(str(node.target))
    macs = _macs(layer, out_shape(node))
    return LayerCost(
        name=str(node.target),
        kind=type(layer).__name__,
        out_shape=out_shape(node),
        params=sum(parameter.numel() for parameter in layer.parameters()),
        binary_params=layer.weight.numel() if isinstance(layer, BinaryConv2d | BinaryLinear) else 0,
        folded_bits=folded_bits(node, graph),
        macs=macs,
        binary=isinstance(layer, BinaryConv2d | BinaryLinear),
        activation_bits=sum(_bits(end, graph) for end in (*node.all_input_nodes, node)) if macs else 0,
    )


def _macs(layer: nn.Module, out: tuple[int, ...]) -> int:
    match layer:
        case BinaryConv2d():
            return math.prod(out) * layer.in_channels * layer.kernel_size**2
        case nn.Conv2d():
            return math.prod(out) * layer.in_channels // layer.groups * math.prod(layer.kernel_size)
        case BinaryLinear() | nn.Linear():
            return layer.in_features * layer.out_features
        case _:
            return 0


def _bits(node: fx.Node, graph: fx.GraphModule) -> int:
    """Bits of the output of `node`."""
    source = _owner(node, graph)
    binary = isinstance(layer_of(source, graph), Sign | RSign)
    return math.prod(out_shape(node)) * (1 if binary else REAL_BITS)


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
