"""Torch networks of one's own: made binary by rule, searched like ours, packed exactly; and what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from guest_fixtures import call, nobody, study  # noqa: F401
from torch import nn

from bnnsearch.config import families, guests
from bnnsearch.config.torch_model import TorchConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.cost import model_cost
from bnnsearch.core.layers import RPReLU, RSign, ShiftedHardtanh, Sign, binary_layers
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import real_twin
from bnnsearch.core.teacher import fingerprint
from bnnsearch.errors import InputError
from bnnsearch.packed.model import PackedModel
from bnnsearch.past import read_past
from bnnsearch.record import Reader
from bnnsearch.schema import space_schema
from bnnsearch.space import load_space
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.trial import check_packable

NETS = '''
import torch
from torch import nn
from torch.nn import functional as F


class Tutorial(nn.Module):
    """Functions, one pool for all, biases without norms, log_softmax: as beginners' networks are."""

    def __init__(self, num_classes, in_channels, width=6):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(width, 16, 3, padding=1)
        self.fc1 = nn.Linear(64, 20)
        self.fc2 = nn.Linear(20, num_classes)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.dropout(x.view(x.size(0), -1), 0.1, self.training)
        return F.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)


class Residual(nn.Module):
    """One ReLU for all, a sum in place, a real way around, the mean over the image."""

    def __init__(self, num_classes, in_chans, width=8, depth=2):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))
        self.down = nn.Sequential(nn.Conv2d(width, 2 * width, 1, 2, bias=False), nn.BatchNorm2d(2 * width))
        self.last = nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * width)
        self.fc = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        x = self.relu(self.stem(x))
        for conv, norm in zip(self.blocks, self.norms):
            out = norm(conv(x))
            out += x
            x = self.relu(out)
        out = self.norm(self.last(x))
        out += self.down(x)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.relu(out), (1, 1)), 1))


