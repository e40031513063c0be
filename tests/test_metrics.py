"""The table of metrics: what trainers declare they report, and what a space is told of its objectives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from training_fixtures import trial

from bnnsearch.cli import main
from bnnsearch.config import metrics
from bnnsearch.config.evolution import EvolutionMethod
from bnnsearch.config.metrics import EVOLUTION, GRADIENTS, METRICS, Reporter, reporter_of, tabled
from bnnsearch.config.study import Objective
from bnnsearch.config.trial import TrialConfig
from bnnsearch.deploy import deployed_costs
from bnnsearch.space import SpaceError, load_space
from bnnsearch.trial import build_trainer, network_costs

XOR = {"model": {"name": "xor_mlp", "hidden": [32], "bits_per_label": 9}}
SPACE = """\
version: 1
name: small
objectives:
  - {metric: val_acc, mode: max}
  - {metric: METRIC, mode: min}
budget: {trials: 1}
trial:
  data: {name: digits}
"""
MLP, STE = "  model: {name: mlp, hidden: [16]}\n", "  method: {name: ste}\n"
LR = "  optimizer: {name: adam, lr: {type: loguniform, min: 1.0e-3, max: 1.0e-1}}\n"
BOP = "  method: {name: bop, threshold: {type: loguniform, min: 1.0e-9, max: 1.0e-6}}\n"
BRANCHES = "  method: {type: choice, branches: {ste: {pretrain_epochs: 2}, bop: {pretrain_epochs: 2}}}\n"
PLAN = "  plan: {epochs: 1}\n"
EVOLVED = "  model: {name: xor_mlp}\n  method: {name: inertia, gate: {type: randint, min: 0, max: 40}}\n"
MIXED = """\
version: 1
name: mixed
objectives: [{metric: val_acc, mode: max}]
constraints: [{metric: energy, max: 1}]
budget: {trials: 1}
trial:
  type: choice
  branches:
    float: {data: {name: digits}, model: {name: mlp}, method: {name: ste}}
    xor: {data: {name: digits}, model: {name: xor_mlp}, method: {name: inertia}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_objectives_are_those_of_the_table() -> None:
    known = set(metrics.objectives())
    assert {"val_acc", "val_balanced_acc", "val_macro_f1", "energy"} < known
    assert set(Objective.model_json_schema()["properties"]["metric"]["enum"]) == known
    with pytest.raises(ValidationError):
        Objective(metric="train_cost_thesis", mode="min")


def test_both_measures_of_training_stand_side_by_side() -> None:
    results = [{"val_acc": 0.5, "train_bitops": 2.0}, {"val_acc": 0.6, "train_bitops": 3.0, "train_cost_thesis": 4.0}]
    assert tabled(["train_bitops", "val_acc"], results) == ["train_bitops", "train_cost_thesis", "val_acc"]
    assert tabled(["train_bitops", "val_acc"], results[:1]) == ["train_bitops", "val_acc"]
    assert tabled(["val_acc"], results) == ["val_acc"]


@pytest.mark.parametrize(
    ("method", "sections", "reporter"), [("ste", {}, GRADIENTS), ("inertia", XOR, EVOLUTION)], ids=["ste", "inertia"]
)
def test_trainers_report_what_they_declare(method: str, sections: dict[str, Any], reporter: Reporter) -> None:
    config = trial({"name": method}, epochs=1, **sections)
    trainer = build_trainer(config)
    before, measured = trainer.costs(), deployed_costs(config, trainer)
    after = next(trainer.fit()).values
    assert reporter_of(method) is reporter
    known = {"before": before, "after": after, "measured": measured}
    assert {name for name in METRICS if name in known[METRICS[name].known]} == reporter.metrics
    assert {name for name in before if name not in METRICS} == set()
    assert all(before[name] == 0 for name in reporter.always)


def test_an_objective_that_a_branch_does_not_report_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, MIXED)
    load_space(path)
    blind = replace(EVOLUTION, metrics=frozenset({"val_acc", "params"}))
    monkeypatch.setattr(EvolutionMethod, "reporter", blind)
    line = "4:24: constraints.0.metric: trials by evolution do not report energy; they report: val_acc, params"
    with pytest.raises(SpaceError) as refused:
        load_space(path)
    assert str(refused.value) == f"{path}:{line}"
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert (result.exit_code, line in result.output) == (2, True)


