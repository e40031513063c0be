"""Members of every family, ours and the example's guests, keep its contract; of each, broken ones are found out.

The methods by gradients and the networks are held to theirs where they are tested.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from guest_fixtures import EXAMPLE, nobody  # noqa: F401
from PIL import Image
from torch import Tensor, nn

from bnnsearch.config.activation import (
    ActivationSettings,
    HardtanhConfig,
    NoActivationConfig,
    PreluConfig,
    RpreluConfig,
)
from bnnsearch.config.cost import AceConfig, CostSettings, EnergyConfig
from bnnsearch.config.data import (
    ArraysConfig,
    AugmentationSettings,
    CropConfig,
    CutoutConfig,
    DigitsConfig,
    FlipConfig,
    HuggingfaceConfig,
    ImageFolderConfig,
    ImagenetConfig,
    LightingConfig,
    RotationConfig,
    ShiftConfig,
)
from bnnsearch.config.evolution import CountingConfig, ElitistConfig, InertiaConfig, NaiveConfig
from bnnsearch.config.families import FAMILIES
from bnnsearch.config.measure import MacroF1Config, MeasureSettings
from bnnsearch.config.method import SteConfig
from bnnsearch.config.model import MlpConfig
from bnnsearch.config.optimizer import AdamConfig, SgdConfig, SignumConfig
from bnnsearch.config.plan import ConstantConfig, CosineConfig, LinearConfig, ScheduleSettings, WarmRestartsConfig
from bnnsearch.config.sampler import (
    AutoConfig,
    CmaesConfig,
    GpConfig,
    GridConfig,
    Nsga2Config,
    Nsga3Config,
    RandomConfig,
    TpeConfig,
)
from bnnsearch.config.scheduler import AshaConfig, HyperbandConfig, MedianConfig, NoSchedulerConfig
from bnnsearch.config.torch_model import TorchConfig
from bnnsearch.config.trainer import FunctionSettings, TrainerSettings
from bnnsearch.core.augment import Draw
from bnnsearch.core.cost import ModelCost
from bnnsearch.core.data import Dataset
from bnnsearch.core.data.load import load_digits
from bnnsearch.core.layers import BinaryLinear
from bnnsearch.core.methods.ste import Ste
from bnnsearch.core.models.mlp import build_mlp
from bnnsearch.evolve.inertia import build_inertia
from bnnsearch.testing import (
    check_activation,
    check_augmentation,
    check_cost,
    check_data,
    check_evolution,
    check_method,
    check_metric,
    check_model,
    check_optimizer,
    check_sampler,
    check_schedule,
    check_scheduler,
    check_trainer,
)

Check = Callable[..., Any]
FEW = {"generations_per_epoch": 5, "flip_probability": 1e-3}

OURS: list[tuple[Check, Any]] = [
    (check_optimizer, AdamConfig()),
    (check_optimizer, SgdConfig(nesterov=True)),
    (check_optimizer, SignumConfig(lr=0.01)),
    (check_schedule, LinearConfig()),
    (check_schedule, CosineConfig()),
    (check_schedule, WarmRestartsConfig()),
    (check_schedule, ConstantConfig()),
    (check_metric, MacroF1Config()),
    (check_cost, AceConfig()),
    (check_cost, EnergyConfig(real_mac=1.3)),
    (check_augmentation, CropConfig()),
    (check_augmentation, FlipConfig()),
    (check_augmentation, FlipConfig(kind="alternating")),
    (check_augmentation, RotationConfig()),
    (check_augmentation, CutoutConfig()),
    (check_augmentation, ShiftConfig()),
    (check_augmentation, LightingConfig()),
    (check_activation, HardtanhConfig()),
    (check_activation, RpreluConfig()),
    (check_activation, PreluConfig()),
    (check_activation, NoActivationConfig()),
    (check_sampler, TpeConfig()),
    (check_sampler, AutoConfig()),
    (check_sampler, Nsga2Config(population=4)),
    (check_sampler, Nsga3Config(population=4)),
    (check_sampler, GpConfig()),
    (check_sampler, CmaesConfig()),
    (check_sampler, RandomConfig()),
    (check_sampler, GridConfig()),
    (check_scheduler, AshaConfig()),
    (check_scheduler, AshaConfig(type="stopping", grace_epochs=3)),
    (check_scheduler, HyperbandConfig()),
    (check_scheduler, MedianConfig()),
    (check_scheduler, NoSchedulerConfig()),
    (check_evolution, NaiveConfig(**FEW)),
    (check_evolution, ElitistConfig(**FEW)),
    (check_evolution, CountingConfig()),
    (check_evolution, InertiaConfig()),
]


@pytest.mark.parametrize(("check", "settings"), OURS, ids=lambda value: getattr(value, "name", None))
def test_ours(check: Check, settings: Any) -> None:
    check(settings)


def pictures(root: Path, *, classes: int, splits: dict[str, int]) -> str:
    """A folder of images as `image_folder` and `imagenet` read it, so many of each class; files are one picture."""
    first = root / "picture.JPEG"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 44, 3), np.uint8)).save(first)
    for split, count in splits.items():
        for label in range(classes):
            (root / split / f"n{label:04}").mkdir(parents=True)
            for number in range(count):
                (root / split / f"n{label:04}" / f"{number}.JPEG").hardlink_to(first)
    return str(root)


class TestData:
    @pytest.mark.parametrize("settings", [DigitsConfig(), DigitsConfig(train_limit=100, augment=(ShiftConfig(),))])
    def test_digits(self, settings: DigitsConfig) -> None:
        check_data(settings)

    def test_folder(self, tmp_path: Path) -> None:
        root = pictures(tmp_path, classes=3, splits={"train": 6, "test": 2})
        check_data(ImageFolderConfig(root=root, image_size=8))

    def test_imagenet(self, tmp_path: Path) -> None:
        root = pictures(tmp_path, classes=3, splits={"train": 6, "val": 2})
        check_data(ImagenetConfig(root=root, image_size=32, classes=3, workers=0, val_fraction=0.34))

    def test_arrays(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        signals = generator.normal(size=(60, 2, 30)).astype(np.float32)
        np.savez(tmp_path / "signals.npz", images=signals, labels=np.arange(60) % 3)
        check_data(ArraysConfig(root=str(tmp_path / "signals.npz"), layout="NCL"))

    def test_huggingface(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        numbers = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4)).astype(np.uint8)
        rows = datasets.Dataset.from_dict({"image": numbers.tolist(), "label": (np.arange(40) % 2).tolist()})
        rows.save_to_disk(str(tmp_path / "rows"))
        check_data(HuggingfaceConfig(path=str(tmp_path / "rows"), train_split="train", test_split=None))


class Small(nn.Module):
    """As one writes it with torch."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(self.stem(x).relu()).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_a_torch_network_that_is_made_binary() -> None:
    check_model(TorchConfig(factory=f"{__name__}:Small"), shape=(1, 8, 8))


