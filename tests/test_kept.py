"""`plan.keep`: gradients and evolution export by one rule, and what is reported is what would be exported."""

from __future__ import annotations

from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from training_fixtures import digits, repeatable

from bnnsearch.cli import main
from bnnsearch.config.distill import TwinConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.data import load_data
from bnnsearch.core.data.batches import normalised
from bnnsearch.core.teacher import RunBuilder, run_of
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.deploy import pack_run
from bnnsearch.packed.model import PackedModel
from bnnsearch.space import SpaceError, load_space
from bnnsearch.training import train
from bnnsearch.trial import build_trainer

MIXED = Path(__file__).parents[1] / "spaces" / "digits_mixed.yaml"
EPOCHS = 8  # a period of the learning rate and one epoch of the next: a step back for gradients
KINDS: dict[str, dict[str, Any]] = {
    "gradients": {
        "model": {"name": "mlp", "hidden": [32]},
        "method": {"name": "ste"},
        "optimizer": {"name": "adam", "lr": 1.0},  # ten times what is good: the step back is no matter of luck
    },
    "evolution": {
        "model": {"name": "xor_mlp", "hidden": [64], "bits_per_label": 9, "thresholds": [64, 128, 192]},
        "method": {"name": "counting", "margin": 8, "gate": 12},  # integers: the same step back on every machine
    },
}


def trial(kind: str, keep: str, epochs: int = EPOCHS) -> TrialConfig:
    plan = {"epochs": epochs, "schedule": {"name": "warm_restarts", "period": EPOCHS - 1, "factor": 1}, "keep": keep}
    data = {"name": "digits", "batch_size": 100}
    return TrialConfig.model_validate({"data": data, "plan": plan, "seed": 2, **KINDS[kind]})


def history(trainer: Trainer) -> list[EpochMetrics]:
    return list(trainer.fit())


@pytest.fixture(scope="module", params=KINDS)
def runs(request: pytest.FixtureRequest) -> tuple[str, Trainer, list[EpochMetrics], list[EpochMetrics]]:
    """A kind of training; a run of it that keeps the best epoch, its history, and that of the run that keeps none."""
    best = build_trainer(trial(request.param, "best"))
    return request.param, best, history(best), history(build_trainer(trial(request.param, "last")))


def test_the_best_epoch_is_kept_and_training_is_the_same(runs: Any) -> None:
    _, _, kept, plain = runs
    own = [epoch.values["val_acc"] for epoch in plain]
    assert own[-1] < max(own), "with the best epoch last this test shows nothing"
    assert "kept_epoch" not in plain[-1].values
    assert [epoch.values["epoch_val_acc"] for epoch in kept] == own
    assert [epoch.values["val_acc"] for epoch in kept] == list(accumulate(own, max))
    assert [epoch.values["kept_epoch"] for epoch in kept] == [
        1 + own.index(highest) for highest in accumulate(own, max)
    ]


def test_what_is_kept_is_the_network_of_that_epoch(runs: Any) -> None:
    kind, best, kept, plain = runs
    last = build_trainer(trial(kind, "last"))
    list(islice(last.fit(), int(kept[-1].values["kept_epoch"])))
    assert best.test() == last.test()
    losses = [epoch.values.get("val_loss") for epoch in plain]
    assert kept[-1].values.get("val_loss") == losses[int(kept[-1].values["kept_epoch"]) - 1]


def test_a_kept_network_outlives_an_interruption(runs: Any, tmp_path: Path) -> None:
    kind, best, kept, _ = runs
    for broken in (1, int(kept[-1].values["kept_epoch"]), EPOCHS - 1):
        first = build_trainer(trial(kind, "best"))
        list(islice(first.fit(), broken))
        save_checkpoint(tmp_path / "state", first.state_dict())
        second = build_trainer(trial(kind, "best"))
        second.load_state_dict(load_checkpoint(tmp_path / "state"))
        assert second.test() == first.test()
        assert repeatable(second.fit()) == repeatable(kept)[broken:]
        assert second.test() == best.test()


def test_production_and_the_packed_model_take_the_kept_network(runs: Any, tmp_path: Path) -> None:
    kind, best, kept, _ = runs
    trained = train(trial(kind, "best"), tmp_path / "run")
    assert trained.metrics["val_acc"] == kept[-1].values["val_acc"]
    assert trained.test == best.test()
    assert pack_run(tmp_path / "run", tmp_path / "model.bnn").checked == len(digits().val)
    packed = PackedModel.load(tmp_path / "model.bnn")
    for split, accuracy in ((digits().val, trained.metrics["val_acc"]), (digits().test, trained.test["test_acc"])):
        right = torch.from_numpy(packed.predict(split.images.numpy())) == split.labels
        assert right.float().mean().item() == pytest.approx(accuracy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["format", "algorithm or kept", "bytes"])
