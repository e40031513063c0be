"""Packed = torch: sums of +-1 exactly, labels on every image, for every network of the core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bnnsearch.config.activation import PreluConfig, RpreluConfig
from bnnsearch.config.data import Cifar10Config, DataConfig, ImageFolderConfig, MnistConfig
from bnnsearch.config.model import (
    Bireal18Config,
    BrnConfig,
    Cnn1dConfig,
    CnnConfig,
    MlpConfig,
    ModelConfig,
    ReactnetAConfig,
    Realtobinary18Config,
    Resnet18Config,
    Resnet20Config,
    VggSmallConfig,
    XnornetConfig,
)
from bnnsearch.core.binarize import sign
from bnnsearch.core.data import Dataset, Split, load_data
from bnnsearch.core.layers import (
    BinaryConv2d,
    BinaryLinear,
    RPReLU,
    RSign,
    ShiftedHardtanh,
    Sign,
    binary_layers,
    use_two_values,
)
from bnnsearch.core.models.build import build_model
from bnnsearch.deploy import rounding_decides
from bnnsearch.errors import InputError
from bnnsearch.packed.latency import measure_latency
from bnnsearch.packed.model import PackedModel

MEAN, STD = 0.45, 0.24


def pack(module: nn.Module, shape: tuple[int, int, int], edges: Literal["float32", "int8"] = "float32") -> PackedModel:
    return PackedModel.from_module(module, shape=shape, mean=[MEAN] * shape[0], std=[STD] * shape[0], edges=edges)


def normalised(images: np.ndarray) -> Tensor:
    mean = torch.full((images.shape[1], 1, 1), MEAN) * 255
    scale = 1 / (torch.full((images.shape[1], 1, 1), STD) * 255)
    x = torch.from_numpy(images).float().sub_(mean).mul_(scale)
    return x.contiguous(memory_format=torch.channels_last)


def random_images(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@torch.no_grad()
def settle(module: nn.Module, shape: tuple[int, int, int], images: np.ndarray | None = None) -> nn.Module:
    """Random batch norm, a third of it falling, with the statistics of images, random ones unless they are given."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.weight, 0.5)
            nn.init.normal_(part.bias)
            part.momentum = 1.0
        if isinstance(part, RPReLU):
            nn.init.normal_(part.centre, std=0.3)
            nn.init.normal_(part.out, std=0.3)
        if isinstance(part, RSign):
            nn.init.normal_(part.bias, std=0.3)
    module.train()(normalised(random_images(64, shape, seed=1) if images is None else images))
    return module.eval()


@torch.no_grad()
def sums(module: nn.Module, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What each binary layer sums up to, by name, and the logits."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
            weight = sign(layer.weight)
            if isinstance(layer, BinaryConv2d):
                out = nn.functional.conv2d(inputs[0], weight, stride=layer.stride, padding=layer.padding)
            else:
                out = nn.functional.linear(inputs[0], weight)[:, :, None, None]
            found[name] = out.numpy()

        return hook

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in binary_layers(module).items()]
    try:
        return found, module(normalised(images)).numpy()
    finally:
        for hook in hooks:
            hook.remove()