class Gated(nn.Module):
    """Depthwise convolutions, squeeze and excitation, channels side by side, hardly ever negative activations."""

    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.stem = nn.Conv2d(input_shape[0], 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.point = nn.Conv2d(8, 8, 1, bias=False)
        self.leaky = nn.LeakyReLU(0.1)
        self.classifier = nn.Conv2d(16, num_classes, 1)

    def forward(self, x):
        x = F.hardswish(self.stem(x))
        y = self.norm(self.depthwise(x))
        y = y * F.hardsigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = torch.cat([self.leaky(self.point(y)), x], 1)
        return F.relu(self.classifier(F.avg_pool2d(y, 2))).mean([2, 3])


class Linear(nn.Linear):
    """A subclass, into which a trace goes, as timm's."""

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Conv(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, padding=1)


class BatchNormAct2d(nn.BatchNorm2d):
    """A norm with an activation, as timm's of this name."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x):
        return self.act(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, self.training))


def timms(num_classes, in_channels):
    parts = [Conv(in_channels, 8, 3), BatchNormAct2d(8), Conv(8, 16, 3, bias=False), BatchNormAct2d(16)]
    parts += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), Linear(256, 32), nn.GELU()]
    return nn.Sequential(*parts, Linear(32, num_classes))


def sequential(num_classes, in_channels, width=8, **_):
    def step(inputs, outputs):
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU6(), nn.MaxPool2d(2)]

    layers = [*step(in_channels, width), *step(width, width), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16 * width, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Linear(32, num_classes))


def raises(num_classes, limit=0):
    if num_classes > limit:
        raise ValueError("no such luck")


def text():
    return "a network"


def wrong_classes(num_classes):
    return sequential(num_classes + 1, 1)


def colour():
    return nn.Sequential(nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Linear(288, 10))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        out = self.fc(x.flatten(1))
        return (out, out) if self.training else out


def attention():
    return nn.Sequential(nn.Flatten(2), nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, 10), nn.Flatten())


def shuffled():
    class Shuffled(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
            self.fc = nn.Linear(128, 10)

        def forward(self, x):
            return self.fc(self.two(self.one(x).roll(1, 1)).flatten(1))

    return Shuffled()
'''

SHAPE = (1, 8, 8)
TRIAL: dict[str, Any] = {
    "data": {"name": "digits", "train_limit": 200},
    "model": {"name": "torch", "factory": "nets:Residual", "arguments": {"depth": 1}},
    "method": {"name": "ste"},
    "plan": {"epochs": 1},
}
SPACE: dict[str, Any] = {
    "version": 1,
    "name": "own",
    "use": ["./nets.py"],
    "objectives": [{"metric": "val_acc", "mode": "max"}, {"metric": "memory_bytes", "mode": "min"}],
    "budget": {"trials": 2},
    "retries": 0,
    "trial": {
        **TRIAL,
        "model": {**TRIAL["model"], "arguments": {"width": {"type": "choice", "values": [8, 16]}, "depth": 1}},
    },
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space and the file of networks that it uses, where commands are called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    write(SPACE)
    return tmp_path


@pytest.fixture
def nets(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    guests.use(["./nets.py"], tmp_path)


def write(space: dict[str, Any]) -> None:
    Path("space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))


def built(factory: str, shape: tuple[int, int, int] = SHAPE, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model(TorchConfig(factory=factory, **settings), shape=shape, classes=10)


def lived_in(network: nn.Module) -> nn.Module:
    """Norms and slopes as training leaves them: some falling, none of them 0 or 1."""
    torch.manual_seed(1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, 0, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 4)
            nn.init.normal_(part.weight, 0.5, 1)
            nn.init.normal_(part.bias, 0, 0.5)
    return network.eval()


def same_logits(network: nn.Module, shape: tuple[int, int, int], images: int) -> None:
    """The packed network gives torch's logits, to the last bit."""
    mean, std = [0.4] * shape[0], [0.3] * shape[0]
    packed = PackedModel.from_module(network, shape=shape, mean=mean, std=std)
    generator = np.random.default_rng(0)
    bright = generator.uniform(0, 256, (images, shape[0], 1, 1))
    octets = (generator.uniform(0, 1, (images, *shape)) * bright).astype(np.uint8)
    real = (torch.from_numpy(octets).float() - 255 * torch.tensor(0.4)) * (1 / (255 * torch.tensor(0.3)))
    with torch.no_grad():
        logits = network(real).numpy()
    np.testing.assert_array_equal(packed.logits(octets), logits)
    assert len(np.unique(logits, axis=0)) > 1


class TestConverter:
    @pytest.mark.parametrize("activation", ["hardtanh", "rprelu", "prelu", "none"])
    @pytest.mark.parametrize("factory", ["Tutorial", "Residual", "Gated", "timms", "sequential"])
    def test_the_packed_network_is_torchs_on_every_sample(self, nets: None, factory: str, activation: str) -> None:
        network = built(f"nets:{factory}", activation=activation, scale="xnor", shift=0.1)
        assert binary_layers(network)
        same_logits(lived_in(network), SHAPE, 300)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("factory", "shape"),
        [
            ("resnet18", (3, 16, 16)),
            ("resnet18", (1, 8, 8)),
            ("vgg11_bn", (3, 32, 32)),
            ("mobilenet_v2", (3, 32, 32)),
            ("mobilenet_v3_small", (3, 32, 32)),
        ],
    )
    def test_torchvisions_too(self, factory: str, shape: tuple[int, int, int]) -> None:
        network = built(f"torchvision.models:{factory}", shape)
        cost = model_cost(network, shape)
        assert cost.binary_params > 0.9 * cost.params
        assert cost.bops > 0
        same_logits(lived_in(network), shape, 100)

    def test_every_part_learns_and_only_signs_reach_binary_layers(self, nets: None) -> None:
        network = built("nets:Residual", scale="learned", activation="rprelu")
        seen = []
        for layer in binary_layers(network).values():
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        network(torch.randn(4, *SHAPE)).square().sum().backward()
        assert len(seen) == 4
        assert all((inputs.abs() == 1).all() for inputs in seen)
        assert all(parameter.grad is not None for parameter in network.parameters())
        assert {type(part) for part in network.modules()} >= {RPReLU, RSign}
        assert not any(isinstance(part, nn.ReLU) and name != "relu_2" for name, part in network.named_modules())

    def test_what_stays_real_is_a_choice(self, nets: None) -> None:
        def names(*keep: str) -> set[str]:
            return set(binary_layers(built("nets:Residual", keep_real=keep)))

        assert names("first", "last") == {"blocks.0.conv", "blocks.1.conv", "last.conv", "down.0.conv"}
        assert names("first", "last", "down.*", "blocks.1") == {"blocks.0.conv", "last.conv"}
        assert names() == names("first", "last") | {"stem.0.conv", "fc.linear"}
        assert not names("*")
        with pytest.raises(
            InputError, match=r"model.keep_real: 'none\.\*' matches none of the layers stem.0, blocks.0"
        ):
            names("first", "none.*")

    def test_weights_are_the_factorys(self, nets: None) -> None:
        kept, converted = built("nets:Residual", keep_real=["*"]), built("nets:Residual")
        assert torch.equal(converted.get_submodule("last.conv").weight, kept.get_submodule("last").weight)

    def test_groups_become_dense_or_stay(self, nets: None) -> None:
        assert "depthwise.conv" in binary_layers(built("nets:Gated"))
        real = built("nets:Gated", grouped="real")
        assert "depthwise.conv" not in binary_layers(real)
        with pytest.raises(
            InputError, match=r"depthwise, a convolution with groups.*; with `pack: false` it is trained"
        ):
            check_packable(TorchConfig(factory="nets:Gated", grouped="real"), real, SHAPE)
        check_packable(TorchConfig(factory="nets:Gated", grouped="real", pack=False), real, SHAPE)

    def test_a_bias_becomes_a_norm_where_none_follows(self, nets: None) -> None:
        parts = dict(built("nets:Tutorial").named_modules())
        assert isinstance(parts["conv2.norm"], nn.BatchNorm2d)
        assert isinstance(parts["fc1.norm"], nn.BatchNorm1d)
        assert set(binary_layers(built("nets:timms"))) == {"2.conv", "6.linear"}
        assert "4.norm" not in dict(built("nets:sequential").named_modules())

    def test_small_grey_images_in_large_networks_of_colours(self, nets: None) -> None:
        """Filters are summed over colours, weights over copies of a pixel: the network computes what it would have."""
        network = built("nets:sequential", keep_real=["*"], arguments={"in_channels": 3}).eval()
        assert network.get_submodule("10").in_features == 8 * 2 * 2
        torch.manual_seed(0)
        usual = guests.factory("nets:sequential")(num_classes=10, in_channels=3).eval()
        images = torch.randn(2, *SHAPE)
        with torch.no_grad():
            assert torch.allclose(network(images), usual(images.expand(-1, 3, -1, -1)), atol=1e-5)

    def test_a_real_twin_has_relus(self, nets: None) -> None:
        twin = real_twin(built("nets:Residual"))
        assert not binary_layers(twin)
        assert not any(isinstance(part, Sign | ShiftedHardtanh) for part in twin.modules())
        assert twin(torch.randn(2, *SHAPE)).shape == (2, 10)


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(NETS.splitlines(), start=1) if text in line)


