"""Costs: the references' counts, one network by hand, and the formulas of training."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnnsearch.config.cost import AceConfig, EnergyConfig
from bnnsearch.config.model import (
    Bireal18Config,
    BrnConfig,
    CnnConfig,
    EdgeWeights,
    MlpConfig,
    ModelConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.config.precision import PrecisionConfig
from bnnsearch.core import convolution
from bnnsearch.core.cost import model_cost
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, Scale, Sign, binary_layers
from bnnsearch.core.methods.base import Seen
from bnnsearch.core.models.blocks import InputScaled, named
from bnnsearch.core.models.build import build_model
from bnnsearch.core.precision import CyclicPrecision
from bnnsearch.core.training_cost import (
    UNIT,
    StepBits,
    TrainingCost,
    forward_products,
    mac_products,
    step_products,
    thesis_share,
)
from bnnsearch.core.wide import MeanMagnitude, WindowMean

CIFAR, IMAGENET = (3, 32, 32), (3, 224, 224)
# model, shape, classes; params, binary weights, M BOPs, M FLOPs, M OPs, MiB: computed from the reference models
REFERENCE = {
    "ReCU R18": (Resnet18Config(), CIFAR, 10, 11_005_002, 10_985_472, "547.357", "1.775", "10.327", "1.384"),
    "ReCU R18, 100": (Resnet18Config(), CIFAR, 100, 11_051_172, 10_985_472, "547.357", "1.821", "10.373", "1.560"),
    "ReCU R20": (Resnet20Config(), CIFAR, 10, 270_522, 267_264, "40.108", "0.443", "1.070", "0.0443"),
    "VGG-small": (VggSmallConfig(), CIFAR, 10, 4_661_770, 4_571_136, "603.980", "3.621", "13.058", "0.891"),
    "brn": (BrnConfig(), CIFAR, 10, 275_786, 267_264, "10.027", "0.509", "0.665", "0.0644"),
    "Bi-Real-18": (Bireal18Config(), IMAGENET, 1000, 11_689_512, 10_985_472, "1676.28", "137.79", "163.99", "3.995"),
    "Real-to-Binary": (
        Realtobinary18Config(), IMAGENET, 1000, 11_986_920, 10_985_472, "1676.28", "138.09", "164.28", "5.130"
    ),  # the parameters are the published 11,995,624 of larq zoo less 8,704 running statistics; FLOPs: the gates' too
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
    effort = AceConfig().cost(cost)
    assert effort == 4_816_896_000 + 11_862_016 * 256
    assert like(effort / 1e9, "7.854") == "7.854"


HOROWITZ = EnergyConfig()


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


def test_the_scale_of_activations_is_charged_as_real_operations() -> None:
    """K on 2x4x4 below a 3x3 convolution: 2 products per pixel for the channels' mean, 9 per window; no parameter."""
    layers: dict[str, nn.Module] = {"sign": Sign(), "conv": BinaryConv2d(2, 3, 3, padding=1)}
    scaled = named({
        "norm": nn.BatchNorm2d(2), "scaled": InputScaled(layers, nn.Sequential(MeanMagnitude(2), WindowMean(3, 1, 1)))
    })  # fmt: skip
    cost = model_cost(scaled, (2, 4, 4))
    assert (cost.flops, cost.bops) == (2 * 16 + 9 * 16, 2 * 3 * 9 * 16)
    assert cost.params == 4 + 2 * 3 * 9
    # in training each real product is followed by one for the gradient of its inputs, and none of weights
    binary = 1 + 32 + 32  # signs times signs; the gradient at 32 bits times either
    assert step_products(cost, "signs", StepBits()) == cost.bops * binary + cost.flops * 2 * 32**2


def test_a_shortcut_keeps_its_activations_alive() -> None:
    """ResNet-20 at full width: while a convolution works, what the shortcut carries waits."""
    cost = model_cost(build_model(Resnet20Config(), shape=CIFAR, classes=10), CIFAR)
    assert cost.peak_activation_bytes == 3 * 16 * 32 * 32 * 4  # convolution's output, norm's output, shortcut


def test_energy_adds_arithmetic_and_movement() -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    macs = 54 * 16 * HOROWITZ.binary_mac + (18 * 16 + 240) * HOROWITZ.real_mac
    weights = (54 + 32 * (18 + 2 + 6 + 245)) * HOROWITZ.weight_bit
    # the image read; signs of the stem's norm written and read; the last norm's output written and read; logits written
    moved = 32 * 16 + 2 * 32 + 2 * 32 * 48 + 32 * 5
    assert cost.moved_activation_bits == moved
    assert HOROWITZ.cost(cost) == pytest.approx((macs + weights + moved * HOROWITZ.activation_bit) / 1e6)


