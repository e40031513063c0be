"""Distillation: the losses by hand, and a teacher that is trained once and shared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_fixtures import digits, repeatable, small_network, trial

from bnnsearch.config.model import Resnet20Config
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import eval_batches
from bnnsearch.core.distill import Distillation, attention_loss, distillation_loss, unit_names
from bnnsearch.core.evaluation import evaluate
from bnnsearch.core.layers import binary_layers
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.teacher import trained_teacher

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


def resnet(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_model(Resnet20Config(width=0.25), shape=(1, 8, 8), classes=10)


def test_attention_reaches_every_unit_of_the_student() -> None:
    student, teacher = resnet(), resnet(1)
    distillation = Distillation(teacher, student, attention=1.0)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with_attention = distillation(images, student(images))
    without = Distillation(resnet(1), student)(images, student(images))
    assert with_attention > without
    with_attention.backward()
    assert all(layer.weight.grad is not None for layer in binary_layers(student).values())
    assert len(unit_names(student)) == len(binary_layers(student)) == 18


def distilled(tmp_path: Path, *, attention: float = 0.0, cache: bool = True) -> TrialConfig:
    distill = {"teacher": {"epochs": 3, "optimizer": {"name": "adam"}}, "attention": attention}
    return trial({"name": "ste"}, epochs=4, distill={**distill, "cache": str(tmp_path) if cache else None})


def accuracy(model: nn.Module) -> float:
    return evaluate(model, eval_batches(digits().val, batch_size=200))[0]


def test_a_student_learns_from_the_teacher_alone(tmp_path: Path) -> None:
    config = distilled(tmp_path)
    student = small_network()
    teacher = trained_teacher(config, data=digits(), model=student)
    assert accuracy(teacher) > 0.9
    assert not binary_layers(teacher)
    state = {name: value.clone() for name, value in teacher.state_dict().items()}
    *_, last = GradientTrainer(config, data=digits(), model=student, teacher=teacher).fit()
    assert last.values["val_acc"] > 0.9
    assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())


def test_a_kept_teacher_is_the_trained_one(tmp_path: Path) -> None:
    def logits(cache: bool) -> Tensor:
        config = distilled(tmp_path, cache=cache)
        teacher = trained_teacher(config, data=digits(), model=small_network(seed=3)).eval()
        return torch.cat([teacher(images) for images, _ in eval_batches(digits().val, batch_size=64)])

    trained_anew, trained_and_kept, kept = logits(False), logits(True), logits(True)
    assert torch.equal(trained_and_kept, trained_anew)
    assert torch.equal(kept, trained_anew)
    assert len(list(tmp_path.glob("teacher-*.pt"))) == 1


def test_the_teacher_depends_on_nothing_else_of_the_student(tmp_path: Path) -> None:
    for method in ({"name": "ste"}, {"name": "bop"}):
        config = distilled(tmp_path).model_copy(update={"method": trial(method).method, "seed": 5})
        trained_teacher(config, data=digits(), model=small_network())
    assert len(list(tmp_path.glob("teacher-*.pt"))) == 1


def test_distilled_runs_repeat_and_cost_the_teachers_predictions(tmp_path: Path) -> None:
    config = distilled(tmp_path)
    runs = [
        GradientTrainer(
            config,
            data=digits(),
            model=small_network(),
            teacher=trained_teacher(config, data=digits(), model=small_network()),
        )
        for _ in range(2)
    ]
    assert repeatable(runs[0].fit()) == repeatable(runs[1].fit())
    plain = GradientTrainer(trial({"name": "ste"}, epochs=4), data=digits(), model=small_network())
    macs = 8 * 8 * 16 * 9 + 4 * 4 * 32 * 16 * 9 + 512 * 64 + 64 * 10
    forward = 4 * 20 * 64 * macs / 3  # its twin is real: a third of the three products of each MAC, at 32 bits
    assert runs[0].costs()["train_bitops"] == pytest.approx(plain.costs()["train_bitops"] + forward)