ELSEWHERE = {
    "methods ste", "methods bmd", "methods bop", "methods bop2", "methods proxquant", "methods bnew", "methods irnet",
    "methods reste", "methods biper", "methods adabin",  # test_methods.py
    "models mlp", "models cnn", "models cnn1d", "models vgg_small", "models xnornet", "models resnet20",
    "models resnet18", "models brn", "models bireal18", "models realtobinary18", "models reactnet_a",  # test_models.py
    "models xor_mlp",  # the network of every evolutionary method above
    "models torch", "data_sets digits", "data_sets image_folder", "data_sets imagenet", "data_sets arrays",
    "data_sets huggingface",  # above
    "data_sets mnist", "data_sets cifar10", "data_sets cifar100",  # what they read is downloaded: test_data.py
    "samplers hub",  # test_hub.py
}  # fmt: skip


def test_no_member_of_ours_is_left_out() -> None:
    held = {type(settings) for _, settings in OURS}
    for family in FAMILIES:
        for name in family.members:
            assert (family.member(name) in held) != (f"{family.key} {name}" in ELSEWHERE), f"{family.key} {name}"


def test_guests_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from guest_bnn.brightness import BrightnessConfig
    from guest_bnn.climber import ClimberConfig
    from guest_bnn.cycles import CyclesConfig
    from guest_bnn.halfway import HalfwayConfig
    from guest_bnn.leaky import LeakyConfig
    from guest_bnn.lion import LionConfig
    from guest_bnn.one_flip import OneFlipConfig
    from guest_bnn.perceptron import PerceptronConfig
    from guest_bnn.polynomial import PolynomialConfig
    from guest_bnn.strided import StridedConfig
    from guest_bnn.stripes import StripesConfig
    from guest_bnn.tanh import TanhConfig
    from guest_bnn.worst import WorstConfig

    try:
        check_method(TanhConfig(finetune_epochs=2))
        check_evolution(OneFlipConfig(**FEW))
        check_model(StridedConfig(), shape=(1, 16, 16))
        check_activation(LeakyConfig())
        check_data(StripesConfig())
        check_augmentation(BrightnessConfig())
        check_optimizer(LionConfig())
        check_schedule(PolynomialConfig())
        check_sampler(ClimberConfig())
        check_scheduler(HalfwayConfig())
        check_metric(WorstConfig())
        check_cost(CyclesConfig())
        check_trainer(PerceptronConfig(epochs=3))
    finally:
        for name in [each for each in sys.modules if each.startswith("guest_bnn")]:
            del sys.modules[name]


