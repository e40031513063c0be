"""Costs: the references' counts, one network by hand, and the formulas of training."""

import math

import pytest
import torch
from torch import nn

from bnnsearch.config.model import (
    Bireal18Config,
    BrnConfig,
    MlpConfig,
    ModelConfig,
    ReactnetAConfig,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
)
from bnnsearch.core.cost import HOROWITZ_45NM, model_cost
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, Sign
from bnnsearch.core.models.blocks import named
from bnnsearch.core.models.build import build_model
from bnnsearch.core.training_cost import step_share, train_bitops

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)
# model, shape, classes; params, binary weights, M BOPs, M FLOPs, M OPs, MiB: computed from the reference models
REFERENCE = {
    "ReCU R18": (Resnet18Config(), CIFAR, 10, 11_005_002, 10_985_472, "547.357", "1.775", "10.327", "1.384"),
    "ReCU R18, 100": (Resnet18Config(), CIFAR, 100, 11_051_172, 10_985_472, "547.357", "1.821", "10.373", "1.560"),
    "ReCU R20": (Resnet20Config(), CIFAR, 10, 270_522, 267_264, "40.108", "0.443", "1.070", "0.0443"),
    "VGG-small": (VggSmallConfig(), CIFAR, 10, 4_661_770, 4_571_136, "603.980", "3.621", "13.058", "0.891"),
    "brn": (BrnConfig(), CIFAR, 10, 275_786, 267_264, "10.027", "0.509", "0.665", "0.0644"),
    "Bi-Real-18": (Bireal18Config(), IMAGENET, 1000, 11_689_512, 10_985_472, "1676.28", "137.79", "163.99", "3.995"),
    "ReActNet-A": (ReactnetAConfig(), IMAGENET, 1000, 29_343_592, 28_253_184, "4816.90", "11.86", "87.13", "7.528"),
}  # fmt: skip


def like(value: float, published: str) -> str:
    """`value` with as many decimals as `published`."""
    return f"{value:.{len(published.partition('.')[2])}f}"


@pytest.mark.parametrize("name", REFERENCE)
def test_costs_are_the_reference_counts(name: str) -> None:
    config, shape, classes, params, binary, bops, flops, ops, size = REFERENCE[name]
    cost = model_cost(build_model(config, shape=shape, classes=classes), shape)
    assert (cost.params, cost.binary_params) == (params, binary)
    assert like(cost.bops / 1e6, bops) == bops
    assert like(cost.flops / 1e6, flops) == flops
    assert like(cost.ops / 1e6, ops) == ops
    assert like(cost.memory_bytes / 2**20, size) == size


def test_effort_of_reactnet_is_the_published_one() -> None:
    cost = model_cost(build_model(ReactnetAConfig(), shape=IMAGENET, classes=1000), IMAGENET)
    assert cost.ace == 4_816_896_000 + 11_862_016 * 256
    assert like(cost.ace / 1e9, "7.854") == "7.854"


def tiny() -> nn.Sequential:
    """For 1x4x4: real stem to 2 channels, norm, sign, binary convolution to 3, learned scale, norm, classifier."""
    return named({
        "stem": nn.Conv2d(1, 2, 3, padding=1, bias=False),
        "norm1": nn.BatchNorm2d(2),
        "sign": Sign(),
        "conv": BinaryConv2d(2, 3, 3, padding=1, scale="learned"),
        "norm2": nn.BatchNorm2d(3),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(48, 5),
    })  # fmt: skip


def test_costs_of_a_network_counted_by_hand() -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    assert cost.binary_params == 2 * 3 * 9
    assert cost.params == 18 + 4 + (54 + 3) + 6 + (240 + 5)
    assert cost.memory_bytes == math.ceil((54 + 32 * (18 + 4 + 3 + 6 + 245)) / 8)
    assert cost.bops == 54 * 16
    assert cost.flops == 18 * 16 + 240
    assert cost.ops == 54 * 16 / 64 + 18 * 16 + 240
    # norm1 follows a real layer: 2 biases; the scale goes into norm2, of which scale and bias remain
    assert cost.folded_memory_bytes == math.ceil((54 + 32 * (18 + 2 + 6 + 245)) / 8)
    # most is alive when norm2 reads 3x4x4 and writes 3x4x4; the stem's outputs are smaller
    assert cost.peak_activation_bytes == 2 * 3 * 16 * 4


