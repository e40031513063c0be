"""Distillation: the losses by hand, teachers of every kind, chains of them, and runs that start from weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from torch import Tensor, nn
from torchvision import models
from training_fixtures import digits, repeatable, trial

from bnnsearch.cli import main
from bnnsearch.config.activation import RpreluConfig
from bnnsearch.config.distill import TwinConfig
from bnnsearch.config.model import BrnConfig, Realtobinary18Config, Resnet20Config
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.cost import model_cost
from bnnsearch.core.data import Dataset, Split, eval_batches
from bnnsearch.core.data.imagenet import MEAN, STD
from bnnsearch.core.distill import Distillation, attention_loss, check_units, distillation_loss, unit_names
from bnnsearch.core.evaluation import evaluate
from bnnsearch.core.layers import RSign, Sign, binary_layers
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import RealConv2d, SoftRSign, real_twin
from bnnsearch.core.models.vision import torchvision_network
from bnnsearch.core.teacher import RunBuilder, check_sources, fingerprint
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import DataError, EnvironmentProblem, InputError
from bnnsearch.space.reader import read_tree
from bnnsearch.training import train
from bnnsearch.trial import build_trainer

STUDENT, TEACHER = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])


def test_loss_and_its_gradient_by_hand() -> None:
    student = STUDENT.clone().requires_grad_()
    loss = distillation_loss(student, TEACHER)
    loss.backward()
    assert loss.item() == pytest.approx(1.229554, abs=1e-6)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.tensor([[0.267678, -0.097746, -0.169932]]), atol=1e-6, rtol=0)


def test_loss_exceeds_the_entropy_of_the_teacher_by_the_divergence() -> None:
    divergence = distillation_loss(STUDENT, TEACHER) - distillation_loss(TEACHER, TEACHER)
    assert divergence.item() == pytest.approx(0.254226, abs=1e-6)


def test_loss_is_a_mean_over_images() -> None:
    repeated = distillation_loss(STUDENT.repeat(5, 1), TEACHER.repeat(5, 1))
    torch.testing.assert_close(repeated, distillation_loss(STUDENT, TEACHER))


def test_attention_by_hand() -> None:
    # squares summed over channels: (9, 0) and (0, 16); as maps of length 1 (1, 0) and (0, 1): squared distance 2
    student = torch.tensor([[[[3.0, 0.0]]], [[[1.0, 1.0]]]])
    teacher = torch.tensor([[[[0.0, 4.0]], [[0.0, 0.0]]], [[[2.0, 2.0]], [[1.0, -1.0]]]])
    assert attention_loss(student, teacher).item() == pytest.approx((2 + 0) / 2, abs=1e-6)


def test_labels_count_where_they_have_a_weight() -> None:
    teacher = nn.Linear(3, 3, bias=False)  # of the first image its logits are TEACHER
    nn.init.eye_(teacher.weight)
    loss = Distillation(teacher, nn.Identity(), labels=0.5)(TEACHER, STUDENT, torch.tensor([1]))
    assert loss.item() == pytest.approx(1.229554 + 0.5 * 2.169846, abs=1e-6)  # log(e^2 + 1 + e^-1)


LABELS = torch.arange(4)


def resnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(Resnet20Config(width=0.25), shape=(1, 8, 8), classes=10)


def test_attention_reaches_every_unit_of_the_student() -> None:
    student, teacher = resnet(), resnet(1)
    distillation = Distillation(teacher, student, attention=1.0)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with_attention = distillation(images, student(images), LABELS)
    without = Distillation(resnet(1), student)(images, student(images), LABELS)
    assert with_attention > without
    with_attention.backward()
    assert all(layer.weight.grad is not None for layer in binary_layers(student).values())
    assert len(unit_names(student)) == len(binary_layers(student)) == 18


def test_attention_pairs_units_by_name_also_where_weights_are_real() -> None:
    student, names = resnet(), unit_names(resnet())
    assert names == [f"stage{stage}.{place}" for stage in (1, 2, 3) for place in range(6)]
    assert unit_names(real_twin(student)) == unit_names(real_twin(student, "tanh")) == names
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    teacher = real_twin(student, "binary")
    outputs: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, place: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[name] = (*outputs.get(name, ())[:place], output)

        return hook

    distillation = Distillation(teacher, student, attention=2.0)
    for place, model in enumerate((student, teacher)):
        for name in names:
            model.get_submodule(name).register_forward_hook(keep(name, place))
    logits = student(images)
    loss = distillation(images, logits, LABELS)
    by_hand = distillation_loss(logits, teacher(images)) + 2 * sum(attention_loss(*pair) for pair in outputs.values())
    torch.testing.assert_close(loss, by_hand)


def test_attention_that_cannot_pair_is_refused() -> None:
    with torch.random.fork_rng():
        brn = build_model(BrnConfig(width=0.25), shape=(1, 8, 8), classes=10)
    with pytest.raises(
        InputError, match=r"maps of one size in stage1.0, but the student's is 8x8 and the teacher's 4x4"
    ):
        check_units(resnet(), brn, (1, 8, 8))
    with pytest.raises(InputError, match=r"units in the teacher, which has no stage1.0"):
        check_units(resnet(), models.resnet18(), (3, 32, 32))


def test_the_real_twin_of_resnet20_is_he_et_als() -> None:
    settings = Resnet20Config(shortcut_every=2, head_norm=False, width=0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        twin = real_twin(build_model(settings, shape=(3, 16, 16), classes=10)).eval()
        images = torch.randn(2, 3, 16, 16)

    def layer(x: Tensor, unit: nn.Module) -> Tensor:
        out: Tensor = unit.get_submodule("norm")(unit.get_submodule("conv")(x))
        return out

    with torch.no_grad():
        x = layer(images, twin.get_submodule("stem")).relu()
        for stage in (1, 2, 3):
            for unit in twin.get_submodule(f"stage{stage}").children():
                residual = layer(layer(x, unit.get_submodule("first")).relu(), unit)
                x = (residual + unit.get_submodule("shortcut")(x)).relu()
        expected = twin.get_submodule("head.classifier")(x.mean(dim=(2, 3)))
        torch.testing.assert_close(twin(images), expected)
    assert sum(isinstance(module, RealConv2d) for module in twin.modules()) == 18


@pytest.mark.parametrize(
    "kind", [Resnet20Config(width=0.25, activation=RpreluConfig()), Realtobinary18Config(width=0.05)]
)
def test_soft_and_binary_twins_keep_all_but_weights_and_scales(kind: Any) -> None:
    with torch.random.fork_rng():
        model = build_model(kind, shape=(1, 32, 32), classes=10)
        soft, hard = real_twin(model, "tanh"), real_twin(model, "binary")
    names = {name for name in model.state_dict() if not name.endswith(".alpha")}
    assert soft.state_dict().keys() == hard.state_dict().keys() == names
    assert not binary_layers(soft) and not binary_layers(hard)
    signs = [module for module in hard.modules() if isinstance(module, Sign | RSign)]
    assert len(signs) == sum(isinstance(module, RealConv2d) for module in soft.modules()) == len(binary_layers(model))
    assert not any(isinstance(module, Sign | RSign) for module in soft.modules())


def test_the_soft_sign_is_tanh_at_the_same_threshold() -> None:
    sign = RSign(2)
    nn.init.constant_(sign.bias, 0.5)
    torch.testing.assert_close(SoftRSign(sign.bias)(torch.zeros(1, 2)), torch.full((1, 2), 0.462117))  # tanh .5


MODEL = {"name": "cnn", "channels": [8, 16, 32], "scale": "learned"}
QUICK = {"optimizer": {"name": "adam"}, "plan": {"epochs": 2}}


def distilled(teacher: dict[str, Any], *, epochs: int = 2, attention: float = 0.0, **sections: Any) -> TrialConfig:
    distill = {"teacher": teacher, "attention": attention}
    return trial({"name": "ste"}, **{"epochs": epochs, "model": MODEL, "distill": distill, **sections})


def started(start: dict[str, Any], **sections: Any) -> TrialConfig:
    return trial({"name": "ste"}, **{"epochs": 2, "model": MODEL, "start": start, **sections})


def builder(kept: Path | None = None, **settings: Any) -> RunBuilder:
    return RunBuilder(digits(), kept=kept, **settings)


def learned_from(trainer: GradientTrainer) -> nn.Module:
    assert trainer._distillation is not None
    return trainer._distillation.teacher


def accuracy(model: nn.Module) -> float:
    return evaluate(model, eval_batches(digits().val, batch_size=200))[0]


def kept_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pt"))


def test_a_student_learns_from_the_teacher_alone(tmp_path: Path) -> None:
    trainer = builder().trainer(distilled({"name": "twin", **QUICK, "plan": {"epochs": 4}}, epochs=5))
    teacher = learned_from(trainer)
    assert accuracy(teacher) > 0.9
    assert not binary_layers(teacher)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    *_, last = trainer.fit()
    assert last.values["val_acc"] > 0.8
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())


def test_a_kept_teacher_is_the_trained_one(tmp_path: Path) -> None:
    config = distilled({"name": "twin", **QUICK})

    def state(kept: Path | None) -> dict[str, Tensor]:
        return learned_from(builder(kept).trainer(config)).state_dict()

    trained_anew, trained_and_kept, kept = state(None), state(tmp_path), state(tmp_path)
    assert all(torch.equal(trained_and_kept[name], value) for name, value in trained_anew.items())
    assert all(torch.equal(kept[name], value) for name, value in trained_anew.items())
    assert len(kept_in(tmp_path)) == 1


def test_a_damaged_kept_teacher_is_trained_anew(tmp_path: Path) -> None:
    config = distilled({"name": "twin", **QUICK})
    before = learned_from(builder(tmp_path).trainer(config)).state_dict()
    (path,) = kept_in(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    after = learned_from(builder(tmp_path).trainer(config)).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    load_checkpoint(path)


def test_the_teacher_depends_on_nothing_of_the_student_but_data_and_model(tmp_path: Path) -> None:
    own = {"name": "network", "model": MODEL, **QUICK, "batch_size": 32, "augment": ["shift"]}
    same = [
        distilled(own),
        distilled(own, seed=5, epochs=3, attention=0.0),
        distilled(own, optimizer={"name": "sgd"}, recu={}),
        distilled(own, model={"name": "mlp"}),
        distilled(own, data={"name": "digits", "batch_size": 128, "augment": ["rotation"]}),
    ]
    for config in same:
        builder(tmp_path).trainer(config)
    assert len(kept_in(tmp_path)) == 1
    other = [{**own, "augment": []}, {**own, "batch_size": 64}, {**own, "seed": 1}, {**own, "plan": {"epochs": 1}}]
    for teacher in other:
        builder(tmp_path).trainer(distilled(teacher))
    assert len(kept_in(tmp_path)) == 1 + len(other)
    twins = [distilled({"name": "twin", **QUICK, "activations": kind}) for kind in ("relu", "tanh", "binary")]
    for config in twins:
        builder(tmp_path).trainer(config)
    assert len(kept_in(tmp_path)) == 1 + len(other) + len(twins)


def test_a_teacher_may_be_another_network_with_binary_weights() -> None:
    source = {"name": "network", "model": {"name": "mlp"}, "activations": "binary", "method": {"name": "ste"}, **QUICK}
    teacher = learned_from(builder().trainer(distilled(source)))
    weights = [layer.weight for layer in binary_layers(teacher).values()]
    assert weights and all(torch.equal(weight.abs(), torch.ones_like(weight)) for weight in weights)
    assert accuracy(teacher) > 0.7


def test_a_teachers_predictions_are_charged_by_its_own_network() -> None:
    teacher = {"name": "network", "model": {"name": "mlp", "hidden": [32]}, **QUICK}
    run = builder().trainer(distilled(teacher))
    forward = 2 * 20 * 64 * (64 * 32 + 32 * 10) / 3  # a third of the three products of each MAC, at 32 bits
    plain = builder().trainer(distilled(teacher).alone())
    assert run.costs()["train_bitops"] == pytest.approx(plain.costs()["train_bitops"] + forward)


def test_distilled_runs_repeat() -> None:
    config = distilled({"name": "twin", **QUICK}, attention=1.0)
    runs = [repeatable(builder().trainer(config).fit()) for _ in range(2)]
    assert runs[0] == runs[1]


def test_a_teacher_that_is_killed_in_training_goes_on(tmp_path: Path) -> None:
    config = distilled({"name": "twin", **QUICK, "plan": {"epochs": 3}})
    whole = learned_from(builder(tmp_path / "whole").trainer(config)).state_dict()
    told: list[tuple[str, int]] = []

    def die(metrics: EpochMetrics) -> None:
        told.append((metrics.phase, metrics.epoch))
        if len(told) == 2:  # its state is on disk
            raise KeyboardInterrupt

    parts = builder(tmp_path / "parts", interval=0, on_epoch=die)
    with pytest.raises(KeyboardInterrupt):
        parts.trainer(config)
    assert not kept_in(tmp_path / "parts")
    resumed = learned_from(parts.trainer(config)).state_dict()
    assert told == [("teacher train", epoch) for epoch in (1, 2, 3)]
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert not list((tmp_path / "parts").glob("*.unfinished"))


def weights_of(trainer: GradientTrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def test_a_run_starts_with_the_weights_of_another() -> None:
    steps = {"name": "twin", "activations": "binary", **QUICK}
    config = started(steps)
    (kept,) = [builder().trained_run(config.start, config, "start")]
    begun = weights_of(builder().trainer(config))
    assert {name for name in begun if name not in kept.weights} == {"layer2.conv.alpha", "layer3.conv.alpha"}
    assert all(torch.equal(begun[name], value) for name, value in kept.weights.items())
    for name in ("layer2.conv", "layer3.conv"):
        magnitudes = kept.weights[f"{name}.weight"].abs().mean(dim=(1, 2, 3), keepdim=True)
        torch.testing.assert_close(begun[f"{name}.alpha"], magnitudes)


def test_what_a_run_starts_with_is_charged() -> None:
    config = started({"name": "twin", "activations": "binary", **QUICK})
    first = builder().trained_run(config.start, config, "start").spent["train_bitops"]
    alone, trainer = builder().trainer(config.alone()), builder().trainer(config)
    assert trainer.costs()["train_bitops"] == pytest.approx(first + alone.costs()["train_bitops"])
    *_, last = trainer.fit()
    assert last.values["train_bitops"] == pytest.approx(trainer.costs()["train_bitops"])


def test_costs_are_known_before_any_network_is_trained(tmp_path: Path) -> None:
    start = {"name": "twin", "activations": "binary", **QUICK, "distill": {"teacher": {"name": "twin", **QUICK}}}
    config = started(start, distill={"teacher": {"name": "network", "model": {"name": "mlp"}, **QUICK}})
    told: list[EpochMetrics] = []
    planned = build_trainer(config, trains=False, kept=tmp_path, on_epoch=told.append).costs()
    assert not told and not kept_in(tmp_path)
    assert planned == build_trainer(config).costs()


def test_a_start_with_other_layers_is_refused() -> None:
    wide = {"name": "network", "model": {**MODEL, "width": 2.0}, **QUICK, "plan": {"epochs": 1}}
    with pytest.raises(InputError, match=r"none of the shape \(8, 1, 3, 3\) for layer1.conv.weight \(4 of 4"):
        builder().trainer(started(wide))


def test_a_checkpoint_teaches_and_starts(tmp_path: Path) -> None:
    config = trial({"name": "ste"}, epochs=2, model=MODEL)
    train(config, tmp_path / "run")
    done = build_trainer(config)
    done.load_state_dict(load_checkpoint(tmp_path / "run" / "checkpoint.pt")["trainer"])
    assert isinstance(done, GradientTrainer)
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoint.pt"):
        source = {"name": "checkpoint", "path": str(path)}
        teacher = learned_from(builder().trainer(distilled(source)))
        exported = done.sign_network().state_dict()
        assert all(torch.equal(value, exported[name]) for name, value in teacher.state_dict().items())
        begun = weights_of(builder().trainer(started(source)))
        assert all(torch.equal(value, begun[name]) for name, value in weights_of(done).items())


def test_a_checkpoint_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    train(trial({"name": "ste"}, epochs=1, model=MODEL), tmp_path / "run")
    config = distilled({"name": "checkpoint", "path": str(tmp_path / "run")})
    data = digits()
    with pytest.raises(DataError, match=r"trained on the classes 0, 1, .* 9, but the data set has 0, 1, .* 6$"):
        RunBuilder(replace(data, classes=7, names=())).trainer(config)
    colour = colour_digits(MEAN, STD)
    with pytest.raises(InputError, match=r"fit images \(3, 32, 32\) in 10 classes, but size mismatch for") as refused:
        RunBuilder(colour).trainer(config)
    assert "\n" not in str(refused.value)
    for path, problem in ((tmp_path / "none", "No such file"), (tmp_path / "run" / "trial.json", "not a checkpoint")):
        with pytest.raises(EnvironmentProblem, match=problem):
            check_sources(distilled({"name": "checkpoint", "path": str(path)}))
    saved = load_checkpoint(tmp_path / "run" / "checkpoint.pt")
    save_checkpoint(tmp_path / "run" / "checkpoint.pt", {**saved, "trainer": {**saved["trainer"], "format": 1}})
    with pytest.raises(EnvironmentProblem, match=r"run/checkpoint.pt: written by another version") as refused_format:
        builder().trainer(config)
    assert "\n" not in str(refused_format.value)
    save_checkpoint(tmp_path / "bare.pt", {"trainer": {}})
    with pytest.raises(InputError, match=r"with its config, but it holds trainer"):
        check_sources(distilled({"name": "checkpoint", "path": str(tmp_path / "bare.pt")}))


def test_a_hash_follows_the_content_of_a_checkpoint(tmp_path: Path) -> None:
    config = distilled({"name": "checkpoint", "path": str(tmp_path / "a.pt")})
    found = [fingerprint(config)]
    for value in (1, 2):
        save_checkpoint(tmp_path / "a.pt", {"value": value})
        found.append(fingerprint(config))
    assert len(set(found)) == 3


def colour_digits(mean: tuple[float, ...], std: tuple[float, ...]) -> Dataset:
    def coloured(split: Any) -> Split:
        return replace(split, images=split.images.repeat(1, 3, 4, 4), mean=mean, std=std)

    data = digits()
    return Dataset(*(coloured(split) for split in (data.train, data.val, data.test)), classes=10, shape=(3, 32, 32))


def test_weights_of_torchvision_teach(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = models.resnet18(num_classes=10).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
    source = {"name": "torchvision", "model": "resnet18", "path": str(tmp_path / "resnet18.pth")}
    config = distilled(source, epochs=1)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = reference((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    for mean, std in ((MEAN, STD), ((0.3, 0.2, 0.1), (0.5, 0.6, 0.7))):
        data = colour_digits(mean, std)
        assert config.distill is not None
        teacher = torchvision_network(config.distill.teacher, data).eval()  # type: ignore[arg-type]
        seen = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(teacher(seen), expected)
        # a 3x3 convolution of torchvision's first stage: 64 x 64 x 9 on 8 x 8
        macs = {layer.name.removeprefix("network."): layer.macs for layer in model_cost(teacher, data.shape).layers}
        assert macs["layer1.0.conv1"] == 64 * 64 * 9 * 8 * 8
        RunBuilder(data).trainer(config)


def test_weights_of_torchvision_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(models.resnet18(num_classes=7).state_dict(), tmp_path / "seven.pth")
    (tmp_path / "text.pth").write_text("no state")
    torch.save([1, 2], tmp_path / "list.pth")
    data = colour_digits(MEAN, STD)

    def refusal(error: type[Exception], data: Dataset = data, **source: Any) -> str:
        config = distilled({"name": "torchvision", "model": "resnet18", **source})
        with pytest.raises(error) as refused:
            RunBuilder(data).trainer(config)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    seven = str(tmp_path / "seven.pth")
    assert "must be resnet18's for 10 classes, but size mismatch for fc.bias" in refusal(InputError, path=seven)
    assert "takes images of 3 channels, but those of the data have 1" in refusal(InputError, digits(), path=seven)
    assert "no classifier 'resnet19'; allowed: alexnet" in refusal(InputError, model="resnet19")
    assert "no weights 'V9' of resnet18; allowed: IMAGENET1K_V1" in refusal(InputError, weights="V9")
    assert "No such file" in refusal(EnvironmentProblem, path=str(tmp_path / "none.pth"))
    assert "cannot be read as a state dict" in refusal(EnvironmentProblem, path=str(tmp_path / "text.pth"))
    assert "it holds something else" in refusal(EnvironmentProblem, path=str(tmp_path / "list.pth"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: nothing listens there
    assert "IMAGENET1K_V1 of torchvision's resnet18 could not be downloaded" in refusal(EnvironmentProblem)


@pytest.mark.parametrize(
    ("sections", "rule"),
    [
        ({"start": {"name": "teacher"}}, "start: teacher needs distill.teacher, but distill is null"),
        (
            {"start": {"name": "teacher"}, "distill": {"teacher": {"name": "torchvision"}}},
            "start: teacher needs a teacher with layers of ours, but got torchvision",
        ),
        (
            {"distill": {"teacher": {"name": "torchvision"}, "attention": 1.0}},
            "must be 0 with teacher torchvision, but got 1.0",
        ),
        (
            {"distill": {"teacher": {"name": "twin", "method": {"name": "ste"}}}},
            "activations must be binary, but got relu",
        ),
        (
            {"start": {"name": "twin", "activations": "binary", "method": {"name": "bnew"}, "plan": {"epochs": 9}}},
            "must hold, but got",
        ),
        ({"distill": {"teacher": {"name": "network"}}}, "Field required"),
        ({"distill": {}}, "Field required"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(sections: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule.replace(".", r"\.")):
        trial({"name": "ste"}, **sections)


def example(name: str, tmp_path: Path) -> TrialConfig:
    """The page's example, but with small networks, two epochs for each step, other images and a teacher from a file."""

    def small(tree: Any) -> Any:
        match tree:
            case {"name": "torchvision"}:
                return {"name": "torchvision", "model": "resnet18", "path": str(tmp_path / "resnet18.pth")}
            case {"name": "reactnet_a" | "realtobinary18" | "bireal18"}:
                return {**tree, "width": 1 / 16}
            case {"epochs": _}:
                return {**tree, "epochs": 2, "warmup_epochs": 0.1}
            case dict():
                return {key: small(value) for key, value in tree.items() if key not in {"data", "batch_size"}}
            case _:
                return tree

    page = (Path(__file__).parents[1] / "docs" / "teachers.md").read_text(encoding="utf-8")
    text = page.partition(f"<!-- test: {name} -->\n```yaml\n")[2].partition("```")[0]
    tree = read_tree(text.encode(), "docs/teachers.md").plain
    TrialConfig.model_validate(tree)
    data = {"name": "digits", "batch_size": 128, "train_limit": 300}
    return TrialConfig.model_validate({**small(tree), "data": data})


