"""No free savings: of two trainings that come out bit for bit alike, neither may look cheaper than the other.

Trained are pairs of configurations that differ in settings alone. What their networks and their training cost has to be
equal wherever weights and metrics are. The one measure left out is the thesis's, which is no objective for that reason.
Evolution's pairs are alike in what they compute as well: where a setting makes the same result cheaper to compute
(incremental evaluation against fresh passes, children in vain), the saving is real, and charged as what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from training_fixtures import trial

from bnnsearch.config.cost import AceConfig
from bnnsearch.config.metrics import METRICS
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.evolve.trainer import EvolutionTrainer
from bnnsearch.evolve.words import to_tensor
from bnnsearch.trial import build_trainer

COSTS = [name for name, metric in METRICS.items() if metric.known == "before" and metric.objective]
SEEN = ("train_loss", "train_acc", "val_acc", "val_loss", "flip_rate", "binary_fraction")
FEW = {"name": "digits", "train_limit": 120, "batch_size": 40}
MLP = {"name": "mlp", "hidden": [16, 16]}
STAGE = {"name": "resnet20", "channels": [4], "depths": [2], "head_norm": False}
BNEW = {"name": "bnew", "pretrain_epochs": 1, "finetune_epochs": 1, "until_binary": None}
SIGNED = {"bits": [8, 8], "activations": [32, 32]}
ADAM, SLOW = {"name": "adam", "lr": 0.01}, {"name": "adam", "lr": 1e-6}
WIDE = {**MLP, "hidden": [512, 512]}
REAL = {**MLP, "float_layers": ["layer*"]}
XOR = {"name": "xor_mlp", "hidden": [16], "bits_per_label": 3}

# What differs, where it changes nothing: sections of a trial, and those put in their place.
ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bits below a sign": ({"precision": {**SIGNED}}, {"precision": {**SIGNED, "weights": [2, 2]}}),
    "cycled bits below a sign": ({"precision": {**SIGNED}}, {"precision": {**SIGNED, "weights": [3, 7], "cycles": 2}}),
    "bits of frozen networks' signs": (
        {"precision": {"bits": [32, 32]}, "method": {"name": "bop"}},
        {"method": {"name": "bop"}},
    ),
    "no bits at all": ({"precision": {"bits": [32, 32], "cycles": 3}}, {}),
    "bits above bfloat16": (
        {"precision": {"bits": [32, 32]}, "plan": {"dtype": "bfloat16"}},
        {"plan": {"dtype": "bfloat16"}},
    ),
    "cycles of a range of one": ({"precision": {**SIGNED, "cycles": 1}}, {"precision": {**SIGNED, "cycles": 4}}),
    "grid of what has none": ({"precision": {"bits": [32, 32], "grid": "affine"}}, {"precision": {"bits": [32, 32]}}),
    "bits of real layers": (
        {"precision": {**SIGNED}, "model": REAL},
        {"model": REAL},
    ),
    "the same real layers": (
        {"model": {**MLP, "float_layers": ["layer2.linear"]}},
        {"model": {**MLP, "float_layers": ["*2.linear"]}},
    ),
    "standardise of learnable thresholds": (
        {"model": {**MLP, "activation": "rprelu"}},
        {"model": {**MLP, "activation": "rprelu", "standardise": True}},
    ),
    "shift of thresholds that are not there": (
        {"model": {**REAL, "activation": "rprelu", "shift": 0.5}},
        {"model": {**REAL, "activation": "rprelu"}},
    ),
    "tau beyond all weights": ({"recu": {"tau": [0.9999, 0.9999]}}, {"recu": {"tau": [0.99999, 0.99999]}}),
    "more of the data than there is": ({"data": {**FEW, "train_limit": 5000}}, {"data": {**FEW, "train_limit": None}}),
    "shortcuts where shapes stay": ({"model": {**STAGE}}, {"model": {**STAGE, "shortcut": "conv"}}),
    "gates that are not there": ({"model": {**STAGE, "reduction": 2}}, {"model": {**STAGE, "reduction": 4}}),
    "the mean magnitude of signs": (
        {"method": {"name": "bop"}, "model": {**MLP, "scale": "xnor"}},
        {"method": {"name": "bop"}, "model": {**MLP}},
    ),
    "batches beyond the data": ({"data": {**FEW, "batch_size": 4000}}, {"data": {**FEW, "batch_size": 5000}}),
    "statistics from all batches": ({"plan": {"bn_batches": 20}}, {"plan": {"bn_batches": 90}}),
    "restart of one phase": ({"plan": {"restart": True}}, {"plan": {"restart": False}}),
    "determinism on a CPU": ({"plan": {"deterministic": False}}, {}),
    "clip where nothing leaves": (
        {"optimizer": SLOW, "model": WIDE, "method": {"name": "ste", "clip": True}},
        {"optimizer": SLOW, "model": WIDE, "method": {"name": "ste", "clip": False}},
    ),
    "momentum of none": (
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0}},
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.0, "real_lr": 0.1}},
    ),
    "an end that does not come": (
        {"plan": {"epochs": 3}, "method": {**BNEW, "until_binary": 1.0}},
        {"plan": {"epochs": 3}, "method": BNEW},
    ),
    "evolution: limits that are not met": (
        {"model": XOR, "method": {"name": "inertia", "limit": 4000}},
        {"model": XOR, "method": {"name": "inertia", "limit": 8000}},
    ),
    "evolution: decay after the end": (
        {"model": XOR, "method": {"name": "counting", "flip_decay": 0.5}, "plan": {"epochs": 1}},
        {"model": XOR, "method": {"name": "counting", "flip_decay": 0.9}, "plan": {"epochs": 1}},
    ),
    "evolution: more images than there are": (
        {"model": XOR, "method": {"name": "elitist", "generations_per_epoch": 2, "samples": 4000}},
        {"model": XOR, "method": {"name": "elitist", "generations_per_epoch": 2, "samples": None}},
    ),
}


def built(sections: Mapping[str, Any]) -> TrialConfig:
    plain = {"method": {"name": "ste"}, "epochs": 2, "data": FEW, "model": MLP, "optimizer": ADAM}
    return trial(**{**plain, **sections})


def trained(config: TrialConfig) -> tuple[list[torch.Tensor], list[float], dict[str, float]]:
    """What a training comes to: weights, metrics of every epoch, costs before it and after it."""
    plan = config.plan.model_copy(update={"costs": (AceConfig(),)})
    trainer = build_trainer(config.model_copy(update={"plan": plan}))
    costs = {name: trainer.costs()[name] for name in COSTS}
    epochs = [epoch.values for epoch in trainer.fit()]
    match trainer:
        case GradientTrainer():
            weights = list(trainer.network.state_dict().values())
        case EvolutionTrainer():
            weights = [to_tensor(trainer.network().genome)]
        case _:
            raise AssertionError("there is no third kind")
    seen = [values[name] for values in epochs for name in SEEN if name in values]
    return weights, seen, {**costs, "spent": epochs[-1]["train_bitops"]}


def alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    weights, others = one[0], other[0]
    same = len(weights) == len(others) and all(map(torch.equal, weights, others))
    return same and one[1] == other[1]


@pytest.mark.parametrize("name", ALIKE)
def test_what_changes_nothing_saves_nothing(name: str) -> None:
    one, other = (trained(built(sections)) for sections in ALIKE[name])
    assert alike(one, other), "the pair is not what it is called"
    assert one[2] == other[2]


bits = st.sampled_from([[2, 2], [3, 8], [8, 8], [32, 32]])
grids, counts = st.sampled_from(["symmetric", "affine"]), st.integers(1, 3)
precisions = st.fixed_dictionaries(
    {"weights": bits, "activations": st.just([32, 32]) | bits, "gradients": bits, "cycles": counts, "grid": grids}
)
changes = st.one_of(
    st.fixed_dictionaries({"weights": bits}),
    st.fixed_dictionaries({"activations": bits}),
    st.fixed_dictionaries({"cycles": counts, "grid": grids}),
    precisions,
)
methods = st.sampled_from(
    [
        {"name": "ste"},
        {"name": "ste", "gradient": "ste"},
        {"name": "bop"},
        {"name": "bmd", "finetune_epochs": 1},
        {"name": "bnew", "pretrain_epochs": 1, "finetune_epochs": 1},
    ]
)
models = st.fixed_dictionaries(
    {"name": st.just("mlp"), "hidden": st.just([16, 16]), "sign_gradient": st.sampled_from(["ste", "polynomial"])},
    optional={"scale": st.sampled_from(["none", "xnor", "learned"]), "float_layers": st.just(["layer2.linear"])},
)
recus = st.none() | st.sampled_from([{"tau": [0.85, 0.99]}, {"tau": [0.9, 0.9]}, {"quantile": "empirical"}])
trainings = st.fixed_dictionaries(
    {
        "method": methods,
        "model": models,
        "recu": recus,
        "plan": st.fixed_dictionaries({"epochs": st.just(3), "dtype": st.sampled_from(["float32", "bfloat16"])}),
    }
)


# each example trains twice: an unshrunk one is worth more than minutes of shrinking
@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(training=trainings, one=precisions, change=changes)
def test_bits_that_change_nothing_save_nothing(training: dict[str, Any], one: Any, change: Any) -> None:
    """Any two precisions of one training: where it comes out the same, so do its costs."""
    latent = training["method"]["name"] in ("ste", "bmd")
    shared = {**training, "recu": training["recu"] if latent else None}
    first, second = (trained(built({**shared, "precision": precision})) for precision in (one, one | change))
    event("alike" if alike(first, second) else "not alike")
    if alike(first, second):
        assert first[2] == second[2]