# --- broken ones: each breaks one rule ---


class FlippingConfig(SteConfig):
    builder: ClassVar[str] = "Flipping"
    name: Literal["flipping"] = "flipping"  # type: ignore[assignment]


class Flipping(Ste):
    """Its weights change where no gradient says so."""

    def optimizer(self, weights: Any) -> torch.optim.Optimizer:
        optimizer = super().optimizer(weights)
        optimizer.register_step_post_hook(lambda *_: [weight.data.neg_() for weight in weights])
        return optimizer


class ForgetfulConfig(SteConfig):
    builder: ClassVar[str] = "Forgetful"
    name: Literal["forgetful"] = "forgetful"  # type: ignore[assignment]


class Forgetful(Ste):
    """What it sets depends on how often it was asked, which no checkpoint knows."""

    asked = 0

    def anneal(self, progress: Any) -> None:
        self.asked += 1

    def state(self) -> dict[str, float]:
        return {"asked": float(self.asked)}


class SoftConfig(SteConfig):
    builder: ClassVar[str] = "Soft"
    name: Literal["soft"] = "soft"  # type: ignore[assignment]


class Soft(Ste):
    """It says that it shows signs, and shows real weights."""

    def view(self, weight: Tensor) -> Tensor:
        return weight


class RaisingConfig(SteConfig):
    builder: ClassVar[str] = "raising"
    name: Literal["raising"] = "raising"  # type: ignore[assignment]


def raising(*_: Any) -> Ste:
    raise KeyError("no such luck")


class DrawnConfig(InertiaConfig):
    builder: ClassVar[str] = "drawn"
    name: Literal["drawn"] = "drawn"  # type: ignore[assignment]


def drawn(config: InertiaConfig, problem: Any, generator: np.random.Generator) -> Any:
    """The weights that it begins with are not the seed's."""
    del generator
    return build_inertia(config, problem, np.random.default_rng())


class UnsignedConfig(MlpConfig):
    builder: ClassVar[str] = "unsigned"
    name: Literal["unsigned"] = "unsigned"  # type: ignore[assignment]


