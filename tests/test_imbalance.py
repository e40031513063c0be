"""Imbalanced classes: balanced accuracy of all that trains, and class weights in the loss of all that has gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import nn
from training_fixtures import digits, trial

from bnnsearch.cli import main
from bnnsearch.config.measure import MacroF1Config
from bnnsearch.config.metrics import reporter_of
from bnnsearch.config.plan import PlanConfig
from bnnsearch.core.data import Dataset, Split, eval_batches
from bnnsearch.core.distill import Distillation
from bnnsearch.core.evaluation import evaluate
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.loss import class_weights, label_loss
from bnnsearch.core.metrics import balanced_accuracy
from bnnsearch.core.models.build import build_model
from bnnsearch.core.reproducible import derived_seed
from bnnsearch.errors import InputError
from bnnsearch.space import SpaceError, load_space
from bnnsearch.trial import build_trainer

SPACE = """\
version: 1
name: imbalanced
objectives: [{metric: val_balanced_acc, mode: max}]
budget: {trials: 2}
seed: 3
trial:
  data: {name: digits, train_limit: 120}
  model: {name: mlp, hidden: [16]}
  method: {name: ste}
  plan: {epochs: 1, class_weights: WEIGHTS}
  optimizer: {name: adam, lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}}
"""


def test_balanced_accuracy_by_hand() -> None:
    labels = torch.tensor([0] * 8 + [2] * 2)  # no sample of class 1
    predicted = torch.tensor([0] * 6 + [1, 2] + [2, 0])
    assert balanced_accuracy(predicted, labels) == (6 / 8 + 1 / 2) / 2
    assert balanced_accuracy(torch.zeros(10, dtype=torch.int64), labels) == 0.5  # all to the frequent class


@pytest.mark.parametrize("method", ["ste", "inertia"])
def test_every_trainer_reports_it_of_its_predictions(method: str) -> None:
    model: dict[str, Any] = {"model": {"name": "xor_mlp", "hidden": [32], "bits_per_label": 5}}
    config = trial({"name": method}, epochs=1, **(model if method == "inertia" else {}))
    trainer = build_trainer(config)
    (metrics,) = trainer.fit()
    network: Any = trainer.exported()  # type: ignore[attr-defined]
    for split, found in (("val", metrics.values), ("test", trainer.test())):
        images: Any = getattr(digits(), split)
        if method == "inertia":
            predicted = network.predict(images.images.numpy())
        else:
            with torch.no_grad():
                predicted = torch.cat([network(x).argmax(1) for x, _ in eval_batches(images, batch_size=512)]).numpy()
        assert found[f"{split}_balanced_acc"] == pytest.approx(balanced_accuracy_score(images.labels, predicted))
        assert found[f"{split}_acc"] == np.mean(predicted == images.labels.numpy())


def test_weights_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])
    assert class_weights("none", labels, classes=3) is None
    balanced = class_weights("balanced", labels, classes=3)
    assert balanced is not None
    torch.testing.assert_close(balanced, torch.tensor([9 / (3 * 6), 9 / (3 * 2), 9 / 3]))
    with pytest.raises(InputError, match="one weight for each of 3 classes, but has 2"):
        class_weights((1.0, 2.0), labels, classes=3)
    logits, two = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    losses = -logits.log_softmax(1)[:, 0]
    other = -logits.log_softmax(1)[:, 1]
    loss = label_loss(logits, torch.tensor([0, 1]), weights=torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(float((losses[0] + 3 * other[1]) / 4))
    assert label_loss(logits, two, weights=torch.tensor([5.0, 1.0])).item() == pytest.approx(float(losses.mean()))


def test_the_loss_of_a_teacher_is_weighted_by_the_labels() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    images, labels = torch.randn(4, 3), torch.tensor([0, 0, 1, 0])
    weights = torch.tensor([1.0, 2.0])
    loss = Distillation(teacher, student, labels=0.5, weights=weights)(images, student(images), labels)
    soft, hard = teacher(images).softmax(1), student(images).log_softmax(1)
    each = -(soft * hard).sum(1) - 0.5 * hard[torch.arange(4), labels]
    torch.testing.assert_close(loss, (each * weights[labels]).sum() / 5)


def rare() -> Dataset:
    """Digits of which all but 0 and 1 are rare, to learn from."""
    data = digits()
    assert isinstance(data.train, Split)
    labels = data.train.labels
    ranks = torch.cat([torch.arange(int(count)) for count in labels.bincount()])
    rank = torch.empty_like(labels)
    rank[labels.argsort(stable=True)] = ranks
    return replace(data, train=data.train.take(torch.nonzero((labels < 2) | (rank < 4)).flatten()))


def test_weights_help_the_rare_classes() -> None:
    def balanced(weights: str) -> float:
        config = trial({"name": "ste"}, epochs=6, plan={"class_weights": weights}, data={"name": "digits"})
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(1, "weights"))
            model = build_model(config.model, shape=(1, 8, 8), classes=10)  # type: ignore[arg-type]
        trainer = GradientTrainer(config, data=rare(), model=model)
        list(trainer.fit())
        return evaluate(trainer.sign_network(), eval_batches(digits().test, batch_size=512)).balanced_acc

    assert balanced("balanced") > balanced("none") + 0.05


def test_settings_are_as_they_were_without_and_evolution_has_no_loss() -> None:
    assert "class_weights" not in PlanConfig().model_dump()
    assert PlanConfig.model_validate({"class_weights": [1, 2]}).model_dump()["class_weights"] == (1.0, 2.0)
    with pytest.raises(ValidationError, match="one weight for each of 10 classes, but has 2"):
        trial({"name": "ste"}, plan={"class_weights": [1, 2]})
    with pytest.raises(ValidationError, match="needs a method by gradients, whose loss it weighs, but got inertia"):
        trial({"name": "inertia"}, model={"name": "xor_mlp"}, plan={"class_weights": "balanced"})


def test_it_is_searched_for(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.replace("WEIGHTS", "balanced"))
    ran = CliRunner().invoke(main, ["run", str(space), "--executor", "local", "--runs", str(tmp_path / "runs")])
    assert ran.exit_code == 0, ran.output
    assert "val_balanced_acc" in ran.output
    space.write_text(SPACE.replace("WEIGHTS", "[1, -1]"))
    with pytest.raises(SpaceError, match="class_weights"):
        load_space(space)


@pytest.mark.parametrize("method", ["ste", "inertia"])
def test_a_plan_names_other_metrics_of_predictions(method: str) -> None:
    model: dict[str, Any] = {"model": {"name": "xor_mlp", "hidden": [32], "bits_per_label": 5}}
    config = trial({"name": method}, epochs=1, plan={"metrics": ["macro_f1"]}, **(model if method == "inertia" else {}))
    trainer = build_trainer(config)
    (metrics,) = trainer.fit()
    assert config.reporter.metrics == reporter_of(method).metrics | {"val_macro_f1"}
    assert {"val_macro_f1", "val_acc"} <= metrics.values.keys() and "test_macro_f1" in trainer.test()
    assert "metrics" not in PlanConfig().model_dump()


def test_macro_f1_is_that_of_scikit_learn() -> None:
    source = torch.Generator().manual_seed(0)
    for classes in (2, 5):
        predicted, labels = torch.randint(classes, (2, 60), generator=source)
        found = MacroF1Config().measure(predicted, labels, classes + 2)  # two that are neither there nor predicted
        assert found == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_an_objective_that_no_plan_names_is_refused(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    text = SPACE.replace("val_balanced_acc", "val_macro_f1").replace("WEIGHTS", "none")
    space.write_text(text)
    with pytest.raises(SpaceError, match="trials by gradients do not report val_macro_f1; they report: val_acc"):
        load_space(space)
    space.write_text(text.replace("epochs: 1,", "epochs: 1, metrics: [macro_f1],"))
    load_space(space)