def test_the_measure_of_the_thesis_is_no_objective(tmp_path: Path) -> None:
    path = written(tmp_path, SPACE.replace("METRIC", "train_cost_thesis") + MLP + STE)
    with pytest.raises(SpaceError, match=r"5:14: objectives.1.metric: unknown value 'train_cost_thesis'"):
        load_space(path)


@pytest.mark.parametrize(
    ("metric", "trial", "why"),
    [
        ("train_bitops", MLP + STE + LR, "it depends on none of what varies: optimizer.lr"),
        ("train_bitops", MLP + BOP + LR, "it depends on none of what varies: method.threshold, optimizer.lr"),
        ("energy", MLP + BRANCHES + LR, "it depends on none of what varies: method, optimizer.lr"),
        ("memory_bytes", MLP + STE, "nothing varies"),
        ("flops", EVOLVED, "nothing changes it here"),
    ],
)
def test_a_constant_objective_is_said(tmp_path: Path, metric: str, trial: str, why: str) -> None:
    path = written(tmp_path, SPACE.replace("METRIC", metric) + trial)
    result = CliRunner().invoke(main, ["validate", str(path)])
    rule = f"objectives.1.metric: objective {metric} is the same for every configuration of this space"
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == f"warning: {path}:5:14: {rule}: {why}"


@pytest.mark.parametrize(
    ("metric", "trial"),
    [
        ("train_bitops", MLP + BRANCHES + LR + "  plan: {epochs: 9}\n"),  # the methods see weights in different ways
        ("train_bitops", MLP + STE + "  plan: {epochs: {type: randint, min: 1, max: 9}}\n"),
        ("train_bitops", MLP + STE + "  precision: {bits: {type: range, min: 3, max: 8}}\n"),
        (
            "train_bitops",
            MLP + "  method: {name: bnew, pretrain_epochs: 1, finetune_epochs: 1, until_binary: 0.9}\n" + LR,
        ),
        ("train_bitops", EVOLVED),
        ("memory_bytes", "  model: {name: mlp, hidden: {type: choice, values: [[8], [16]]}}\n" + STE),
        ("packed_bytes", MLP + STE + LR),  # is measured
        ("val_acc", MLP + STE),
    ],
)
def test_an_objective_that_may_vary_is_not_called_constant(tmp_path: Path, metric: str, trial: str) -> None:
    text = SPACE.replace("  - {metric: val_acc, mode: max}\n", "").replace("METRIC, mode: min", f"{metric}, mode: max")
    assert load_space(written(tmp_path, text + trial)).warnings == ()


