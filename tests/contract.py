"""Records what every kind of training run comes to, bit by bit, and compares: a refactor must leave it as it was.

    uv run python tests/contract.py before.json       in the code as it was: records
    uv run python tests/contract.py before.json       in the code as it is: compares, since the file is there

Both on the same machine and installation: the last digits of a sum depend on the processor. Of each run it holds every
epoch's metrics, but those of time, and digests of the weights and of the packed file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import load_data
from bnnsearch.deploy import exported, packed_network
from bnnsearch.trial import build_trainer

DIGITS = {"name": "digits", "train_limit": 300}
MLP = {"name": "mlp", "hidden": [32, 32]}
CNN = {"name": "cnn", "channels": [8, 16, 16], "pool_after": [1, 2]}
SMALL = {"width": 0.125}
PHASES = {"pretrain_epochs": 1, "finetune_epochs": 1}

METHODS: dict[str, dict[str, Any]] = {
    "ste": {"name": "ste"},
    "ste-polynomial": {"name": "ste", "gradient": "polynomial", "clip": False},
    "bmd": {"name": "bmd", "rate": 2.0, **PHASES},
    "bmd-primal": {"name": "bmd", "form": "primal", "final_beta": 50.0, **PHASES},
    "bop": {"name": "bop", "gamma": 1e-3, "threshold": 1e-6, "pretrain_epochs": 1},
    "bop2": {"name": "bop2", "gamma": 1e-3, "threshold": 1e-2, "bias_correction": True},
    "proxquant-l1": {"name": "proxquant", "reg_rate": 0.5, **PHASES},
    "proxquant-l2": {"name": "proxquant", "penalty": "l2", "pull": 3.0, **PHASES},
    "bnew": {"name": "bnew", "growth": 6.0, **PHASES},
    "bnew-exact": {"name": "bnew", "lambda_rate": 2.0, "step": "exact", "order": "prox_first", **PHASES},
    "bnew-until": {"name": "bnew", "growth": 40.0, "until_binary": 0.95, **PHASES},
    "irnet": {"name": "irnet"},
    "reste": {"name": "reste"},
    "biper": {"name": "biper"},
    "adabin": {"name": "adabin"},
}
MODELS: dict[str, dict[str, Any]] = {
    "mlp-rprelu": {**MLP, "activation": "rprelu"},
    "cnn": CNN,
    "vgg_small": {"name": "vgg_small", "channels": [8, 8, 16], "pool_after": [1, 2]},
    "xnornet": {"name": "xnornet", "stem": "small", "width": 0.05, "activation_scale": True},
    "resnet20": {"name": "resnet20", **SMALL},
    "resnet18": {"name": "resnet18", **SMALL},
    "resnet18-pre": {"name": "resnet18", "block": "pre", **SMALL},
    "brn": {"name": "brn", "width": 0.25},
    "bireal18": {"name": "bireal18", "stem": "small", **SMALL},
    "realtobinary18": {"name": "realtobinary18", "stem": "small", **SMALL},
    "reactnet_a": {"name": "reactnet_a", "stem": "small", **SMALL},
}
TEACHER = {"name": "network", "model": CNN, "plan": {"epochs": 1}}
SECTIONS: dict[str, dict[str, Any]] = {
    "sgd-cosine": {"optimizer": {"name": "sgd", "lr": 0.1}, "plan": {"schedule": {"name": "cosine"}}},
    "signum": {"optimizer": {"name": "signum", "lr": 0.01}, "plan": {"schedule": {"name": "constant"}}},
    "restarts": {"plan": {"schedule": {"name": "warm_restarts", "period": 1}, "warmup_epochs": 1.5}},
    "bfloat16": {"plan": {"dtype": "bfloat16"}},
    "best": {"plan": {"keep": "best", "label_smoothing": 0.1}},
    "recu": {"recu": {}},
    "recu-empirical": {"recu": {"quantile": "empirical"}},
    "precision": {"precision": {"cycles": 2}},
    "precision-affine": {"precision": {"cycles": 2, "grid": "affine", "gradients": [8, 8]}},
    "augmented": {"data": {**DIGITS, "augment": ["crop", "flip", "rotation", {"name": "cutout", "size": 2}]}},
    "shifted": {"data": {**DIGITS, "augment": ["shift", {"name": "flip", "kind": "alternating"}]}},
    "distilled": {"distill": {"teacher": {"name": "twin", "plan": {"epochs": 1}}, "labels": 0.5}},
    "taught": {"distill": {"teacher": TEACHER, "attention": 1.0}},
    "started": {"start": {"name": "twin", "plan": {"epochs": 1}}},
}
EVOLUTION: dict[str, dict[str, Any]] = {
    "naive": {"name": "naive", "generations_per_epoch": 20, "flip_probability": 1e-3},
    "naive-plain": {"name": "naive", "generations_per_epoch": 20, "evaluation": "plain", "fitness": "hits"},
    "elitist": {"name": "elitist", "generations_per_epoch": 5, "crossover": 0.3, "tournament": 2},
    "counting": {"name": "counting"},
    "counting-balanced": {"name": "counting", "credit": "balanced", "keep_parent": True},
    "inertia": {"name": "inertia", "voters": 2},
}
TIMES = {"images_per_s"}


def cases() -> dict[str, dict[str, Any]]:
    """Configurations of all kinds, by name; each is seconds of training on the digits."""
    found = {name: {"model": MLP, "method": method} for name, method in METHODS.items()}
    found |= {name: {"model": model, "method": {"name": "ste"}} for name, model in MODELS.items()}
    found |= {name: {"model": CNN, "method": {"name": "ste"}, **more} for name, more in SECTIONS.items()}
    xor = {"name": "xor_mlp", "hidden": [64], "bits_per_label": 16, "thresholds": [64, 128]}
    shifted = {**DIGITS, "augment": ["shift"], "batch_size": 50}
    found |= {name: {"model": xor, "method": method, "data": shifted} for name, method in EVOLUTION.items()}
    for each in found.values():
        each["data"] = each.get("data", DIGITS)
        each["plan"] = {"epochs": 4, **each.get("plan", {})}
    return found


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """Everything that a run of `case` comes to, as text that JSON keeps."""
    torch.set_num_threads(1)
    config = TrialConfig.model_validate({**case, "seed": 7})
    trainer = build_trainer(config)
    epochs = [
        {
            "phase": each.phase,
            "values": {name: value.hex() for name, value in _floats(each.values) if name not in TIMES},
            "layers": {name: [value.hex() for _, value in _floats(layers)] for name, layers in each.layers.items()},
            "weights": [float(value).hex() for value in each.weights],
        }
        for each in trainer.fit()
    ]
    costs = {name: value.hex() for name, value in _floats(trainer.costs())}
    tested = {name: value.hex() for name, value in _floats(trainer.test())}
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder, "model.bnn")
        packed_network(exported(trainer), load_data(config.data)).save(packed)
        digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    return {"config": config.model_dump(mode="json"), "epochs": epochs, "costs": costs, "test": tested, "bnn": digest}


def _floats(values: Any) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in values.items()]


def main() -> None:
    file = Path(sys.argv[1])
    before = json.loads(file.read_text()) if file.exists() else {}
    now: dict[str, Any] = {}
    differ = []
    for name, case in cases().items():
        now[name] = json.loads(json.dumps(outcome(case)))
        same = before.get(name, now[name]) == now[name]
        differ += [] if same else [name]
        print(f"{name:20} {'' if same else 'differs'}", flush=True)
    if not before:
        file.write_text(json.dumps(now))
    print(f"{len(now)} runs, {len(differ)} differ" if before else f"{len(now)} runs recorded")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
