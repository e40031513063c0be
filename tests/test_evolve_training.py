"""Every evolutionary method through the trainer's interface, on real digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bnnsearch import native
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.data import DataError, Dataset, StreamedSplit, load_data
from bnnsearch.evolve.batch_errors import BatchErrors
from bnnsearch.evolve.build import build_evolution_trainer
from bnnsearch.training import validated

FEW = {"samples": 300, "flip_probability": 1e-3}
METHODS: dict[str, dict[str, Any]] = {
    "naive": {"name": "naive", "generations_per_epoch": 60, **FEW},
    "naive deep": {"name": "naive", "generations_per_epoch": 30, "fitness": "hits", **FEW},
    "elitist": {"name": "elitist", "generations_per_epoch": 5, "flip_decay": 0.9, **FEW},
    "elitist crossed": {
        "name": "elitist",
        "generations_per_epoch": 5,
        "crossover": 0.3,
        "tournament": 2,
        "survivors": "comma",
        **FEW,
    },
    "counting": {"name": "counting", "share": 0.01},
    "counting literal": {"name": "counting", "credit": "literal", "fitness": "hits"},
    "counting balanced": {"name": "counting", "credit": "balanced", "keep_parent": True},
    "inertia": {"name": "inertia"},
    "inertia voters": {"name": "inertia", "voters": 2, "decays": 0},
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data(config("inertia").data)


def config(method: str, *, epochs: int = 4, seed: int = 3, **changes: Any) -> TrialConfig:
    hidden = [32, 40, 24] if method == "naive deep" else [32]
    return TrialConfig.model_validate(
        {
            "data": {"name": "digits", "batch_size": 100, "augment": ["shift"] if method == "inertia" else []},
            "model": {"name": "xor_mlp", "hidden": hidden, "bits_per_label": 9},
            "method": {**METHODS[method], **changes},
            "plan": {"epochs": epochs},
            "seed": seed,
        }
    )


@pytest.mark.parametrize("method", METHODS)
def test_resuming_is_as_if_never_interrupted_and_the_export_is_what_was_measured(
    method: str, digits: Dataset, tmp_path: Path
) -> None:
    trial = config(method)
    whole = build_evolution_trainer(trial, data=digits)
    metrics = [epoch.values["val_acc"] for epoch in whole.fit()]

    first = build_evolution_trainer(trial, data=digits)
    for _ in zip(range(2), first.fit(), strict=False):
        pass
    save_checkpoint(tmp_path / "state", first.state_dict())
    second = build_evolution_trainer(trial, data=digits)
    second.load_state_dict(load_checkpoint(tmp_path / "state"))
    assert [epoch.values["val_acc"] for epoch in second.fit()] == metrics[2:]
    assert (second.network().genome == whole.network().genome).all()
    assert second.state_dict()["bit_operations"] == whole.state_dict()["bit_operations"]

    for split, reported in ((digits.test, whole.test()["test_acc"]), (digits.val, metrics[-1])):
        predicted = whole.network().predict(split.images.numpy())  # type: ignore[union-attr]
        assert (predicted == split.labels.numpy()).mean() == pytest.approx(reported)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_the_network_whatever_the_threads(method: str, digits: Dataset) -> None:
    def genome(seed: int) -> np.ndarray:
        trainer = build_evolution_trainer(config(method, epochs=2, seed=seed), data=digits)
        for _ in trainer.fit():
            pass
        return trainer.network().genome

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = genome(5)
        torch.set_num_threads(3)
        assert (genome(5) == alone).all()
        assert not (genome(6) == alone).all()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("method", ["naive", "naive deep", "elitist"])
def test_incremental_and_plain_evaluation_take_the_same_course(method: str, digits: Dataset) -> None:
    ends = []
    for evaluation in ("incremental", "plain"):
        trainer = build_evolution_trainer(config(method, evaluation=evaluation), data=digits)
        ends.append([epoch.values["train_acc"] for epoch in trainer.fit()])
        ends.append(trainer.network().genome.tolist())
    assert ends[:2] == ends[2:]


def reachable(thing: Any, seen: set[int]) -> Iterator[Any]:
    """Everything that hangs on an object of ours."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    yield thing
    parts: list[Any] = []
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, list | tuple | set):
        parts = list(thing)
    elif type(thing).__module__.startswith(("bnnsearch.evolve", "deap", "functools")):
        parts = [getattr(thing, name) for name in getattr(type(thing), "__slots__", ()) if hasattr(thing, name)]
        parts += list(getattr(thing, "__dict__", {}).values())
        parts += [getattr(thing, name) for name in ("args", "keywords", "func", "__self__") if hasattr(thing, name)]
    elif hasattr(thing, "__self__"):
        parts = [thing.__self__]
    for part in parts:
        yield from reachable(part, seen)


@pytest.mark.parametrize("method", METHODS)
def test_no_array_in_training_is_floating(method: str, digits: Dataset) -> None:
    trainer = build_evolution_trainer(config(method, epochs=2), data=digits)
    for _ in trainer.fit():
        arrays = [part for part in reachable([trainer._problem, trainer._algorithm], set())
                  if isinstance(part, np.ndarray)]  # fmt: skip
        assert len(arrays) > 10
        assert not [array.dtype for array in arrays if not np.issubdtype(array.dtype, np.integer)]
        scores = [part for part in reachable(trainer._algorithm, set()) if hasattr(part, "wvalues")]
        assert all(isinstance(value, int) for fitness in scores for value in fitness.wvalues)