class Residual(nn.Module):
    """conv(sign(x)) + x, twice, with real inputs of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.sign1, self.conv1, self.norm1 = Sign(), BinaryConv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.sign2, self.conv2, self.norm2 = Sign(), BinaryConv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.identity, self.pool = nn.Identity(), nn.AvgPool2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.conv1(self.sign1(x))) + x
        out: torch.Tensor = self.pool(self.norm2(self.conv2(self.sign2(y))) + self.identity(y))
        return out


def test_a_shortcut_is_moved_as_well() -> None:
    """2x4x4: the image is read by sign and addition; the first sum is read by the second, and that by the pool."""
    bits = 2 * 16
    image, signs, first, second, pooled = 2 * 32 * bits, 2 * bits, 2 * 32 * bits, 2 * 32 * bits, 32 * bits // 4
    assert model_cost(Residual(), (2, 4, 4)).moved_activation_bits == image + 2 * signs + first + second + pooled


def test_measuring_changes_nothing() -> None:
    model = build_model(MlpConfig(), shape=(1, 8, 8), classes=10).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    model_cost(model, (1, 8, 8))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_cyclic_precision_costs_what_was_computed_for_it() -> None:
    """All operands on the grid, as Fu et al. count: their measure of 3 to 8 bits, gradients at 8 or cycled."""
    steps = 2000
    cycle = [round(3 + 2.5 * (1 + math.cos(math.pi * step / steps + math.pi))) for step in range(steps)]
    static = mac_products(8, 8, 8) / UNIT
    half_cycled = sum(mac_products(bits, bits, 8) for bits in cycle) / steps / UNIT
    assert mac_products(32, 32, 32) == UNIT
    assert static == 0.0625
    assert half_cycled == pytest.approx(0.03958, abs=1e-5)
    assert static / half_cycled == pytest.approx(1.58, abs=0.005)
    cycled = sum(mac_products(bits, bits, bits) for bits in cycle) / steps / UNIT
    assert static / cycled == pytest.approx(1.90, abs=0.005)


def test_the_measure_of_the_thesis() -> None:
    """x4 for 8 bits, x1.3 for a cycle, x2.36 for 254 epochs, not 600; x12.3 for Adam, x5.2 for SGD (table 5.1)."""
    assert 1 / thesis_share(8, cyclic=False) == 4
    assert thesis_share(8, cyclic=False) / thesis_share(8, cyclic=True) == pytest.approx(1.3)
    assert like(600 / 254, "2.36") == "2.36"
    assert like(1 / thesis_share(8, cyclic=True), "5.2") == "5.2"
    precision = CyclicPrecision(PrecisionConfig(bits=(3, 8)))
    cost = model_cost(tiny(), (1, 4, 4))
    plain = TrainingCost(cost, images=1, steps=600, real=32).of("signs", range(600))
    adam = TrainingCost(cost, images=1, steps=254, real=32, precision=precision).of("signs", range(254))
    assert plain["train_cost_thesis"] == 600 * (54 * 16 + 18 * 16 + 240)
    assert like(plain["train_cost_thesis"] / adam["train_cost_thesis"], "12.3") == "12.3"


STEM, CONV, CLASSIFIER = 18 * 16, 54 * 16, 240


@pytest.mark.parametrize(
    ("seen", "conv"),
    [
        # forward, gradient of the inputs, gradient of the weights; the learned scale needs the last one even of signs
        ("signs", 1 * 1 + 6 * 1 + 6 * 1),
        ("frozen", 1 * 1 + 6 * 1 + 6 * 1),
        ("relaxed", 5 * 1 + 6 * 5 + 6 * 1),
        ("mapped", 32 * 1 + 6 * 32 + 6 * 1),
    ],
)
def test_a_step_is_charged_by_its_operands(seen: Seen, conv: int) -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    stem = 32 * 32 + 32 * 32  # nothing is before it that a gradient of its inputs would be for
    products = STEM * stem + CONV * conv + CLASSIFIER * 3 * 32 * 32
    assert step_products(cost, seen, StepBits(weights=5, gradients=6)) == products


def test_frozen_weights_without_scale_need_no_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), Sign(), BinaryLinear(16, 8), Sign(), BinaryLinear(8, 4), nn.BatchNorm1d(4))
    cost, bits = model_cost(model, (1, 4, 4)), StepBits(gradients=6)
    # frozen, nothing before the norm is trained; else the first layer has no inputs to hand a gradient to
    assert step_products(cost, "frozen", bits) == 16 * 8 + 8 * 4
    trained = 16 * 8 * (1 + 6) + 8 * 4 * (1 + 6 + 6)
    assert step_products(cost, "signs", bits) == trained


def test_a_forward_pass_is_charged_as_what_it_is() -> None:
    cost = model_cost(tiny(), (1, 4, 4))
    assert forward_products(cost, 16) == 16 * 16 * (STEM + CLASSIFIER) + CONV


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("scale", "alpha"),
    [("none", "detached"), ("learned", "detached"), ("xnor", "detached"), ("xnor", "scaled"), ("xnor", "xnor")],
)
@pytest.mark.parametrize("config", [BrnConfig, MlpConfig, XnornetConfig])
def test_the_products_are_those_that_autograd_computes(
    config: type, scale: Scale, alpha: str, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer's backward pass, as torch has it: which of the two gradients its operation asks for."""
    monkeypatch.setattr(convolution, "_PAYS", frozenset())  # only torch's own operations are counted
    shape = (1, 28, 28)
    extra = {"stem": "small", "width": 0.05} if config is XnornetConfig else {}
    model = build_model(config(scale=scale, alpha_gradient=alpha, **extra), shape=shape, classes=10).train()
    cost = model_cost(model, shape)
    if frozen:
        for layer in binary_layers(model).values():
            layer.view = torch.Tensor.detach
    loss = model(torch.randn(2, *shape)).square().sum()
    with _Products() as counted:
        loss.backward()
    charged = sum(
        (layer.follows_real or (layer.follows_binary and not frozen))
        + (layer.learns_frozen or not (frozen and layer.binary))
        for layer in cost.layers
        if layer.macs
    )
    assert counted.count == charged


