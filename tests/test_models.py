"""The networks: every one runs, learns and traces; binary layers see only +-1; the settings do what they say."""

import re

import pytest
import torch
from torch import nn

from bnnsearch.config.activation import PreluConfig, RpreluConfig
from bnnsearch.config.model import (
    BinarySettings,
    Bireal18Config,
    BrnConfig,
    Cnn1dConfig,
    CnnConfig,
    MlpConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.core.distill import unit_names
from bnnsearch.core.layers import RSign, binary_layers
from bnnsearch.core.models.blocks import GatedUnit, PadChannels, PreUnit, RepeatChannels, UnitShape, make_shortcut
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import real_twin
from bnnsearch.core.wide import MeanMagnitude, WindowMean
from bnnsearch.testing import check_model

SMALL, LARGE = (3, 32, 32), (3, 64, 64)
# every family and every choice inside it, narrow enough for a test
NETWORKS: dict[str, tuple[BinarySettings, tuple[int, int, int]]] = {
    "mlp": (MlpConfig(hidden=(32, 16)), (1, 8, 8)),
    "mlp, real inputs": (MlpConfig(hidden=(32, 16), inputs="real", activation=RpreluConfig()), (1, 8, 8)),
    "cnn": (CnnConfig(channels=(8, 8, 16), pool_after=(1, 2), shift=0.1), (1, 28, 28)),
    "cnn1d": (Cnn1dConfig(channels=(8, 8, 16), pool_after=(1, 3), kernel=5, pool=2, scale="learned"), (2, 1, 40)),
    "vgg_small": (VggSmallConfig(width=0.0625), SMALL),
    "xnornet": (XnornetConfig(width=0.03125), (3, 128, 128)),
    "xnornet, small": (XnornetConfig(width=0.03125, stem="small"), SMALL),
    "xnornet, K": (XnornetConfig(width=0.03125, stem="small", activation_scale=True, alpha_gradient="xnor"), SMALL),
    "resnet20": (Resnet20Config(width=0.5), SMALL),
    "resnet20, pre": (Resnet20Config(width=0.5, block="pre", shortcut="conv"), SMALL),
    "resnet20, 28 pixels": (Resnet20Config(width=0.5, shortcut="repeat", activation=PreluConfig()), (1, 28, 28)),
    "resnet20, 5x5": (Resnet20Config(width=0.5, kernel=5, standardise=True, shift=-0.2), SMALL),
    "resnet18": (Resnet18Config(width=0.0625), SMALL),
    "resnet18, imagenet": (Resnet18Config(width=0.0625, stem="imagenet", block="pre", shift=0.2), LARGE),
    "resnet18, pairs": (Resnet18Config(width=0.0625, depths=(1, 2, 3, 2), block="gated", stem_activation=True), SMALL),
    "brn": (BrnConfig(width=0.5), SMALL),
    "bireal18": (Bireal18Config(width=0.0625), LARGE),
    "realtobinary18": (Realtobinary18Config(width=0.125), LARGE),
    "reactnet_a": (ReactnetAConfig(width=0.0625), LARGE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_keeps_what_guests_are_held_to(name: str) -> None:
    config, shape = NETWORKS[name]
    check_model(config, shape=shape, packs=False)  # tests/test_packed.py packs them


def test_only_stem_classifier_and_shortcuts_stay_real() -> None:
    model = build_model(BrnConfig(), shape=SMALL, classes=10)
    real = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert real == {"stem.conv", "stage2.0.shortcut.conv", "stage3.0.shortcut.conv", "head.classifier"}
    expected = {f"stage{stage}.{place}.conv" for stage in (1, 2, 3) for place in range(6)}
    assert binary_layers(model).keys() == expected


def test_chosen_layers_stay_real() -> None:
    model = build_model(Resnet20Config(float_layers=("stage1.*", "stage3.5.conv")), shape=SMALL, classes=10)
    assert binary_layers(model).keys() == {
        *(f"stage2.{place}.conv" for place in range(6)),
        *(f"stage3.{place}.conv" for place in range(5)),
    }
    assert isinstance(model.get_submodule("stage1.3.conv"), nn.Conv2d)
    assert isinstance(model.get_submodule("stage1.3.sign"), nn.Identity)


def test_where_a_layer_stays_real_its_inputs_have_no_scale() -> None:
    config = XnornetConfig(width=0.03125, stem="small", activation_scale=True)
    model = build_model(config, shape=SMALL, classes=10)
    assert sum(isinstance(module, MeanMagnitude) for module in model.modules()) == len(binary_layers(model)) == 6
    assert sum(isinstance(module, WindowMean) for module in model.modules()) == 4  # of convolutions
    assert not any(isinstance(module, MeanMagnitude) for module in real_twin(model).modules())
    partly = build_model(config.model_copy(update={"float_layers": ("layer3.*",)}), shape=SMALL, classes=10)
    assert sum(isinstance(module, MeanMagnitude) for module in partly.modules()) == 5


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=re.escape("float_layers: 'stage9.*' matches none of the binary layers stage1.0")
    ):
        build_model(Resnet20Config(float_layers=("stage9.*",)), shape=SMALL, classes=10)


def test_too_many_poolings_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"pool_after .* has too many for 8x8 pixels"):
        build_model(CnnConfig(channels=(8, 8, 8, 8), pool_after=(1, 2, 3, 4)), shape=(1, 8, 8), classes=10)
    with pytest.raises(ValueError, match=r"cnn1d needs signals, of height 1, but got images of 8x8 pixels"):
        build_model(Cnn1dConfig(), shape=(1, 8, 8), classes=10)
    with pytest.raises(ValueError, match="larger images than 32x32"):
        build_model(XnornetConfig(), shape=SMALL, classes=10)


def test_a_network_without_binary_layers_is_an_error() -> None:
    with pytest.raises(ValueError, match="hidden needs at least 2 entries"):
        MlpConfig(hidden=(32,), inputs="real")


def test_pools_follow_convolutions_that_are_there() -> None:
    with pytest.raises(ValueError, match=re.escape("of which there are 3, but got (1, 6)")):
        CnnConfig(pool_after=(1, 6))


def test_depths_and_channels_name_the_same_stages() -> None:
    with pytest.raises(ValueError, match="one entry per stage each, but got 3 and 4"):
        Resnet18Config(depths=(4, 4, 4))


@pytest.mark.parametrize(("block", "unit"), [("pre", PreUnit), ("gated", GatedUnit)])
def test_the_kind_of_block_is_a_choice(block: str, unit: type[nn.Module]) -> None:
    config = Resnet20Config.model_validate({"block": block, "width": 0.5})
    model = build_model(config, shape=SMALL, classes=10)
    assert sum(isinstance(module, unit) for module in model.modules()) == 18


def test_depth_and_width_are_choices() -> None:
    model = build_model(Resnet20Config(depths=(1, 2, 3), channels=(8, 12, 20), width=1.5), shape=SMALL, classes=10)
    assert [tuple(layer.weight.shape[:2]) for layer in binary_layers(model).values()] == [
        (12, 12), (18, 12), (18, 18), (30, 18), (30, 30), (30, 30),
    ]  # fmt: skip


@pytest.mark.parametrize("block", ["post", "pre", "gated"])
def test_a_shortcut_leads_around_two_convolutions_or_one(block: str) -> None:
    """The first convolution of two has the step; what is left over has a shortcut of its own."""
    config = Resnet18Config.model_validate({"block": block, "width": 0.125, "depths": (2, 3, 4, 1)})
    model = build_model(config, shape=SMALL, classes=10)
    assert list(binary_layers(model)) == [
        "stage1.0.first.conv", "stage1.0.conv", "stage2.0.first.conv", "stage2.0.conv", "stage2.1.conv",
        "stage3.0.first.conv", "stage3.0.conv", "stage3.1.first.conv", "stage3.1.conv", "stage4.0.conv",
    ]  # fmt: skip
    assert unit_names(model) == ["stage1.0", "stage2.0", "stage2.1", "stage3.0", "stage3.1", "stage4.0"]
    steps = {name: (layer.stride, *layer.weight.shape[:2]) for name, layer in binary_layers(model).items()}
    assert (steps["stage3.0.first.conv"], steps["stage3.0.conv"]) == ((2, 32, 16), (1, 32, 32))
    assert steps["stage4.0.conv"] == (2, 64, 32)
    single = build_model(config.model_copy(update={"shortcut_every": 1}), shape=SMALL, classes=10)
    assert len(unit_names(single)) == len(binary_layers(single)) == 10


@pytest.mark.parametrize("block", ["post", "pre"])
def test_without_its_convolutions_a_unit_is_its_shortcut(block: str) -> None:
    """Around both of them: halved, its channels padded; hardtanh follows the sum in post-activation only."""
    config = Resnet18Config.model_validate({"block": block, "width": 0.0625, "depths": (2, 2, 2, 2)})
    unit = build_model(config, shape=SMALL, classes=10).get_submodule("stage2.0")
    for name, value in unit.named_parameters():
        if (name in ("norm.weight", "norm.bias") and block == "post") or (name == "conv.alpha" and block == "pre"):
            nn.init.zeros_(value)
    x = 3 * torch.randn(2, 4, 8, 8)
    path = nn.functional.pad(nn.functional.avg_pool2d(x, 2), (0, 0, 0, 0, 2, 2))
    torch.testing.assert_close(unit(x), path.clamp(-1, 1) if block == "post" else path)


def test_an_activation_follows_the_stem_where_the_published_network_has_one() -> None:
    """ReCU's ResNet-20 has one and its ResNet-18 none; Real-to-Binary has a PReLU."""
    configs: list[BinarySettings] = [
        Resnet20Config(), Resnet18Config(), BrnConfig(), Bireal18Config(), Realtobinary18Config(), ReactnetAConfig(),
        Resnet18Config(stem_activation=True), ReactnetAConfig(stem_activation=True),
    ]  # fmt: skip
    acts = [type(build_model(c, shape=LARGE, classes=10).get_submodule("stem.act")).__name__ for c in configs]
    assert acts == [
        "ShiftedHardtanh", "Identity", "Identity", "Identity", "PReLU", "Identity", "ShiftedHardtanh", "RPReLU",
    ]  # fmt: skip


def test_a_shift_moves_the_thresholds() -> None:
    """sign(x - s): as a hardtanh's shift, or as the start of learnable thresholds."""
    shifted = build_model(BrnConfig(shift=0.25, depths=(1, 1, 1)), shape=SMALL, classes=10)
    assert [set(m.bias.tolist()) for m in shifted.modules() if isinstance(m, RSign)] == [{-0.25}] * 3
    unit = build_model(Resnet20Config(shift=0.25), shape=SMALL, classes=10).get_submodule("stage1.0")
    x = torch.tensor([0.2, 0.3]).view(1, 2, 1, 1)
    assert unit.get_submodule("sign")(unit.get_submodule("act")(x)).flatten().tolist() == [-1, 1]


def test_padded_channels_surround_the_image() -> None:
    x = torch.ones(1, 2, 1, 1)
    assert PadChannels(2, 5)(x).flatten().tolist() == [0, 1, 1, 0, 0]
    assert PadChannels(4, 2)(torch.arange(4.0).view(1, 4, 1, 1)).flatten().tolist() == [1, 2]


def test_repeated_channels_come_in_order() -> None:
    x = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    assert RepeatChannels(2, 5)(x).flatten().tolist() == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("side", [7, 8])
def test_a_shortcut_meets_its_convolution_on_odd_and_even_images(side: int) -> None:
    shape = UnitShape(4, 8, stride=2)
    out = make_shortcut(shape)(torch.randn(1, 4, side, side))
    assert out.shape == nn.Conv2d(4, 8, 3, 2, 1)(torch.randn(1, 4, side, side)).shape


def test_the_identity_where_shapes_stay() -> None:
    assert isinstance(make_shortcut(UnitShape(4, 4)), nn.Identity)


@pytest.mark.parametrize("block", ["pre", "gated"])
def test_sums_do_not_drown_the_shortcut_at_the_start(block: str) -> None:
    """Where no norm follows a convolution, its output starts at about the variance of a sign, not of a sum of 576."""
    torch.manual_seed(0)
    settings = {"block": block, "depths": (1,), "channels": (64,)}
    model = build_model(Resnet18Config.model_validate(settings), shape=SMALL, classes=10)
    conv = model.get_submodule("stage1.0.conv")
    signs = torch.randint(0, 2, (8, 64, 16, 16)) * 2.0 - 1
    assert conv(signs)[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)