BROKEN = {
    "raises": f"line {line_of('raise ValueError')}: ValueError: no such luck",
    "text": "must return an nn.Module, but returned str",
    "wrong_classes": "must give logits (N, 10) for images (N, 1, 8, 8), but gave ('N', 11)",
    "colour": "does not take images of (1, 8, 8): RuntimeError: Given groups=1, weight of size [8, 4, 3, 3], expected",
    "Branching": f"cannot be traced by torch.fx: line {line_of('return x if')}: TraceError: symbolically traced",
    "Auxiliary": "its network computes something else in training than in evaluation",
    "attention": "none of the layers 1, 2, 3 has a binary form",
    "nothing": "its module has no nothing",
}


@pytest.mark.parametrize("factory", BROKEN)
def test_what_is_no_network_of_these_images(home: Path, factory: str) -> None:
    write({**SPACE, "trial": {**TRIAL, "model": {"name": "torch", "factory": f"nets:{factory}"}}})
    said = call("run", "space.yaml", "--executor", "local", code=2)
    line = said.splitlines()[-1]
    assert f"factory nets:{factory}: " in line
    assert BROKEN[factory] in line
    assert not list(Path("runs").glob("*/*")), "no search began"


def test_a_module_that_is_not_there_is_named_with_its_place(home: Path) -> None:
    write({**SPACE, "trial": {**TRIAL, "model": {"name": "torch", "factory": "nowhere:make"}}})
    said = call("validate", "space.yaml", code=2)
    assert said.startswith(
        "space.yaml:19:14: trial.model: factory nowhere:make: there is no module nowhere here; a file"
    )


def test_what_has_no_packed_form_is_named_before_anything_trains(home: Path) -> None:
    space = {**SPACE, "trial": {**TRIAL, "model": {"name": "torch", "factory": "nets:shuffled"}}}
    write(space)
    said = call("run", "space.yaml", "--executor", "local", code=2)
    assert (
        "cannot be packed: the function roll has no packed form; with `pack: false` it is trained nonetheless" in said
    )
    call("run", "space.yaml", "--executor", "local", "--set", "trial.model.pack=false", "--set", "budget.trials=1")
    assert [result.state for result in read_past(study()).results] == ["complete"]


