"""From any torch network to a binary one, by rule: what a trial with `model: {name: torch}` trains.

The network is traced by torch.fx, so that its layers and the functions between them are known; then

- convolutions and linear layers become `sign` and a binary layer, which starts from their weights. Those stay real that
  `keep_real` names, and those that have no binary form: steps that are not square, dilation, padding other than with
  zeros, linear layers of anything but vectors, the layers of gates (before a sigmoid, as in squeeze-and-excitation);
- where such a layer has a bias, a batch norm takes its place, as sums of n signs are as large as n; unless one follows,
  which has a bias of its own;
- convolutions with groups become binary ones over all channels (ReActNet, Liu et al., 2020), or stay real;
- activations between the first and the last layer become the one of the settings: behind ReLU every sign is +1. PReLU,
  LeakyReLU, hardtanh and tanh, whose outputs have both signs, stay, and gates have ReLU;
- sums of real layers are taken in float64 in evaluation (see `bnnsearch.core.wide`), so that a packed network takes the
  same signs.

All else stays as it is. What the functions between layers do is written as modules, as far as there are some: pooling,
dropout, flattening, the mean over an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import fx, nn

from bnnsearch.config.torch_model import TorchConfig
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, Sides
from bnnsearch.core.models.blocks import make_activation, make_sign, named
from bnnsearch.core.models.functional import ACTIVATIONS, SIGMOIDS, shape_of
from bnnsearch.core.wide import WideConv2d, WideLinear
from bnnsearch.errors import InputError

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def make_binary(network: fx.GraphModule, config: TorchConfig) -> fx.GraphModule:
    """The network, changed in place: binary layers, their signs and activations in the place of real ones.

    Args:
        network: of modules, see `bnnsearch.core.models.functional`, its nodes with shapes.
        config: which layers stay real, and what the signs and activations are.

    Raises:
        InputError: `keep_real` names no layer.
    """
    layers = {str(node.target): node for node in network.graph.nodes if type(_module(network, node)) in _LAYERS}
    if not layers:
        return network
    gates = set(_gates(network))
    kept = _kept_real(list(layers), config.keep_real)
    binary = {
        name
        for name, node in layers.items()
        if name not in kept and node not in gates and _has_form(network, node, config)
    }
    if not binary and kept != layers.keys():
        raise InputError(f"{config.place}: none of the layers {_listed(list(layers))} has a binary form")
    if binary:
        _activate(network, config, gates, last=list(layers.values())[-1])
    for name, node in layers.items():
        layer = _module(network, node)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        if name in binary:
            _put(network, node, _binary(layer, config, normed=_is_normed(network, node)))
        else:
            _widen(layer)
    network.recompile()
    return network


def _activate(network: fx.GraphModule, config: TorchConfig, gates: set[fx.Node], *, last: fx.Node) -> None:
    """Put the activation of the settings in the place of those before the last layer, ReLU in that of gates'."""
    behind = _reached(last)
    for node in list(network.graph.nodes):
        if not isinstance(_module(network, node), ACTIVATIONS) or node in behind:
            continue
        if node in gates:
            _put(network, node, nn.ReLU())
        elif len(shape := shape_of(node)) in (2, 4):
            _put(network, node, make_activation(config, shape[1]))


def _module(network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def _put(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    place, _, name = str(node.target).rpartition(".")
    setattr(network.get_submodule(place), name, module)


def _kept_real(names: list[str], patterns: tuple[str, ...]) -> set[str]:
    words = {"first": names[0], "last": names[-1]}
    kept: set[str] = set()
    for pattern in patterns:
        found = {words[pattern]} if pattern in words else {name for name in names if fnmatchcase(name, pattern)}
        if not found:
            raise InputError(f"model.keep_real: {pattern!r} matches none of the layers {_listed(names)}")
        kept |= found
    return kept


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def _gates(network: fx.GraphModule) -> Iterator[fx.Node]:
    """The layers and activations that do nothing but lead to a sigmoid."""
    for node in network.graph.nodes:
        if not isinstance(_module(network, node), SIGMOIDS):
            continue
        source = node.all_input_nodes[0]
        kinds = (*_LAYERS, *ACTIVATIONS, *_NORMS, nn.Dropout, nn.Flatten)
        while isinstance(_module(network, source), kinds) and len(source.users) == 1:
            yield source
            source = source.all_input_nodes[0]


def _reached(node: fx.Node) -> set[fx.Node]:
    """The nodes that depend on `node`."""
    reached: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in reached:
                reached.add(user)
                waiting.append(user)
    return reached


def _is_normed(network: fx.GraphModule, node: fx.Node) -> bool:
    return bool(node.users) and all(isinstance(_module(network, user), _NORMS) for user in node.users)


def _has_form(network: fx.GraphModule, node: fx.Node, config: TorchConfig) -> bool:
    """Whether a layer can be a binary one."""
    layer = _module(network, node)
    if not isinstance(layer, nn.Conv2d):
        return len(shape_of(node)) == 2
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        return False
    return layer.stride[0] == layer.stride[1] and (layer.groups == 1 or config.grouped == "dense")


def _binary(layer: nn.Conv2d | nn.Linear, config: TorchConfig, *, normed: bool) -> nn.Sequential:
    """Sign and the binary layer, with a norm where the real one had a bias and none follows."""
    scale, gradient = config.scale, config.alpha_gradient
    binary: BinaryConv2d | BinaryLinear
    if isinstance(layer, nn.Linear):
        channels, out = layer.in_features, layer.out_features
        binary = BinaryLinear(channels, out, scale=scale, alpha_gradient=gradient)
    else:
        channels, out = layer.in_channels, layer.out_channels
        kernel, stride, padding = _sides(layer.kernel_size), layer.stride[0], _sides(layer.padding)
        binary = BinaryConv2d(channels, out, kernel, stride, padding, scale=scale, alpha_gradient=gradient)
    with torch.no_grad():
        if binary.weight.shape == layer.weight.shape:  # with groups, weights are drawn anew
            binary.weight.copy_(layer.weight)
    name, norm = ("linear", nn.BatchNorm1d) if isinstance(layer, nn.Linear) else ("conv", nn.BatchNorm2d)
    parts: dict[str, nn.Module] = {"sign": make_sign(config, channels), name: binary}
    return named(parts if normed or layer.bias is None else parts | {"norm": norm(out)})


def _sides(pair: Sequence[int | str]) -> Sides:
    high, wide = map(int, pair)
    return high if high == wide else (high, wide)


def _widen(layer: nn.Conv2d | nn.Linear) -> None:
    """Make it one whose sums in evaluation do not depend on their order."""
    if isinstance(layer, nn.Linear):
        layer.__class__ = WideLinear
    elif layer.padding_mode == "zeros":
        layer.__class__ = WideConv2d