@pytest.fixture
def coloured(tmp_path: Path) -> Dataset:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18(num_classes=10).state_dict(), tmp_path / "resnet18.pth")
    data = colour_digits(MEAN, STD)
    assert isinstance(data.train, Split) and isinstance(data.val, Split)
    few = torch.arange(128)
    return replace(data, train=data.train.take(few), val=data.val.take(few[:100]))


def carried(begun: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """All that `begun` has is that of `kept`, but for scales, which real weights do not have."""
    assert {name for name in begun if name not in kept} == {name for name in begun if name.endswith(".alpha")}
    assert all(torch.equal(begun[name], value) for name, value in kept.items())


def test_the_page_trains_reactnet_in_two_steps(tmp_path: Path, coloured: Dataset) -> None:
    config = example("reactnet", tmp_path)
    kept = tmp_path / "kept"
    told: list[str] = []
    run = RunBuilder(coloured, kept=kept, on_epoch=lambda metrics: told.append(metrics.phase)).trainer(config)
    assert told == ["start train"] * 2
    (path,) = kept_in(kept)
    first = load_checkpoint(path)["weights"]
    carried(weights_of(run), first)
    assert len(binary_layers(run.network)) == 26
    assert type(learned_from(run)).__name__ == "ResNet"
    assert config.start is not None and config.start.optimizer.weight_decay == 1e-5
    assert config.optimizer.weight_decay == 0
    whole = repeatable(run.fit())
    assert repeatable(RunBuilder(coloured, kept=kept).trainer(config).fit()) == whole


def test_the_page_trains_a_chain_of_teachers_and_a_killed_one_goes_on(tmp_path: Path, coloured: Dataset) -> None:
    config = example("realtobinary", tmp_path)
    whole = RunBuilder(coloured, kept=tmp_path / "whole").trainer(config)
    told: list[int] = []

    def die(metrics: EpochMetrics) -> None:
        told.append(metrics.epoch)
        if len(told) in (2, 4):  # at the end of the first teacher's training, and of the second's
            raise KeyboardInterrupt

    parts = RunBuilder(coloured, kept=tmp_path / "parts", interval=0, on_epoch=die)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            parts.trainer(config)
    run = parts.trainer(config)
    assert told == [1, 2, 1, 2, 1, 2]
    assert len(kept_in(tmp_path / "parts")) == 3
    assert config.distill is not None and isinstance(config.distill.teacher, TwinConfig)
    last = parts.trained_run(config.distill.teacher, config, "teacher")
    assert len(told) == 6  # it is the kept one
    carried(weights_of(run), last.weights)
    teacher = learned_from(run)
    assert not binary_layers(teacher) and any(isinstance(module, Sign) for module in teacher.modules())
    assert all(torch.equal(value, last.network.state_dict()[name]) for name, value in teacher.state_dict().items())
    assert all(torch.equal(value, weights_of(whole)[name]) for name, value in weights_of(run).items())
    assert repeatable(run.fit()) == repeatable(whole.fit())


def test_a_killed_student_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    first = {"name": "twin", "activations": "binary", **QUICK}
    config = distilled({"name": "twin", **QUICK}, attention=1.0, start=first, epochs=3)
    phases: list[str] = []

    def die(metrics: EpochMetrics) -> None:
        phases.append(metrics.phase)
        if phases.count("train") == 2:
            raise KeyboardInterrupt

    whole = train(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "parts", on_epoch=die)
    resumed = train(config, tmp_path / "parts", on_epoch=lambda metrics: phases.append(metrics.phase))
    assert phases == ["train"] * 3  # the networks it learns and starts from are those that the whole run has left
    assert {**resumed.metrics, "images_per_s": 0} == {**whole.metrics, "images_per_s": 0}
    assert (resumed.costs, resumed.test) == (whole.costs, whole.test)


@pytest.mark.parametrize(
    ("teacher", "code", "words"),
    [
        ({"name": "checkpoint", "path": "none"}, 3, "none: No such file or directory; expected a checkpoint"),
        ({"name": "torchvision", "path": "none"}, 3, "none: No such file or directory; expected a state dict"),
        (
            {"name": "torchvision", "model": "vgg_small"},
            2,
            "torchvision has no classifier 'vgg_small'; allowed: alexnet,",
        ),
    ],
)
def test_a_search_does_not_start_without_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: dict[str, Any], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    space = {
        "version": 1,
        "name": "taught",
        "objectives": [{"metric": "val_acc", "mode": "max"}],
        "budget": {"trials": 1},
        "trial": distilled(teacher).model_dump(mode="json", exclude_none=True),
    }
    Path("space.yaml").write_text(json.dumps(space))
    ended = CliRunner().invoke(main, ["run", "space.yaml", "--executor", "local"])
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (code, 1)
    assert words in ended.stderr
    assert not Path("runs").exists()