def test_one_that_fails_is_a_failed_trial_with_its_reason(home: Path) -> None:
    limits = {"type": "choice", "values": [20, 5]}
    model = {"name": "torch", "factory": "own:make", "arguments": {"limit": limits}}
    own = NETS + "\n\ndef make(num_classes, limit):\n    raises(num_classes, limit)\n    return sequential(10, 1)\n"
    (home / "own.py").write_text(own)
    write({**SPACE, "use": ["./own.py"], "sampler": {"name": "grid"}, "trial": {**TRIAL, "model": model}})
    call("run", "space.yaml", "--executor", "local")
    results = sorted(read_past(study()).results, key=lambda result: result.state)
    assert [result.state for result in results] == ["complete", "failed"]
    line = f"line {line_of('raise ValueError')}"
    assert results[1].reason == f"model.factory own:make: raised: {line}: ValueError: no such luck"
    assert f'own.py", {line}' in study().log.read_text()


def test_it_goes_all_the_way_to_a_packed_network(home: Path) -> None:
    assert "uses nets.py: factories" in call("validate", "space.yaml")
    call("run", "space.yaml", "--executor", "local")
    call("export", "-o", "elsewhere/best.yaml", "--no-register")
    call("train", "elsewhere/best.yaml", "-o", "prod", "--no-track")
    for folder in (home, home / "elsewhere"):
        (folder / "nets.py").unlink()
    guests._LOADED.clear()
    families.GUESTS.clear()
    assert "validation images" in call("pack", "prod", "-o", "model.bnn")
    model = PackedModel.load(Path("model.bnn"))
    assert model.shape == SHAPE
    assert len(model.classes) == 10


def test_it_learns_from_its_real_twin(home: Path) -> None:
    taught = {**TRIAL, "use": ["./nets.py"], "distill": {"teacher": {"name": "twin", "plan": {"epochs": 1}}}}
    (home / "taught.yaml").write_text(yaml.safe_dump(taught))
    call("train", "taught.yaml", "-o", "taught", "--no-track")


@pytest.mark.slow
def test_a_module_outside_of_use_travels_and_is_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch, small_ray: None
) -> None:
    """Workers have it without the file; its digest is in the record and in what trained networks are told apart by."""
    (home / "lib").mkdir()
    (home / "nets.py").rename(home / "lib" / "nets_of_mine.py")
    monkeypatch.syspath_prepend(str(home / "lib"))
    trial = {**TRIAL, "model": {"name": "torch", "factory": "nets_of_mine:Residual"}}
    write({key: value for key, value in {**SPACE, "trial": trial}.items() if key != "use"})
    space = load_space(home / "space.yaml")
    (guest,) = space.guests
    assert (guest.entry, list(guest.files)) == ("nets_of_mine", ["nets_of_mine.py"])
    first = fingerprint(TrialConfig.model_validate({**trial, "seed": 1}))
    (home / "lib" / "nets_of_mine.py").write_text("changed = True\n")
    assert fingerprint(TrialConfig.model_validate({**trial, "seed": 1})) != first
    (home / "lib" / "nets_of_mine.py").unlink()
    monkeypatch.undo()
    outcome = run_study(space, study_dir=home / "study", executor=RayExecutor())
    assert [result.state for result in outcome.results] == ["complete"] * 2
    (session,) = (event for event in Reader(home / "study" / "study.record").events(("session",)))
    assert session["guests"] == [{"entry": "nets_of_mine", "digest": guest.digest}]


def test_torchvisions_is_recorded_and_need_not_travel(home: Path) -> None:
    write(
        {**SPACE, "use": [], "trial": {**TRIAL, "model": {"name": "torch", "factory": "torchvision.models:resnet18"}}}
    )
    (guest,) = load_space(home / "space.yaml").guests
    assert guest.entry == "torchvision.models"
    assert guest.digest
    assert not guest.files


def test_the_factory_itself_may_be_searched(home: Path) -> None:
    places = ["torchvision.models:resnet18", "torchvision.models.mobilenet:mobilenet_v2", "nets:Residual"]
    searched = {"name": "torch", "factory": {"type": "choice", "values": places}}
    write({**SPACE, "trial": {**TRIAL, "model": searched}})
    entries = [each.entry for each in load_space(home / "space.yaml").guests]
    assert entries == ["nets.py", "torchvision.models", "torchvision.models.mobilenet"]


def test_editors_know_its_settings() -> None:
    settings = json.dumps(space_schema()["$defs"]["searched.TorchConfig"])
    assert all(f'"{name}"' in settings for name in ("factory", "arguments", "keep_real", "grouped", "pack"))