class _Products(TorchDispatchMode):
    """Counts the products of a backward pass: of convolutions by their masks, of matrices one by one."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        match func.overloadpacket.__name__:
            case "convolution_backward":
                self.count += sum(args[-1][:2])
            case "mm":
                self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [Resnet20Config(width=0.5), BrnConfig(block="pre")], ids=["width", "block"])
def test_metrics_are_finite_and_complete(config: ModelConfig) -> None:
    metrics = model_cost(build_model(config, shape=(1, 28, 28), classes=10), (1, 28, 28)).metrics()
    assert set(metrics) == {"params", "memory_bytes", "bops", "flops", "ops", "energy"}
    assert all(0 < value < math.inf for value in metrics.values())


def test_whole_numbers_are_charged_by_the_bits_of_their_operands() -> None:
    """Of 1x8x8: int8 pixels and weights to 4 channels, pooled; binary to 2; the means of 2x4x4 signs to 5 classes."""
    config = CnnConfig(channels=(4, 2), pool_after=(1,), first="int8", head="mean", classifier="int8")
    cost = model_cost(build_model(config, shape=(1, 8, 8), classes=5), (1, 8, 8))
    norms, logits = 2 * (4 + 2), 1 + 5
    assert (cost.params, cost.binary_params) == (36 + 72 + 10 + norms + logits, 72)
    assert cost.memory_bytes == math.ceil((72 + 8 * (36 + 10) + 32 * (norms + logits)) / 8)
    assert cost.folded_memory_bytes == math.ceil((72 + 8 * (36 + 10) + 33 * (4 + 2) + 32 * logits) / 8)
    # a sum of 16 signs has 33 values, 6 bits
    assert cost.bops == 64 * (36 * 64) + 72 * 16 + 8 * 6 * 10
    assert cost.flops == 0
    assert cost.macs == 36 * 64 + 72 * 16 + 10


def test_binary_ends_cost_less_than_int8_and_these_less_than_real_ones() -> None:
    kinds: tuple[EdgeWeights, ...] = ("binary", "int8", "real")
    for head in ("flatten", "mean"):
        configs = [CnnConfig(first=kind, head=head, classifier=kind) for kind in kinds]
        costs = [model_cost(build_model(config, shape=(1, 28, 28), classes=10), (1, 28, 28)) for config in configs]
        for cost in (
            [each.memory_bytes for each in costs],
            [each.folded_memory_bytes for each in costs],
            [AceConfig().cost(each) for each in costs],
            [HOROWITZ.cost(each) for each in costs],
        ):
            assert cost == sorted(cost) and len(set(cost)) == len(kinds)