def test_no_kernel_knows_floating_point() -> None:
    sources = list((Path(native.__file__).parent / "evolve").glob("*.[ch]"))
    assert len(sources) > 10
    for source in sources:
        assert not re.search(r"\b(float|double|_ps|_pd)\b|\d\.\d*f?\b", source.read_text()), source


def test_inertia_learns_digits(digits: Dataset) -> None:
    trial = config("inertia", epochs=100).model_dump()
    trial["model"] |= {"hidden": (256,), "bits_per_label": 32, "thresholds": (64, 128, 192)}
    trial["method"] |= {"margin": 16, "start": 60, "band": 20, "gate": 12}
    trial["data"]["augment"] = ()
    trainer = build_evolution_trainer(TrialConfig.model_validate(trial), data=digits)
    for _ in trainer.fit():
        pass
    assert trainer.test()["test_acc"] > 0.94


def test_costs_count_bits(digits: Dataset) -> None:
    trainer = build_evolution_trainer(config("inertia"), data=digits)
    weights = 64 * 32 + 32 * 90
    costs = trainer.costs()
    assert costs["memory_bytes"] == weights / 8
    assert (costs["bops"], costs["flops"], costs["ops"]) == (weights, 0, weights / 64)
    spent = [epoch.values["train_bitops"] for epoch in trainer.fit()]
    assert 0 < spent[0] < spent[-1] <= costs["train_bitops"]
    assert validated(config("inertia"))["train_bitops"] == spent[-1]
    # 12 batches of 100 images in 4 epochs: forward alone is this many one-bit MACs, of 3 * 32^2 in a unit
    assert spent[-1] >= 4 * 12 * 100 * weights / 3072


def test_incremental_scoring_spends_less_than_fresh_passes(digits: Dataset) -> None:
    spent = []
    for evaluation in ("incremental", "plain"):
        trainer = build_evolution_trainer(config("naive", evaluation=evaluation, flip_probability=2e-4), data=digits)
        *_, last = trainer.fit()
        spent.append(last.values["train_bitops"])
    assert spent[0] < spent[1] / 2


@settings(deadline=None, max_examples=25)
@given(
    method=st.sampled_from(sorted(METHODS)),
    samples=st.sampled_from([1, 3, 50]),
    probability=st.sampled_from([1e-4, 1e-3, 0.01, 0.3]),
    generations=st.sampled_from([1, 3, 9, 40]),
)
@example("naive", 1, 1e-3, 40)  # on one image nearly every copy is as good: most of each lot is drawn in vain
@example("elitist", 50, 0.3, 1)  # one generation: judging the elite itself is a good part
def test_no_run_spends_more_than_planned(
    digits: Dataset, method: str, samples: int, probability: float, generations: int
) -> None:
    perturbing = {"samples": samples, "generations_per_epoch": generations, "evaluation": "plain", "fitness": "hits"}
    scored = method.startswith(("naive", "elitist"))
    changes: dict[str, Any] = {} if method.startswith("inertia") else {"flip_probability": probability}
    trainer = build_evolution_trainer(
        config(method, epochs=2, **changes, **(perturbing if scored else {})), data=digits
    )
    *_, last = trainer.fit()
    assert 0 < last.values["train_bitops"] <= trainer.costs()["train_bitops"]


@pytest.mark.parametrize(("gate", "kept"), [(0, False), (12, True)])
def test_counting_is_charged_for_the_images_that_ask(
    gate: int, kept: bool, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    count = BatchErrors.count

    def counted(self: BatchErrors, *batch: Any) -> tuple[int, int]:
        found = count(self, *batch)
        asked.append(found[1])
        return found

    monkeypatch.setattr(BatchErrors, "count", counted)
    trial = config("counting", epochs=1, margin=1, gate=gate, keep_parent=kept)
    *_, last = build_evolution_trainer(trial, data=digits).fit()
    first, second = 64 * 32, 32 * 90
    # all forward, the children too; who asks backward through the second layer and to all counters, of 16 bits each
    passes = len(asked) * (1 + 6 + kept) * 100 * (first + second)
    credit = sum(asking * (first + 2 * second) + 16 * (first + second) * (asking > 0) for asking in asked)
    assert 0 < sum(asked) < 100 * len(asked)
    assert last.values["train_bitops"] * 3072 == pytest.approx(passes + credit, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "mlp"}}, "need each other, but got model mlp with method inertia"),
        ({"method": {"name": "ste"}}, "need each other, but got model xor_mlp with method ste"),
        ({"recu": {}}, "but got recu"),
        ({"data": {"name": "digits", "augment": ["shift", "cutout"]}}, "but got data.augment cutout"),
        ({"data": {"name": "digits", "augment": [{"name": "shift", "pixels": 3}]}}, "at most 2 pixels, but got data"),
        ({"data": {"name": "digits", "batch_size": 30_000}, "method": {"name": "inertia", "voters": 2}}, "got 60000"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrialConfig.model_validate({**config("inertia").model_dump(exclude={"name"}), **change})


def test_streamed_images_and_empty_crops_are_refused(digits: Dataset) -> None:
    streamed = StreamedSplit((), torch.zeros(0, dtype=torch.int64), (0.0,), (1.0,), 8, 0, torch.device("cpu"))
    data = Dataset(streamed, streamed, streamed, 10, (3, 8, 8))
    with pytest.raises(DataError, match="images in memory"):
        build_evolution_trainer(config("inertia"), data=data)
    trial = config("inertia").model_dump()
    trial["model"]["crop"] = 4
    with pytest.raises(DataError, match=r"but got 4 \* 2 >= 8"):
        build_evolution_trainer(TrialConfig.model_validate(trial), data=digits)
