"""Evolution is integer arithmetic: the same seed gives the same network and the same metrics, bit for bit.

The digests are those of the first kernels, compiled by numba: whatever replaces these is held to the same course. They
hold for NumPy's generator as it is; were its stream to change, they would all change together.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.data import Dataset, Split
from bnnsearch.evolve.build import build_evolution_trainer

CLASSES, SHAPE = 5, (1, 9, 11)

FEW = {"samples": 300, "generations_per_epoch": 25, "flip_probability": 1e-3}
NAIVE, ELITIST = {"name": "naive", **FEW}, {"name": "elitist", **FEW, "generations_per_epoch": 4}
COUNTING, INERTIA = {"name": "counting", "share": 0.01}, {"name": "inertia", "start": 30, "band": 8, "limit": 200}
PLAIN, HITS = {"evaluation": "plain"}, {"fitness": "hits"}
CROSSED = {"crossover": 0.3, "tournament": 2, "survivors": "comma"}
LITERAL, BALANCED = {"credit": "literal", "fitness": "hits"}, {"credit": "balanced", "keep_parent": True}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # method, hidden layers and votes per label, further settings of model and data
    "naive": (NAIVE, {"hidden": [33], "bits_per_label": 9}, {}),
    "naive, plain": (NAIVE | PLAIN, {"hidden": [33], "bits_per_label": 9}, {}),
    "naive, deep": (NAIVE | HITS, {"hidden": [32, 40, 24], "bits_per_label": 1}, {}),
    "naive, deep, plain": (NAIVE | HITS | PLAIN, {"hidden": [32, 40, 24], "bits_per_label": 1}, {}),
    "naive, many flips": (NAIVE | {"flip_probability": 1e-2}, {"hidden": [65, 7], "bits_per_label": 70}, {}),
    "naive, all images": (NAIVE | {"samples": None}, {"hidden": [130, 64], "bits_per_label": 26}, {"crop": 1}),
    "elitist": (ELITIST, {"hidden": [33], "bits_per_label": 9}, {}),
    "elitist, crossed": (ELITIST | CROSSED, {"hidden": [128, 63], "bits_per_label": 13}, {}),
    "elitist, plain": (ELITIST | PLAIN | {"flip_decay": 0.9}, {"hidden": [3, 1, 5], "bits_per_label": 64}, {}),
    "counting": (COUNTING, {"hidden": [96], "bits_per_label": 11}, {}),
    "counting, deep": (COUNTING | {"keep_parent": True}, {"hidden": [64, 37], "bits_per_label": 5}, {"crop": 2}),
    "counting, literal": (COUNTING | LITERAL, {"hidden": [31], "bits_per_label": 9}, {}),
    "counting, balanced": (COUNTING | BALANCED, {"hidden": [64, 37], "bits_per_label": 9}, {}),
    "inertia": (INERTIA, {"hidden": [96], "bits_per_label": 13}, {}),
    "inertia, deep": (INERTIA, {"hidden": [70, 130, 9, 64], "bits_per_label": 26}, {"thresholds": [64, 128, 192]}),
    "inertia, shifted": (INERTIA | {"voters": 3}, {"hidden": [16, 257], "bits_per_label": 1}, {"augment": ["shift"]}),
    "inertia, all near": (INERTIA | {"gate": 65536, "error_threshold": 0}, {"hidden": [1], "bits_per_label": 3}, {}),
    "inertia, no decay": (INERTIA | {"margin": 4096, "decays": 0}, {"hidden": [64], "bits_per_label": 64}, {}),
}

DIGESTS = {
    "naive": "febb5103a38df091",
    "naive, plain": "6a148f8b2041488f",
    "naive, deep": "cd37ef835382fe2d",
    "naive, deep, plain": "0cc2fd07d3989b5f",
    "naive, many flips": "557292fdf40607b2",
    "naive, all images": "5a72e7bf38928b9a",
    "elitist": "34d7a2e3eede7b58",
    "elitist, crossed": "013f76f194c6e8c2",
    "elitist, plain": "0a4c4384f90f4b1a",
    "counting": "cce29bdb9b4c8910",
    "counting, deep": "f7380beb0bcc1148",
    "counting, literal": "8af2d41dfcc93e23",
    "counting, balanced": "511a86006cbc5b32",
    "inertia": "8d97baf09866ca0c",
    "inertia, deep": "061a0bffebbe371c",
    "inertia, shifted": "da7df7d71a10bf13",
    "inertia, all near": "b4b773ecb3d65cf4",
    "inertia, no decay": "99fccc041657a5ba",
}


def blurred_templates() -> Dataset:
    """Images that differ from one of five templates in a third of their pixels."""
    generator = np.random.default_rng(16)
    templates = generator.integers(0, 256, (CLASSES, *SHAPE), np.uint8)

    def split(count: int) -> Split:
        labels = generator.integers(0, CLASSES, count)
        noise = generator.integers(0, 256, (count, *SHAPE), np.uint8)
        images = np.where(generator.integers(0, 3, noise.shape) == 0, noise, templates[labels])
        return Split(torch.from_numpy(images), torch.from_numpy(labels))

    return Dataset(split(517), split(130), split(100), CLASSES, SHAPE)


LATER = ("images_per_s", "val_balanced_acc", "test_balanced_acc")
"""What no digest holds: time, and metrics that came after they were recorded."""


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_network_and_metrics(case: str) -> None:
    method, model, more = CASES[case]
    data = {"batch_size": 100} | {name: value for name, value in more.items() if name == "augment"}
    bits = {name: value for name, value in more.items() if name != "augment"}
    trial = {
        "data": {"name": "digits", **data},
        "model": {"name": "xor_mlp", **model, **bits},
        "method": method,
        "plan": {"epochs": 4},
        "seed": 16,
    }
    trainer = build_evolution_trainer(TrialConfig.model_validate(trial), data=blurred_templates())
    digest = sha256()
    for epoch in trainer.fit():
        digest.update(repr(sorted((k, v) for k, v in epoch.values.items() if k not in LATER)).encode())
    digest.update(repr({k: v for k, v in trainer.test().items() if k not in LATER}).encode())
    state = trainer.state_dict()["algorithm"]
    for tensor in (*state.get("genomes", ()), *(state[name] for name in ("genome", "counters") if name in state)):
        digest.update(tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[case]
