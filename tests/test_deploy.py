"""From a trained network to its 1-bit model: the same labels, measured costs, refusals."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from bnnsearch.cli import main
from bnnsearch.config.activation import ActivationSettings
from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.families import ACTIVATIONS
from bnnsearch.config.method import SteConfig
from bnnsearch.config.model import ActivatedSettings, MlpConfig
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.binarize import sign
from bnnsearch.core.data import load_data
from bnnsearch.deploy import compare, deployed_costs, exported, pack_run, rounding_decides, unpackable
from bnnsearch.errors import DataError, EnvironmentProblem
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.predict import predict_files
from bnnsearch.space import load_space
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import run_study
from bnnsearch.training import train
from bnnsearch.trial import build_trainer

SPACES = Path(__file__).parents[1] / "spaces"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialConfig, Path]:
    config = TrialConfig(
        data=DigitsConfig(), model=MlpConfig(hidden=(64,)), method=SteConfig(), plan=PlanConfig(epochs=4), seed=0
    )
    out = tmp_path_factory.mktemp("trained")
    assert train(config, out).test["test_acc"] > 0.8
    return config, out


def test_a_packed_run_predicts_what_was_trained(trained: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    config, run = trained
    data = load_data(config.data)
    packed = pack_run(run, tmp_path / "model.bnn")
    assert packed.checked == len(data.val)
    assert packed.bytes == (tmp_path / "model.bnn").stat().st_size
    labels = PackedModel.load(tmp_path / "model.bnn").predict(data.test.images.numpy())
    accuracy = float((labels == data.test.labels.numpy()).mean())
    assert accuracy == pytest.approx(json.loads((run / "result.json").read_text())["test"]["test_acc"], abs=1e-6)


def test_a_network_that_predicts_otherwise_is_not_what_was_trained(
    trained: tuple[TrialConfig, Path], tmp_path: Path
) -> None:
    config, run = trained
    data, other = load_data(config.data), build_trainer(config.model_copy(update={"seed": 1}), trains=False)
    pack_run(run, tmp_path / "model.bnn")
    with pytest.raises(EnvironmentProblem, match=r"differs from the trained one on \d+ of 143 images"):
        compare(PackedModel.load(tmp_path / "model.bnn"), exported(other), data.val)


def test_rounding_decides_only_where_a_sum_all_but_meets_a_threshold() -> None:
    """Of the sign that takes a = b for 1, and so class 0."""

    class Larger(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            above = sign(x.flatten(1)[:, :1] - x.flatten(1)[:, 1:])
            return torch.cat((above, -above), dim=1)

    tie, near = torch.tensor([0.7, 0.7]), torch.tensor([0.7, 0.7 * (1 - 1e-3)])
    assert [rounding_decides(Larger(), image.view(1, 1, 2), 1) for image in (tie, near)] == [True, False]


def test_image_files_are_labelled(trained: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    from PIL import Image

    config, run = trained
    pack_run(run, tmp_path / "model.bnn")
    model = PackedModel.load(tmp_path / "model.bnn")
    images = load_data(config.data).test.images[:5].numpy()
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image[0]).save(path)
    found = list(predict_files(model, paths))
    assert [each.label for each in found] == model.predict(images).tolist()
    assert [each.name for each in found] == [str(each.label) for each in found]
    for each in found:
        assert each.scores.sum() == pytest.approx(1) and each.scores.argmax() == each.label
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: expected an image, but it cannot be decoded \(none of BMP, "):
        list(predict_files(model, [tmp_path / "text.png"]))


def test_a_damaged_checkpoint_is_refused(trained: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    for file in trained[1].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = bytearray((tmp_path / "checkpoint.pt").read_bytes())
    content[-10] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(bytes(content))
    with pytest.raises(EnvironmentProblem, match="damaged"):
        pack_run(tmp_path, tmp_path / "model.bnn")
    assert not (tmp_path / "model.bnn").exists()


def test_costs_of_deployment_are_measured_before_training() -> None:
    def costs(hidden: tuple[int, ...]) -> dict[str, float]:
        model = MlpConfig(hidden=hidden)
        config = TrialConfig(data=DigitsConfig(), model=model, method=SteConfig(), plan=PlanConfig(epochs=1), seed=0)
        return deployed_costs(config, build_trainer(config))

    small, large = costs((64,)), costs((4096, 4096))
    assert large["packed_bytes"] - small["packed_bytes"] > 4096 * 4096 / 8
    assert large["latency_ms"] > small["latency_ms"]  # 65 times the sums: no noise hides it


class _SoftplusConfig(ActivationSettings):
    """An activation of one's own, which no operation of a packed model is."""

    builder: ClassVar[str] = f"{__name__}:_build_softplus"
    name: Literal["softplus"] = "softplus"
    beta: float = 2.0


def _build_softplus(config: _SoftplusConfig, network: ActivatedSettings, channels: int) -> nn.Module:
    return nn.Softplus(config.beta)


class _LeakyConfig(_SoftplusConfig):
    """One that is made of what can be packed."""

    builder: ClassVar[str] = f"{__name__}:_build_leaky"
    name: Literal["leaky"] = "leaky"  # type: ignore[assignment]


def _build_leaky(config: _LeakyConfig, network: ActivatedSettings, channels: int) -> nn.Module:
    return nn.Sequential(nn.PReLU(channels, init=1 / config.beta), nn.Hardtanh(-3.0, 3.0))


@pytest.fixture
def own_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, place in {"softplus": "_SoftplusConfig", "leaky": "_LeakyConfig"}.items():
        monkeypatch.setitem(ACTIVATIONS.members, name, f"{__name__}:{place}")  # type: ignore[arg-type]


def own(activation: Any) -> TrialConfig:
    model = {"name": "mlp", "hidden": [32, 32], "activation": activation}
    plan = {"epochs": 1, "bn_batches": 2}
    return TrialConfig.model_validate(
        {"data": {"name": "digits", "train_limit": 200}, "model": model, "method": {"name": "ste"}, "plan": plan}
    )


@pytest.mark.usefixtures("own_activations")
def test_an_activation_of_ones_own_is_trained_and_packed(tmp_path: Path) -> None:
    config = own({"name": "leaky", "beta": 4.0})
    assert config.model_dump()["model"]["activation"] == {"name": "leaky", "beta": 4.0}
    assert unpackable(config) is None
    train(config, tmp_path / "run")
    packed = pack_run(tmp_path / "run", tmp_path / "model.bnn")
    assert packed.checked == len(load_data(config.data).val)


@pytest.mark.usefixtures("own_activations")
def test_what_cannot_be_packed_is_said_before_training(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(json.dumps(own("softplus").model_dump()))
    ended = CliRunner().invoke(main, ["train", str(tmp_path / "own.yaml"), "-o", str(tmp_path / "run"), "--no-track"])
    assert ended.exit_code == 0, ended.output
    warning = "warning: this network cannot be packed: layer1.act, a Softplus, has no packed form"
    said = " ".join(ended.output.split())
    assert warning in said
    assert said.index(warning) < said.index("val_acc")


def test_latency_is_an_axis_of_the_front(tmp_path: Path) -> None:
    space = load_space(SPACES / "digits_latency.yaml", overrides=["budget.trials=6", "sampler.startup_trials=6"])
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor())
    latencies = [result.metrics["latency_ms"] for result in outcome.results]
    assert len(latencies) == 6
    assert np.isfinite(latencies).all()
    assert min(latencies) > 0
    assert {result.config["name"] for result in outcome.results} == {"mlp", "cnn"}