def check_equal(module: nn.Module, shape: tuple[int, int, int], images: np.ndarray | None = None) -> PackedModel:
    images = random_images(9, shape) if images is None else images
    packed = pack(module, shape)
    expected, logits = sums(module, images)
    for name, found in packed.values(images, list(expected)).items():
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
    np.testing.assert_allclose(packed.logits(images), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(packed.predict(images), logits.argmax(axis=1))
    return packed


class Head(nn.Module):
    """Vector of means, so that any network ends as a packed one must."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.flatten(self.pool(x))


MODELS: list[tuple[ModelConfig, tuple[int, int, int]]] = [
    (MlpConfig(), (1, 8, 8)),
    (MlpConfig(hidden=(100, 70, 33), inputs="real", shift=0.2), (3, 7, 5)),
    (MlpConfig(hidden=(90, 40), activation=RpreluConfig(), scale="xnor"), (1, 9, 9)),
    (CnnConfig(), (1, 28, 28)),
    (CnnConfig(activation=PreluConfig(), width=0.3, kernel=5), (1, 28, 28)),
    (CnnConfig(first="int8", head="mean", classifier="int8", pool_after=(1, 2)), (1, 28, 28)),
    (CnnConfig(first="binary", head="mean", classifier="binary", activation=RpreluConfig(), width=0.3), (3, 17, 19)),
    (CnnConfig(first="int8", classifier="binary", scale="learned", kernel=5), (3, 9, 8)),
    (CnnConfig(first="binary", classifier="int8", pool_after=(2,), scale="xnor", width=0.2), (1, 8, 8)),
    (CnnConfig(head="mean", shift=0.2), (1, 28, 28)),
    (Cnn1dConfig(first="int8", head="mean", classifier="binary", width=0.3), (3, 1, 130)),
    (Cnn1dConfig(width=0.3), (3, 1, 130)),
    (Cnn1dConfig(width=0.5, kernel=31, pool=3, pool_after=(2,), scale="xnor", activation=RpreluConfig()), (1, 1, 77)),
    (VggSmallConfig(width=0.25), (3, 32, 32)),
    (XnornetConfig(stem="small", width=0.1), (3, 32, 32)),
    (XnornetConfig(stem="small", width=0.1, activation_scale=True), (3, 33, 31)),
    (XnornetConfig(stem="small", width=0.05, activation_scale=True, float_layers=("layer3*", "layer6*")), (1, 28, 28)),
    (Resnet20Config(), (3, 32, 32)),
    (Resnet20Config(width=0.6, activation=RpreluConfig(), block="pre"), (3, 17, 19)),
    (Resnet20Config(shift=0.3, scale="xnor", shortcut="conv", float_layers=("stage2.0.conv",)), (1, 28, 28)),
    (Resnet18Config(width=0.5), (3, 32, 32)),
    (Resnet18Config(width=0.2, depths=(2, 3, 1, 4), block="pre", shift=0.2, activation=PreluConfig()), (3, 33, 29)),
    (Resnet18Config(width=0.2, block="gated", shortcut="conv", stem_activation=True, scale="xnor"), (1, 28, 28)),
    (BrnConfig(), (3, 32, 32)),
    (Bireal18Config(width=0.25), (3, 64, 64)),
    (Bireal18Config(stem="small"), (3, 16, 16)),
    (Realtobinary18Config(stem="small", width=0.5), (3, 32, 32)),
    (ReactnetAConfig(stem="small", width=0.25), (3, 32, 32)),
]


@pytest.mark.parametrize(("config", "shape"), MODELS, ids=lambda value: getattr(value, "name", None))
def test_packed_network_sums_and_predicts_as_torch(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    module = settle(build_model(config, shape=shape, classes=10), shape)
    check_equal(module, shape)


@pytest.mark.parametrize("config", [MlpConfig(), CnnConfig(), Resnet20Config(width=0.5)], ids=lambda value: value.name)
def test_every_digit_gets_the_label_torch_gives_it(config: ModelConfig) -> None:
    torch.manual_seed(0)
    shape = (1, 8, 8)
    module = settle(build_model(config, shape=shape, classes=10), shape)
    images = np.minimum(load_digits().images * 16, 255).astype(np.uint8)[:, None]
    with torch.no_grad():
        expected = module(normalised(images)).argmax(1)
    np.testing.assert_array_equal(pack(module, shape).predict(images, threads=2), expected)


REAL: list[ModelConfig] = [
    MlpConfig(),
    CnnConfig(),
    Resnet20Config(),
    BrnConfig(),
    Resnet18Config(),
    VggSmallConfig(),
    XnornetConfig(stem="small", width=0.5),
    Bireal18Config(stem="small"),
    Realtobinary18Config(stem="small"),
    ReactnetAConfig(stem="small"),
]


def real_data(name: str) -> Dataset:
    """A data set below BNN_DATA; CIFAR-10 also as JPEG."""
    root = Path(os.environ.get("BNN_DATA", "."))
    config: DataConfig
    if name == "mnist" and (root / "MNIST/raw").exists():
        config = MnistConfig(root=str(root))
    elif name == "cifar10" and (root / "cifar-10-batches-py").exists():
        config = Cifar10Config(root=str(root))
    elif name == "cifar10" and (root / "cifar10-jpeg/test").exists():
        config = ImageFolderConfig(root=str(root / "cifar10-jpeg"))
    else:
        pytest.skip(f"BNN_DATA names no folder with {name}")
    return load_data(config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("config", REAL, ids=lambda value: value.name)
def test_every_image_of_real_test_sets_gets_the_label_torch_gives_it(config: ModelConfig, name: str) -> None:
    torch.manual_seed(0)
    data = real_data(name)
    assert isinstance(data.train, Split)
    assert isinstance(data.test, Split)
    images, test = data.train.images[:256].numpy(), data.test.images.numpy()
    module = settle(build_model(config, shape=data.shape, classes=10), data.shape, images)
    packed = check_equal(module, data.shape, test[:500])
    with torch.no_grad():
        logits = np.concatenate([module(normalised(part)).numpy() for part in np.array_split(test, 50)])
    labels = packed.predict(test, threads=2)
    rounded = [
        place
        for place in np.flatnonzero(labels != logits.argmax(axis=1))
        if rounding_decides(module, normalised(test[place : place + 1])[0], labels[place])
    ]
    assert len(rounded) <= 2
    same = np.delete(np.arange(len(test)), rounded)
    np.testing.assert_array_equal(labels[same], logits[same].argmax(axis=1))
    close = np.isclose(packed.logits(test), logits, rtol=1e-4, atol=1e-4).all(axis=1)
    assert close.mean() >= 0.999  # a bit that rounding decides moves the logits of its image


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 3, 5])),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    side=st.tuples(st.integers(5, 11), st.integers(5, 11)),
    seed=st.integers(0, 999),
)
def test_binary_convolution_sums_exactly(
    sizes: tuple[int, int, int], stride: int, padding: int, side: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    convolution = BinaryConv2d(*sizes, stride, padding)
    shape = (sizes[0], *side)
    packed = pack(nn.Sequential(Sign(0.1), convolution, Head()), shape)
    images = random_images(1 + seed % 5, shape, seed)
    with torch.no_grad():
        expected = convolution(sign(normalised(images) - 0.1)).numpy()
    np.testing.assert_array_equal(packed.values(images, ["1"])["1"], expected)


@settings(max_examples=40, deadline=None)
@given(features=st.integers(1, 300), out=st.integers(1, 130), count=st.integers(1, 9), seed=st.integers(0, 999))
def test_binary_linear_layer_sums_exactly(features: int, out: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    linear = BinaryLinear(features, out)
    packed = pack(nn.Sequential(nn.Flatten(), Sign(), linear), (1, 1, features))
    images = random_images(count, (1, 1, features), seed)
    with torch.no_grad():
        expected = linear(sign(normalised(images).flatten(1))).numpy()
    np.testing.assert_array_equal(packed.logits(images), expected)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 40), st.sampled_from([1, 2, 3])),
    padding=st.integers(0, 2),
    centred=st.booleans(),
    seed=st.integers(0, 999),
)
def test_filters_of_two_values_are_packed_exactly(
    sizes: tuple[int, int, int], padding: int, centred: bool, seed: int
) -> None:
    """Values of each filter's own, zeros at the border included; where both have one magnitude, a scale says it all."""
    torch.manual_seed(seed)
    module = nn.Sequential(
        Sign(0.1), BinaryConv2d(*sizes, 1, padding), Sign(-0.3), BinaryConv2d(sizes[1], 9, 1), Head()
    )
    use_two_values(module)
    with torch.no_grad():
        for layer in binary_layers(module).values():
            spread, centre = torch.rand(2, len(layer.weight), 1, 1, 1)
            layer.weight.copy_(spread * sign(layer.weight) + (0 if centred else centre - 0.5))
    shape = (sizes[0], 7, 6)
    packed, images = pack(module.eval(), shape), random_images(3, shape, seed)
    names = [each.name for each in packed.graph.operations]
    name = "3.two" if "3.two" in names else "3.spread"
    assert name == "3.spread" or not centred
    with torch.no_grad():
        out = module[:4](normalised(images)).numpy()
    np.testing.assert_array_equal(packed.values(images, [name])[name], out)


@settings(max_examples=60, deadline=None)
@given(
    gamma=st.lists(st.sampled_from([-3.0, -0.5, -1e-3, 0.0, 1e-3, 0.5, 2.0]), min_size=5, max_size=5),
    beta=st.lists(st.sampled_from([-2.0, -0.3, 0.0, 0.3, 1.0]), min_size=5, max_size=5),
    mean=st.lists(st.sampled_from([-9.0, -2.0, 0.0, 2.0, 3.5, 40.0]), min_size=5, max_size=5),
    shift=st.sampled_from([-0.4, 0.0, 0.25]),
    activation=st.sampled_from(["hardtanh", "rprelu", "none"]),
)
def test_folded_threshold_is_the_sign_of_batch_norm(
    gamma: list[float], beta: list[float], mean: list[float], shift: float, activation: str
) -> None:
    """Over all the sums that 20 inputs can have: ties and falling batch norm included."""
    norm = nn.BatchNorm1d(5)
    with torch.no_grad():
        for place, values in ((norm.weight, gamma), (norm.bias, beta), (norm.running_mean, mean)):
            place.copy_(torch.tensor(values))
    norm.running_var.fill_(4.0 - norm.eps)
    after = {"hardtanh": ShiftedHardtanh(shift), "rprelu": RPReLU(5), "none": nn.Identity()}[activation]
    first, last = BinaryLinear(20, 5), BinaryLinear(5, 5)
    nn.init.ones_(first.weight)
    with torch.no_grad():
        last.weight.copy_(2 * torch.eye(5) - 1)
    module = nn.Sequential(nn.Flatten(), Sign(), first, norm, after, Sign(shift), last).eval()
    images = np.where(np.tri(21, 20, -1) > 0, 255, 0).astype(np.uint8).reshape(21, 1, 1, 20)
    packed = pack(module, (1, 1, 20))
    assert [operation.op for operation in packed.graph.operations].count("affine") == 0
    with torch.no_grad():
        np.testing.assert_array_equal(packed.logits(images), module(normalised(images).flatten(1)).numpy())


def test_threshold_of_the_worked_example() -> None:
    """gamma -0.5, beta 0.3, mean 2, deviation 2: -0.25 (x - 2) + 0.3 >= 0 where x <= 3.2, so -1 from x = 4 on."""
    norm = nn.BatchNorm1d(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-0.5, 0.5]))
        norm.bias.copy_(torch.tensor([0.3, 0.0]))
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    module = nn.Sequential(nn.Flatten(), Sign(), BinaryLinear(9, 2), norm, Sign(), BinaryLinear(2, 3)).eval()
    packed = pack(module, (1, 3, 3))
    assert packed.tensors["4"].tolist() == [4, 2]  # the second ties at 2, where sign(0) = +1
    assert packed.tensors["4.reversed"].tolist() == [1, 0]