def test_a_norm_before_sign_is_a_threshold_and_a_side() -> None:
    model = named({
        "sign1": Sign(), "linear1": BinaryLinear(64, 32), "norm": nn.BatchNorm1d(32),
        "sign2": Sign(), "linear2": BinaryLinear(32, 10),
    })  # fmt: skip
    network = nn.Sequential(nn.Flatten(), model)
    folded = {layer.name.removeprefix("1."): layer.folded_bits for layer in model_cost(network, (1, 8, 8)).layers}
    assert folded["norm"] == 33 * 32
    assert folded["linear1"] == 64 * 32


def test_a_shortcut_keeps_its_activations_alive() -> None:
    """ResNet-20 at full width: while a convolution works, what the shortcut carries waits."""
    cost = model_cost(build_model(Resnet20Config(), shape=CIFAR, classes=10), CIFAR)
    assert cost.peak_activation_bytes == 3 * 16 * 32 * 32 * 4  # convolution's output, norm's output, shortcut


def test_energy_adds_arithmetic_and_movement() -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    macs = 54 * 16 * HOROWITZ_45NM.binary_mac + (18 * 16 + 240) * HOROWITZ_45NM.real_mac
    weights = (54 + 32 * (18 + 2 + 6 + 245)) * HOROWITZ_45NM.weight_bit
    moved = (32 * 16 + 32 * 32) + (32 + 32 * 48) + (32 * 48 + 32 * 5)  # per layer: inputs and outputs; signs have 1 bit
    assert cost.energy() == pytest.approx((macs + weights + moved * HOROWITZ_45NM.activation_bit) / 1e6)


def test_measuring_changes_nothing() -> None:
    model = build_model(MlpConfig(), shape=(1, 8, 8), classes=10).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    model_cost(model, (1, 8, 8))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_cyclic_precision_costs_what_was_computed_for_it() -> None:
    steps = 2000
    cycle = [round(3 + 2.5 * (1 + math.cos(math.pi * step / steps + math.pi))) for step in range(steps)]
    shares = [step_share(bits, 8) for bits in cycle]
    assert sum(shares) / steps == pytest.approx(0.03958, abs=1e-5)
    assert step_share(8, 8) == 0.0625
    assert step_share(8, 8) / (sum(shares) / steps) == pytest.approx(1.58, abs=0.005)
    cycled = sum(step_share(bits, bits) for bits in cycle) / steps
    assert step_share(8, 8) / cycled == pytest.approx(1.90, abs=0.005)


def test_the_two_measures_of_8_bit_training() -> None:
    assert step_share(32, 32) == step_share(32, 32, "thesis") == 1
    assert 1 / step_share(8, 8) == 16
    assert 1 / step_share(8, 8, "thesis") == 4


def test_training_cost_scales_with_images_and_macs() -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    macs = 54 * 16 + 18 * 16 + 240
    assert train_bitops(cost, images=1000) == 1000 * macs
    assert train_bitops(cost, images=1000, bits=[(8, 8), (16, 16)]) == 1000 * macs * (0.0625 + 0.25) / 2


@pytest.mark.parametrize("config", [Resnet20Config(width=0.5), BrnConfig(block="pre")], ids=["width", "block"])
def test_metrics_are_finite_and_complete(config: ModelConfig) -> None:
    metrics = model_cost(build_model(config, shape=(1, 28, 28), classes=10), (1, 28, 28)).metrics()
    assert set(metrics) == {"params", "memory_bytes", "bops", "flops", "ops", "energy"}
    assert all(0 < value < math.inf for value in metrics.values())