def unsigned(config: MlpConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Its second layer is given real numbers."""
    network = build_mlp(config, shape, classes)
    for name, part in list(network.named_modules()):
        if type(part).__name__ == "Sign" and name:
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, nn.Identity())
    return network


class SumConfig(ActivationSettings):
    builder: ClassVar[str] = "build_sum"
    name: Literal["sum"] = "sum"


def build_sum(*_: Any) -> nn.Module:
    class Sum(nn.Module):
        """Its output is smaller."""

        def forward(self, x: Tensor) -> Tensor:
            return x.sum(dim=1, keepdim=True)

    return Sum()


class OffConfig(DigitsConfig):
    builder: ClassVar[str] = "load_off"
    name: Literal["off"] = "off"  # type: ignore[assignment]


def load_off(config: DigitsConfig, device: torch.device) -> Dataset:
    """Its labels begin at 1."""
    data = load_digits(config, device)
    data.train.labels.add_(1)
    return data


class RelabelledConfig(DigitsConfig):
    builder: ClassVar[str] = "load_relabelled"
    name: Literal["relabelled"] = "relabelled"  # type: ignore[assignment]


def load_relabelled(config: DigitsConfig, device: torch.device) -> Dataset:
    """Other images every time."""
    data = load_digits(config, device)
    data.train.images[0, 0, 0, 0] = random.randrange(256)
    return data


class WideConfig(DigitsConfig):
    builder: ClassVar[str] = "load_digits"
    name: Literal["wide"] = "wide"  # type: ignore[assignment]

    @property
    def known(self) -> tuple[tuple[int, int, int], int]:
        """It says more than is there."""
        return (1, 8, 9), 10


class IdleConfig(MlpConfig):
    builder: ClassVar[str] = "idle"
    name: Literal["idle"] = "idle"  # type: ignore[assignment]


def idle(config: MlpConfig, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """It has a layer that nothing passes."""
    network = build_mlp(config, shape, classes)
    network.flatten.spare = BinaryLinear(4, 4)
    return network


class NothingConfig(SteConfig):
    builder: ClassVar[str] = "nothing"
    name: Literal["nothing"] = "nothing"  # type: ignore[assignment]


def nothing(*_: Any) -> None:
    """It forgets to return what it builds."""


class DarkerConfig(AugmentationSettings):
    name: Literal["darker"] = "darker"

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        return images.div_(2, rounding_mode="floor")


class WearyConfig(ScheduleSettings):
    asked: ClassVar[list[float]] = []
    name: Literal["weary"] = "weary"

    def at(self, epoch: float, epochs: int) -> float:
        self.asked.append(epoch)
        return 1 / len(self.asked)


class LouderConfig(AugmentationSettings):
    name: Literal["louder"] = "louder"

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        return images.float() * 1.1


class WanderingConfig(AugmentationSettings):
    name: Literal["wandering"] = "wandering"

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        return images.roll(random.randint(1, 9), dims=-1)


class UphillConfig(SgdConfig):
    builder: ClassVar[str] = "uphill"
    name: Literal["uphill"] = "uphill"  # type: ignore[assignment]


def uphill(config: SgdConfig, groups: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr, maximize=True)


class TwiceConfig(ScheduleSettings):
    name: Literal["twice"] = "twice"

    def at(self, epoch: float, epochs: int) -> float:
        return 2 * epoch / epochs


class EntropyConfig(RandomConfig):
    builder: ClassVar[str] = "build_entropy"
    name: Literal["entropy"] = "entropy"  # type: ignore[assignment]


def build_entropy(config: Any, seed: int) -> Any:
    from optuna.samplers import RandomSampler

    return RandomSampler()


class WorstFirstConfig(AshaConfig):
    name: Literal["worst_first"] = "worst_first"  # type: ignore[assignment]

    def survives(self, number: int, rivals: Any) -> bool:
        return number in list(rivals)[-1:]


class LateConfig(AshaConfig):
    name: Literal["late"] = "late"  # type: ignore[assignment]

    def is_rung(self, number: int, *, epoch: int, epochs: int) -> bool:
        return epoch == epochs


class SilentConfig(FunctionSettings):
    name: Literal["silent"] = "silent"

    def train(self, seed: int, device: str) -> Iterator[dict[str, float]]:
        yield {"train_loss": 0.5}


class StatelessConfig(TrainerSettings):
    builder: ClassVar[str] = "Stateless"
    name: Literal["stateless"] = "stateless"


class Stateless:
    """Where it goes on from is where it began."""

    def __init__(self, *_: Any) -> None:
        self.value = 0.0

    def fit(self) -> Iterator[dict[str, float]]:
        for _ in range(10):
            self.value += 0.05
            yield {"val_acc": self.value}

    def costs(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


BROKEN: list[tuple[Check, Any, str]] = [
    (check_method, FlippingConfig(), "method flipping: a gradient of 0 must flip no sign, but got 96 flips"),
    (check_method, ForgetfulConfig(), "method forgetful: what anneal sets must depend on the progress alone"),
    (check_method, SoftConfig(), "method soft: seen is signs, so that view must show +-1 alone"),
    (check_method, RaisingConfig(), "method raising: build failed: KeyError: 'no such luck' (test_contracts.py, line"),
    (check_method, MlpConfig(), "method mlp: must be settings that derive from GradientMethod"),
    (check_evolution, DrawnConfig(), "method drawn: a run that is broken off must go on as if it were not"),
    (check_model, UnsignedConfig(), "model unsigned: binary layers must be given +-1 alone"),
    (
        check_activation,
        SumConfig(),
        "activation sum: outputs must have the shape of the inputs, (5, 6), but got (5, 1)",
    ),
    (check_data, OffConfig(), "data off: labels of train must lie in [0, 10), but got (1, 10)"),
    (check_method, NothingConfig(), "method nothing: build failed: InputError: nothing of nothing must return Method"),
    (check_model, IdleConfig(), "model idle: flatten.spare.weight must get a finite gradient"),
    (check_data, RelabelledConfig(), "data relabelled: train must be the same when it is read again"),
    (check_data, WideConfig(), "data wide: known says ((1, 8, 9), 10), which must be what is read, but got ((1, 8, 8)"),
    (check_augmentation, DarkerConfig(), "augmentation darker: the images that it is given must be left as they are"),
    (check_schedule, WearyConfig(), "schedule weary: the factor must depend on epoch and epochs alone"),
    (check_augmentation, LouderConfig(), "augmentation louder: it must give images, uint8 (1, 3, 12, 10)"),
    (check_augmentation, WanderingConfig(), "augmentation wandering: all randomness must come from draw.generator"),
    (check_optimizer, UphillConfig(), "optimizer uphill: 100 steps down a bowl must lead closer to its middle"),
    (check_schedule, TwiceConfig(), "schedule twice: the factor at epoch 0.55 of 1 must lie in [0, 1], but got 1.1"),
    (check_sampler, EntropyConfig(), "sampler entropy: after the same 0 trials a seed must suggest the same"),
    (check_scheduler, WorstFirstConfig(), "scheduler worst_first: the best of 2 must go on, but got [False, True]"),
    (check_scheduler, LateConfig(), "scheduler late: no trial of 1 epochs is compared after the last, but got [1]"),
    (
        check_trainer,
        SilentConfig(),
        "trainer silent: training failed: ValueError: trainer silent declares val_acc, but",
    ),
    (check_trainer, StatelessConfig(epochs=3), "trainer stateless: a run that is broken off must go on as if it were"),
]


@pytest.mark.parametrize(("check", "settings", "said"), BROKEN, ids=lambda value: getattr(value, "name", None))
def test_a_broken_one_is_found_out(check: Check, settings: Any, said: str) -> None:
    random.seed(4)
    with pytest.raises(AssertionError) as found:
        check(settings)
    assert str(found.value).startswith(said)
    assert "\n" not in str(found.value)


def test_a_broken_metric_is_found_out() -> None:
    """Its class is made here: one more metric is in the table from then on, until `nobody` takes it out again."""

    class FirstConfig(MeasureSettings):
        name: Literal["first"] = "first"

        def measure(self, predicted: Tensor, labels: Tensor, classes: int) -> float:
            return float(predicted[0] == labels[0])

    with pytest.raises(AssertionError, match="metric first: the order of the images must not matter"):
        check_metric(FirstConfig())


@pytest.mark.parametrize(
    ("finite", "said"),
    [
        (False, "cost model first_layers: it must be a finite number that is not negative, but got inf"),
        (True, "cost model first_layers: twice the channels must not cost less, but got"),
    ],
)
def test_a_broken_cost_model_is_found_out(finite: bool, said: str) -> None:
    """As above."""

    class FirstLayersConfig(CostSettings):
        name: Literal["first_layers"] = "first_layers"

        def cost(self, network: ModelCost) -> float:
            return 1 / network.macs if finite else math.inf

    with pytest.raises(AssertionError) as found:
        check_cost(FirstLayersConfig())
    assert str(found.value).startswith(said)
