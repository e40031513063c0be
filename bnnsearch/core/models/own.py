"""A network of one's own: made by a factory, checked by a forward pass, made binary by `converter`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import UnionType
from typing import Any

import torch
from torch import fx, nn

from bnnsearch.config.guests import factory, factory_module, own_line
from bnnsearch.config.torch_model import TorchConfig
from bnnsearch.core.models.converter import make_binary
from bnnsearch.core.models.functional import shape_of, trace, write_as_modules
from bnnsearch.errors import InputError


def build_torch(config: TorchConfig, shape: tuple[int, int, int], classes: int) -> fx.GraphModule:
    """The network for images of `shape` (C, H, W): logits (N, classes).

    Raises:
        InputError: the factory is not there, raises, or makes no network, or none for these images and classes; or it
            cannot be traced by torch.fx.
    """
    place = config.place
    try:
        make = factory(config.factory)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    network = _called(config, lambda: make(**config.called_with(_accepted(make), shape, classes)), "raised")
    if not isinstance(network, nn.Module):
        raise InputError(f"{place}: must return an nn.Module, but returned {type(network).__name__}")
    graph = _called(config, lambda: trace(network), "cannot be traced by torch.fx")
    _take_grey(graph, shape[0])
    with torch.no_grad():
        graph.eval()
        logits = _called(config, lambda: graph(torch.zeros(2, *shape)), f"does not take images of {shape}")
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if found != (2, classes):
            raise InputError(
                f"{place}: must give logits (N, {classes}) for images (N, {', '.join(map(str, shape))}), but gave "
                f"{found if isinstance(found, str) else ('N', *found[1:])}"
            )
        write_as_modules(graph, shape)
        _take_small(graph)
    return make_binary(graph.train(), config)


def _accepted(make: Callable[..., Any]) -> set[str]:
    """Names of arguments that a factory takes; one that takes any is one of torchvision's and timm's kind."""
    if isinstance(make, type) and make.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return set()
    parameters = inspect.signature(make).parameters.values()
    any_name = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    return {each.name for each in parameters} | ({"num_classes"} if any_name else set())


def _called(config: TorchConfig, call: Callable[[], Any], failed: str) -> Any:
    """What the user's code gives.

    Raises:
        InputError: it raises; with the last line of its own.
    """
    try:
        return call()
    except InputError as error:
        raise InputError(f"{config.place}: its network {error}") from error
    except Exception as error:  # a stranger's code may raise whatever it likes
        said = own_line(error, factory_module(config.factory)).splitlines()[0]
        raise InputError(f"{config.place}: {failed}: {said}") from error


def _take_grey(graph: fx.GraphModule, channels: int) -> None:
    """Let a network of colour images take grey ones: as if these had three equal channels, filters are summed."""
    image = next(node for node in graph.graph.nodes if node.op == "placeholder")
    for node in image.users:
        layer = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if channels == 1 and type(layer) is nn.Conv2d and (layer.in_channels, layer.groups) == (3, 1):
            layer.in_channels = 1
            layer.weight = nn.Parameter(layer.weight.detach().sum(1, keepdim=True))


def _take_small(graph: fx.GraphModule) -> None:
    """Take out adaptive pools that would only enlarge maps before a linear layer, whose weights are summed instead.

    Such as VGG's to 7x7, where the image is so small that its map has one pixel: the outputs are the same.
    """
    for node in graph.graph.nodes:
        after = next(iter(node.users), None)
        while after is not None and _calls(graph, after, nn.Flatten | nn.Dropout) and len(after.users) == 1:
            after = next(iter(after.users))
        if not _calls(graph, node, nn.AdaptiveAvgPool2d) or len(node.users) != 1 or after is None:
            continue
        small, (channels, *sides) = shape_of(node.all_input_nodes[0])[1:], shape_of(node)[1:]
        layer = graph.get_submodule(str(after.target)) if _calls(graph, after, nn.Linear) else None
        if isinstance(layer, nn.Linear) and math.prod(sides) > math.prod(small[1:]):
            pixels = torch.eye(math.prod(small[1:])).view(-1, 1, *small[1:])
            copies = nn.functional.adaptive_avg_pool2d(pixels, (sides[0], sides[1])).flatten(1)
            weight = layer.weight.detach().view(layer.out_features, channels, -1) @ copies.T
            layer.weight, layer.in_features = nn.Parameter(weight.flatten(1)), math.prod(small)
            graph.set_submodule(str(node.target), nn.Identity())


def _calls(graph: fx.GraphModule, node: fx.Node, kind: type[nn.Module] | UnionType) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), kind)