def test_a_checkpoint_of_another_version_is_refused_in_one_line(kind: str, damage: str, tmp_path: Path) -> None:
    config = tmp_path / "trial.json"
    config.write_text(trial(kind, "last", epochs=1).model_dump_json())
    out, file = tmp_path / "run", tmp_path / "run" / "checkpoint.pt"
    train(trial(kind, "last", epochs=1), out)
    (out / "result.json").rename(tmp_path / "result.json")
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        saved = load_checkpoint(file)
        del saved["trainer"]["format" if damage == "format" else "kept"]
        save_checkpoint(file, saved)
    again = CliRunner().invoke(main, ["train", str(config), "-o", str(out), "--no-track"])
    (tmp_path / "result.json").rename(out / "result.json")
    packed = CliRunner().invoke(main, ["pack", str(out)])
    for ended in (again, packed):
        assert (ended.exit_code, len(ended.stderr.splitlines())) == (3, 1), ended.output
        assert f"{file}: " in ended.stderr
        assert "train anew" in ended.stderr


@pytest.mark.parametrize("keep", ["last", "best"])
def test_both_kinds_of_the_mixed_space_report_by_the_same_rule(keep: str) -> None:
    """What each of them reports after an epoch is the accuracy of the network that it would export then."""
    for kind, changes in (("gradient", ["model.channels=[8, 8]"]), ("evolution", ["model.hidden=[32]"])):
        both = [f"trial.branches.{branch}.plan={{epochs: 9, keep: {keep}}}" for branch in ("gradient", "evolution")]
        own = [f"trial.branches.{kind}.{change}" for change in changes]
        space = load_space(MIXED, overrides=[*(both if keep == "best" else []), *own, f"trial.default={kind}"])
        tree = space.trial.defaults()
        assert tree["name"] == kind
        assert tree["plan"].get("keep", "last") == keep
        config = TrialConfig.model_validate({**tree, "seed": 1})
        trainer, split = build_trainer(config), load_data(config.data).val
        for metrics in islice(trainer.fit(), 3):
            assert ("kept_epoch" in metrics.values) == (keep == "best")
            assert exported_accuracy(trainer, split) == pytest.approx(metrics.values["val_acc"])


def exported_accuracy(trainer: Any, split: Any) -> float:
    """Of the network that would be exported now, computed from outside."""
    if hasattr(trainer, "sign_network"):
        with torch.no_grad():
            labels = trainer.sign_network().eval()(normalised(split.images, split)).argmax(1)
    else:
        labels = torch.from_numpy(trainer.network().predict(split.images.numpy()))
    return (labels == split.labels).float().mean().item()


@pytest.mark.parametrize(
    "override",
    [
        "trial.branches.gradient.plan.keep=best",
        "trial.branches.evolution.plan.keep={type: choice, values: [last, best]}",
    ],
)
def test_a_space_that_mixes_the_rules_is_refused(override: str) -> None:
    rule = "trial.plan.keep: must be the same for all trials, but got 'best' and 'last' where it is not set"
    with pytest.raises(SpaceError, match=rf"^--set trial.*: {rule}$"):
        load_space(MIXED, overrides=[override])


@pytest.mark.parametrize("source", ["checkpoint", "binary network", "real twin"])
def test_a_start_takes_the_best_real_weights_but_the_last_latents(source: str, tmp_path: Path) -> None:
    """A kept network has signs, not latents; a teacher is always the kept network."""
    own = trial("gradients", "best")
    if source == "checkpoint":
        train(own, tmp_path)
        named: dict[str, Any] = {"name": "checkpoint", "path": str(tmp_path)}
        run = build_trainer(own)
    else:
        run_plan = own.plan.model_dump(include={"epochs", "schedule", "keep"})
        binary = {"method": {"name": "ste"}, "activations": "binary"} if source == "binary network" else {}
        named = {"name": "twin", "optimizer": KINDS["gradients"]["optimizer"], "plan": run_plan, **binary, "seed": 2}
        twin = TwinConfig.model_validate(named)
        run = RunBuilder(digits()).trainer(run_of(twin, own), twin=twin)
    best_at = [epoch.values["kept_epoch"] for epoch in run.fit()][-1]
    assert best_at < EPOCHS, "with the best epoch last this test shows nothing"
    best = {name: value.clone() for name, value in run.sign_network().state_dict().items()}
    last = run.network.state_dict()
    expected = best if source == "real twin" else last
    assert not all(torch.equal(value, last[name]) for name, value in best.items())

    other = own.model_dump() | {"method": {"name": "ste", "clip": False}}  # takes weights beyond 1 as they are
    starting = TrialConfig.model_validate({**other, "start": named})
    teaching = TrialConfig.model_validate({**other, "distill": {"teacher": named}})
    for _ in range(2):  # the same seed gives the same weights
        begun = build_trainer(starting).network.state_dict()
        assert all(torch.equal(begun[name], value) for name, value in expected.items())
    taught = build_trainer(teaching)._distillation.teacher.state_dict()
    assert all(torch.equal(taught[name], value) for name, value in best.items())