def test_run_says_it_too(tmp_path: Path) -> None:
    path = written(tmp_path, SPACE.replace("METRIC", "params") + MLP + STE + LR + PLAN)
    arguments = ["run", str(path), "--executor", "local", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, arguments, env={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"})
    assert result.exit_code == 0, result.output
    assert f"warning: {path}:5:14: objectives.1.metric: objective params is the same" in result.stderr


BNEW = {"name": "bnew", "pretrain_epochs": 1, "finetune_epochs": 1}
PROXQUANT = {"name": "proxquant", "finetune_epochs": 1}
ELSEWHERE = {"data.download", "data.cache", "data.workers"}  # how images come from disk
# Of every setting that leaves a metric alone: a trial, and what else the setting may be.
STANDING: dict[str, tuple[dict[str, Any], Any]] = {
    "name": ({}, "label"),
    "seed": ({}, 7),
    "optimizer": ({}, {"name": "sgd", "lr": 0.3, "momentum": 0.5, "weight_decay": 1e-3}),
    "model.shift": ({}, 0.5),
    "model.sign_gradient": ({}, "ste"),
    "model.standardise": ({}, True),
    "model.alpha_gradient": ({"model": {"name": "mlp", "hidden": [16, 16], "scale": "xnor"}}, "scaled"),
    "model.dropout": ({"model": {"name": "xnornet", "stem": "small", "width": 0.05}}, 0.0),
    "method": ({}, BNEW),
    "plan.epochs": ({}, 9),
    "plan.dtype": ({}, "bfloat16"),
    "plan.metrics": ({}, ["macro_f1"]),
    "recu": ({}, {}),
    "precision": ({}, {"bits": [2, 4]}),
    "distill": ({}, {"teacher": {"name": "twin"}}),
    "data.batch_size": ({}, 17),
    "data.augment": ({}, ["shift"]),
    "data.seed": ({}, 3),
    "recu.tau": ({"recu": {}}, [0.6, 0.7]),
    "recu.quantile": ({"recu": {}}, "empirical"),
    "precision.activations": ({"precision": {}}, [2, 2]),
    "precision.grid": ({"precision": {}}, "affine"),
    "plan.schedule": ({}, {"name": "warm_restarts"}),
    "plan.restart": ({}, False),
    "plan.warmup_epochs": ({}, 1),
    "plan.label_smoothing": ({}, 0.1),
    "plan.class_weights": ({}, "balanced"),
    "plan.bn_batches": ({}, 3),
    "plan.compile": ({}, True),
    "plan.cuda_graph": ({}, True),
    "plan.deterministic": ({}, False),
    "plan.keep": ({}, "best"),
    "method.gradient": ({}, "ste"),
    "method.clip": ({}, False),
    "method.rate": ({"method": {"name": "bmd", "finetune_epochs": 1}}, 1.3),
    "method.final_beta": ({"method": {"name": "bmd", "finetune_epochs": 1}}, 30.0),
    "method.gamma": ({"method": {"name": "bop"}}, 0.1),
    "method.threshold": ({"method": {"name": "bop"}}, 0.1),
    "method.sigma": ({"method": {"name": "bop2"}}, 0.5),
    "method.bias_correction": ({"method": {"name": "bop2"}}, True),
    "method.penalty": ({"method": PROXQUANT}, "l2"),
    "method.reg_rate": ({"method": PROXQUANT}, 0.1),
    "method.pull": ({"method": PROXQUANT}, 3.0),
    "method.l1_step": ({"method": PROXQUANT}, "half"),
    "method.lambda_rate": ({"method": BNEW}, 1.0),
    "method.growth": ({"method": BNEW}, 30.0),
    "method.step": ({"method": BNEW}, "exact"),
    "method.order": ({"method": BNEW}, "prox_first"),
    "method.eta": ({"method": BNEW}, "current"),
    "method.time": ({"method": BNEW}, "epoch"),
    "method.t_min": ({"method": {"name": "irnet"}}, 0.01),
    "method.t_max": ({"method": {"name": "irnet"}}, 20.0),
    "method.activations": ({"method": {"name": "irnet"}}, False),
    "method.o_end": ({"method": {"name": "reste"}}, 5.0),
    "method.bound": ({"method": {"name": "reste"}}, 1.0),
    "method.chord": ({"method": {"name": "reste"}}, 0.2),
    "method.omega": ({"method": {"name": "biper"}}, 10.0),
    "method.pretrained": ({"method": BNEW}, "last"),
}


def test_every_setting_that_leaves_a_metric_alone_is_tried() -> None:
    named = {setting for metric in METRICS.values() for setting in metric.unmoved_by}
    assert named == {*STANDING, *ELSEWHERE}


@pytest.mark.parametrize("setting", STANDING)
def test_what_is_said_to_leave_a_metric_alone_does(setting: str) -> None:
    sections, other = STANDING[setting]
    configs = [trial(**{"method": {"name": "ste"}, "epochs": 4, **sections})]
    configs.append(TrialConfig.model_validate(with_setting(configs[0].model_dump(mode="json"), setting, other)))
    assert configs[0] != configs[1]
    trained = [name for name, metric in METRICS.items() if setting in metric.unmoved_by and name == "train_bitops"]
    costs = [build_trainer(config).costs() if trained else network_costs(config) for config in configs]
    for name, metric in METRICS.items():
        if setting in metric.unmoved_by and name in costs[0]:  # a cost model's is there where a plan asks for it
            assert costs[0][name] == costs[1][name], name


def with_setting(tree: dict[str, Any], setting: str, value: Any) -> dict[str, Any]:
    """`tree` with another value at a dotted path."""
    key, _, rest = setting.partition(".")
    return {**tree, key: with_setting(tree[key], rest, value) if rest else value}
