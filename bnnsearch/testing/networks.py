"""Contracts of networks, of activations and of cost models."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from bnnsearch.config.activation import ActivationSettings
from bnnsearch.config.cost import CostSettings
from bnnsearch.config.metrics import METRICS
from bnnsearch.config.model import BinarySettings, CnnConfig
from bnnsearch.core.cost import ModelCost, model_cost
from bnnsearch.core.layers import RSign, Sign, binary_layers
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.graph import trace_layers
from bnnsearch.core.models.real import real_twin
from bnnsearch.errors import InputError
from bnnsearch.evolve.layout import Layout, network_cost
from bnnsearch.packed.model import PackedModel
from bnnsearch.testing.rules import Rules

IMAGES = 8


def check_model(
    settings: BinarySettings, *, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, packs: bool = True
) -> None:
    """A network learns in every part, shows signs alone to its binary layers, has a cost, and packs to the same labels.

    Args:
        settings: its settings.
        shape: of the images that it is built for, (C, H, W).
        classes: how many.
        packs: whether it must have a packed form.

    Raises:
        AssertionError: a rule is broken.
    """
    _check_network(Rules.of("model", settings, BinarySettings), settings, shape, classes, packs=packs)


def check_cost(settings: CostSettings) -> None:
    """A cost is a finite number that is not negative, the same every time, and grows with the network.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("cost model", settings, CostSettings)
    rules.hold(settings.name in METRICS, f"{settings.name} must be in the table of metrics")

    def cost_of(network: ModelCost) -> float:
        with rules.doing("cost"):
            value = settings.cost(network)
        fits = isinstance(value, float | int) and 0 <= value < math.inf
        rules.hold(fits, "it must be a finite number that is not negative", value)
        again = settings.cost(network)
        rules.hold(again == value, "it must depend on the network alone", [value, again])
        return float(value)

    shape = (1, 16, 16)
    narrow, wide = (
        cost_of(model_cost(build_model(CnnConfig(channels=channels, pool_after=(1,)), shape=shape, classes=4), shape))
        for channels in ((4, 8), (8, 16))
    )
    rules.hold(narrow <= wide, "twice the channels must not cost less", [narrow, wide])
    cost_of(network_cost(Layout((256, 32, 16))))  # of bits alone: nothing in it is real


def _check_network(
    rules: Rules, settings: BinarySettings, shape: tuple[int, int, int], classes: int, *, packs: bool
) -> None:
    def built() -> nn.Module:
        torch.manual_seed(0)
        with rules.doing("build"):
            return build_model(settings, shape=shape, classes=classes)

    network, twin = built(), built()
    same = all(torch.equal(one, other) for one, other in zip(network.parameters(), twin.parameters(), strict=True))
    rules.hold(same, "the seed must decide the weights it begins with")
    layers = binary_layers(network)
    rules.hold(len(layers) > 0, "some layer must be a BinaryConv2d or BinaryLinear")

    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(1))
    with rules.doing("forward"):
        logits = network.train()(images)
    rules.hold(logits.shape == (IMAGES, classes), f"logits must be ({IMAGES}, {classes})", tuple(logits.shape))
    rules.hold(bool(logits.isfinite().all()), "logits must be finite")
    loss = nn.functional.cross_entropy(logits, torch.arange(IMAGES) % classes)
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in network.named_parameters():
        learns = parameter.grad is not None and bool(parameter.grad.isfinite().all())
        rules.hold(learns, f"{name} must get a finite gradient")
    for name, layer in layers.items():
        assert layer.weight.grad is not None
        rules.hold(bool(layer.weight.grad.any()), f"{name}.weight must get a gradient that is not 0 all over")

    seen: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    with torch.no_grad():
        whole = network.eval()(images)
        rules.hold(seen.keys() == layers.keys(), "every binary layer must be used", sorted(layers.keys() - seen.keys()))
        one = network(images[:1])
    unsigned = [name for name, inputs in seen.items() if not bool((inputs.abs() == 1).all())]
    rules.hold(not unsigned, "binary layers must be given +-1 alone", f"other numbers at {unsigned[:1]}")
    apart = torch.allclose(one[0], whole[0], rtol=1e-3, atol=1e-3)
    rules.hold(apart, "an image must get its logits whatever is beside it in the batch")

    network = twin
    with rules.doing("tracing"), torch.no_grad():
        network.train()(images)  # statistics for the norms
        graph = trace_layers(network.eval())
        rules.hold(torch.equal(graph(images), network(images)), "the graph of its layers must compute the same")
    with rules.doing("its cost"):
        cost = model_cost(network, shape).metrics()
    rules.hold(all(value > 0 for value in cost.values()), "every cost must be above 0", cost)
    with rules.doing("its real twin"):
        twin = real_twin(network)
        rules.hold(not binary_layers(twin), "its real twin must have no binary layer")
        for name, layer in binary_layers(network).items():
            found = tuple(twin.state_dict()[f"{name}.weight"].shape)
            rules.hold(found == layer.weight.shape, f"its real twin must have the weights of {name}", found)
        twin.train()(images).sum().backward()
        learns = all(each.grad is not None and bool(each.grad.isfinite().all()) for each in twin.parameters())
        rules.hold(learns, "every parameter of its real twin must get a finite gradient")
    if packs:
        _check_packed(rules, network, shape)


def _check_packed(rules: Rules, network: nn.Module, shape: tuple[int, int, int]) -> None:
    pixels = torch.randint(256, (16, *shape), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    mean, std = [0.5] * shape[0], [0.25] * shape[0]
    with torch.no_grad():
        expected = network.eval()((pixels.float() / 255 - 0.5) / 0.25).numpy()
    try:
        packed = PackedModel.from_module(network, shape=shape, mean=mean, std=std)
    except InputError as error:
        rules.hold(False, f"it must pack, or the check be told that it need not, but {error}")
    found = packed.logits(pixels.numpy())
    close = bool(np.allclose(found, expected, rtol=1e-3, atol=1e-3))
    rules.hold(close, "packed logits must be torch's", float(np.abs(found - expected).max()))


def check_activation(settings: ActivationSettings, *, packs: bool = True) -> None:
    """An activation keeps shapes, lets gradients through, and is followed by a sign, in networks that can be packed.

    Args:
        settings: its settings.
        packs: whether networks that have it must have a packed form.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("activation", settings, ActivationSettings)
    network = CnnConfig(channels=(4, 8, 8), pool_after=(1,), activation=settings)
    for shape in ((5, 6), (5, 6, 4, 3)):
        with rules.doing("build"):
            activation, sign = settings.build(network, 6), settings.build_sign(network, 6)
        rules.hold(isinstance(sign, Sign | RSign), "its sign must be one of bnnsearch.core.layers", type(sign))
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
        with rules.doing("forward"):
            y = activation(x)
        rules.hold(y.shape == x.shape, f"outputs must have the shape of the inputs, {shape}", tuple(y.shape))
        rules.hold(bool(y.isfinite().all()), "outputs must be finite")
        y.sum().backward()
        learns = x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.any())
        rules.hold(learns, "a finite gradient that is not 0 all over must reach the inputs")
        rules.hold(bool((sign(y).abs() == 1).all()), "its sign must give +-1")
    _check_network(rules, network, (1, 8, 8), 10, packs=packs)