def test_batches_and_threads_change_nothing() -> None:
    torch.manual_seed(0)
    shape = (3, 16, 16)
    packed = pack(settle(build_model(Resnet20Config(width=0.5), shape=shape, classes=7), shape), shape)
    images = random_images(37, shape)
    whole = packed.logits(images)
    one_by_one = np.concatenate([packed.logits(images[i : i + 1]) for i in range(len(images))])
    np.testing.assert_array_equal(one_by_one, whole)
    np.testing.assert_array_equal(packed.logits(images, threads=3), whole)
    assert packed.logits(images[:0]).shape == (0, 7)


def test_int8_edges_round_real_weights_only() -> None:
    torch.manual_seed(0)
    shape = (3, 16, 16)
    module = settle(build_model(Resnet20Config(width=0.5), shape=shape, classes=10), shape)
    exact, rounded = pack(module, shape), pack(module, shape, edges="int8")
    assert rounded.tensors["stem.conv"].dtype == np.int8
    assert rounded.packed_bytes < exact.packed_bytes
    for name in ("stem.conv", "head.classifier"):
        restored = rounded.tensors[name] * rounded.tensors[f"{name}.scale"].reshape(-1, 1, 1, 1)
        step = np.abs(exact.tensors[name]).max(axis=(1, 2, 3), keepdims=True) / 127
        assert (np.abs(restored - exact.tensors[name]) <= step / 2 + 1e-7).all()
        module.get_submodule(name).weight.data = torch.from_numpy(restored.transpose(0, 3, 1, 2)).reshape(
            module.get_submodule(name).weight.shape
        )
    check_equal(module, shape)


def test_packing_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    module = build_model(MlpConfig(), shape=(1, 8, 8), classes=10)
    module.get_submodule("layer2").eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    pack(module, (1, 8, 8))
    assert modes == [part.training for part in module.modules()]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Softplus()), "2, a Softplus,"),
        (nn.Sequential(BinaryConv2d(1, 4, 3), Head()), "'input' must be bits"),
        (nn.Sequential(nn.Conv2d(1, 4, 3, groups=1, dilation=2), Head()), "dilation"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), "must be a vector"),
    ],
)
def test_what_cannot_be_packed_is_said_in_a_line(module: nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        pack(module, (1, 8, 8))
    assert "\n" not in str(caught.value)


def test_images_of_another_shape_are_refused() -> None:
    packed = pack(nn.Sequential(nn.Flatten(), Sign(), BinaryLinear(64, 3)), (1, 8, 8))
    with pytest.raises(InputError, match=r"images must be uint8"):
        packed.logits(np.zeros((2, 1, 8, 9), np.uint8))


def labels_elsewhere(packed: PackedModel, images: np.ndarray, folder: Path) -> list[int]:
    """What a process without torch predicts."""
    packed.save(folder / "model.bnn")
    np.save(folder / "images.npy", images)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from bnnsearch.packed.model import PackedModel\n"
        f"print(*PackedModel.load({str(folder / 'model.bnn')!r})"
        f".predict(np.load({str(folder / 'images.npy')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(label) for label in done.stdout.split()]


def test_a_model_predicts_where_torch_is_not_installed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = (1, 8, 8)
    packed = pack(settle(build_model(MlpConfig(), shape=shape, classes=10), shape), shape)
    images = random_images(5, shape)
    assert labels_elsewhere(packed, images, tmp_path) == packed.predict(images).tolist()


def test_latency_is_measured_and_gives_the_cores_back() -> None:
    torch.manual_seed(0)
    shape = (3, 32, 32)
    small, large = (pack(build_model(Resnet20Config(width=w), shape=shape, classes=10), shape) for w in (1.0, 4.0))
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    assert measure_latency(small, seconds=0.1).median_ms > 0
    assert affinity is None or os.sched_getaffinity(0) == affinity
    assert small.packed_bytes < large.packed_bytes
