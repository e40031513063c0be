"""Mutated packed files, checkpoints and images: each is refused in one printable line, or is what it was.

In the full form, `make test-attacks`, 10,000 mutations of each.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from attacks import mutated, tries
from PIL import Image
from test_attack_spaces import limited_processor_time
from test_packed_format import with_manifest

from bnnsearch.config.activation import RpreluConfig
from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.method import SteConfig
from bnnsearch.config.model import CnnConfig, MlpConfig
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import MAGIC, load_checkpoint, save_checkpoint
from bnnsearch.core.images import open_image
from bnnsearch.core.models.build import build_model
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.deploy import pack_run
from bnnsearch.errors import DataError, EnvironmentProblem, InputError
from bnnsearch.packed.format import parse
from bnnsearch.packed.model import PackedModel
from bnnsearch.training import read_epochs, read_run, train
from bnnsearch.trial import build_trainer

# --- packed files


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackedModel, bytes]:
    torch.manual_seed(0)
    network = build_model(CnnConfig(width=0.1, activation=RpreluConfig()), shape=(1, 8, 8), classes=3)
    model = PackedModel.from_module(network, shape=(1, 8, 8), mean=(0.5,), std=(0.5,), classes=("a", "b", "c"))
    path = tmp_path_factory.mktemp("packed") / "model.bnn"
    model.save(path)
    return model, path.read_bytes()


@pytest.mark.attack
@pytest.mark.timeout(0)
def test_mutated_packed_files(packed: tuple[PackedModel, bytes], tmp_path: Path) -> None:
    model, content = packed
    path, refused = tmp_path / "model.bnn", 0
    for seed in tries(300):
        path.write_bytes(mutated(content, random.Random(seed)))
        try:
            with limited_processor_time():
                read = PackedModel.load(path)
        except EnvironmentProblem as problem:
            assert str(problem).isprintable(), seed
            refused += 1
            continue
        assert (read.graph, read.classes, read.preprocessing) == (model.graph, model.classes, model.preprocessing), seed
        assert all(np.array_equal(read.tensors[name], array) for name, array in model.tensors.items()), seed
    assert refused > 0.9 * seed


VALUES = (
    0,
    1,
    2,
    3,
    7,
    64,
    65,
    -1,
    2**31,
    2**40,
    10**400,
    0.5,
    1e308,
    "",
    "input",
    "a\x1b[31m",
    "\ud800",
    None,
    [],
    {},
)
VALUES += ([1, 1], [9, 9], True, ["x"] * 3, "bilinear")


def changed_somewhere(value: Any, source: random.Random) -> Any:
    """A JSON value with one part of it replaced, deleted or doubled."""
    parts = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not parts or source.random() < 0.1:
        return source.choice(VALUES)
    key, part = source.choice(parts)
    act, copy = source.random(), value.copy()
    if act < 0.1:
        del copy[key]
    elif act < 0.2 and isinstance(copy, list):
        copy.insert(key, part)
    else:
        copy[key] = changed_somewhere(part, source)
    return copy


@pytest.mark.attack
@pytest.mark.timeout(0)
def test_mutated_manifests_with_right_digests(packed: tuple[PackedModel, bytes]) -> None:
    """Only what it means can refuse it; a network that is left runs."""
    ran = 0
    for seed in tries(300):
        source = random.Random(seed)
        try:
            forged = with_manifest(packed[1], lambda manifest, source=source: changed_somewhere(manifest, source))
        except UnicodeEncodeError:
            continue  # a lone surrogate cannot be signed in UTF-8
        try:
            with limited_processor_time():
                manifest, tensors = parse(forged)
                values = sum(np.prod(shape) for shape in manifest.graph.shapes().values())
                if values > 10**6:
                    continue  # right, but not for the memory of a test
                images = np.zeros((1, *manifest.graph.images.shape), np.uint8)
                model = PackedModel(
                    manifest.graph, tensors, classes=manifest.classes, preprocessing=manifest.preprocessing
                )
                assert model.logits(images).shape == (1, len(model.classes)), seed
                ran += 1
        except ValueError as error:
            assert str(error).isprintable(), seed
    assert ran > 0


# --- checkpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialConfig, Path]:
    config = TrialConfig(
        data=DigitsConfig(train_limit=100), model=MlpConfig(hidden=(9,)), method=SteConfig(),
        plan=PlanConfig(epochs=1), seed=0,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("run")
    train(config, out)
    return config, out


@pytest.mark.attack
@pytest.mark.timeout(0)
def test_mutated_checkpoints(run: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    content, path = (run[1] / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    for seed in tries(300):
        damaged = mutated(content, random.Random(seed))
        path.write_bytes(damaged)
        if damaged == content:
            continue
        with limited_processor_time(), pytest.raises(ValueError) as told:
            load_checkpoint(path)
        assert str(told.value).isprintable(), seed


@pytest.mark.attack
@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore")  # torch's, of what it finds in forged archives
def test_mutated_checkpoints_with_right_digests(run: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    """The archive is torch's; what it is told to hold is plain values or nothing."""
    content, path = (run[1] / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    payload = content[len(MAGIC) + 32 :]
    for seed in tries(300):
        forged = mutated(payload, random.Random(seed))
        path.write_bytes(MAGIC + hashlib.sha256(forged).digest() + forged)
        try:
            with limited_processor_time():
                assert isinstance(load_checkpoint(path), dict), seed
        except ValueError as error:
            assert str(error).isprintable(), seed


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def test_no_checkpoint_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "torch.pt", {"trainer": Harmful()})
    pickled = pickle.dumps({"trainer": Harmful()})
    (tmp_path / "pickle.pt").write_bytes(MAGIC + hashlib.sha256(pickled).digest() + pickled)
    (tmp_path / "bare.pt").write_bytes(pickled)
    for name in ("torch", "pickle", "bare"):
        with pytest.raises(ValueError, match=rf"{name}\.pt: (a checkpoint may hold only|not a checkpoint)"):
            load_checkpoint(tmp_path / f"{name}.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.attack
@pytest.mark.timeout(0)
def test_checkpoints_of_other_values_are_refused(run: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    """Values of any kind in any place, in a checkpoint with a right digest: refused, or a trainer that goes on."""
    config, out = run
    saved, path = load_checkpoint(out / "checkpoint.pt"), tmp_path / "checkpoint.pt"
    trainer = build_trainer(config)
    for seed in tries(300):
        changed = changed_somewhere(saved, random.Random(seed))
        save_checkpoint(path, changed if isinstance(changed, dict) else {"trainer": changed})
        try:
            with limited_processor_time():
                read_run(trainer.load_state_dict, tmp_path, tuple("0123456789"))
        except EnvironmentProblem as problem:
            assert str(problem).isprintable(), seed


@pytest.mark.parametrize("name", ["trial.json", "result.json", "checkpoint.pt", "model.bnn"])
def test_a_sparse_file_that_no_memory_holds_is_named(name: str, run: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    config, out = run
    shutil.copytree(out, tmp_path / "run")
    path = tmp_path / "run" / name
    with path.open("ab") as file:
        file.truncate(2**33)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**31, before[1]))
    try:
        with pytest.raises(EnvironmentProblem, match=rf"{name}: cannot be read.*larger than the memory"):
            use_run(name, config, path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def use_run(name: str, config: TrialConfig, path: Path) -> None:
    if name == "model.bnn":
        PackedModel.load(path)
    elif name == "result.json":
        train(config, path.parent)
    else:
        pack_run(path.parent, path.with_name("packed.bnn"))


def test_an_epoch_whose_line_or_checkpoint_did_not_fit_is_in_the_history(
    run: tuple[TrialConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the second epoch, and half of a line is left."""
    config, saved = run[0].model_copy(update={"plan": PlanConfig(epochs=3)}), []

    def full(path: Path, state: dict[str, Any]) -> None:
        saved.append(path)
        if len(saved) == 2:
            history = tmp_path / "epochs.jsonl"
            os.truncate(history, history.stat().st_size - 9)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_checkpoint(path, state)

    monkeypatch.setattr("bnnsearch.training.save_checkpoint", full)
    with pytest.raises(OSError, match="No space left"):
        train(config, tmp_path)
    train(config, tmp_path)
    assert [each.epoch for each in read_epochs(tmp_path)] == [1, 2, 3]


def test_a_folder_has_one_training_at_a_time(run: tuple[TrialConfig, Path], tmp_path: Path) -> None:
    refused: list[str] = []

    def begin_another(_: EpochMetrics) -> None:
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(InputError, match="another process trains in it") as told:
            train(run[0], tmp_path)
        refused.append(str(told.value))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    trained = train(run[0], tmp_path, on_epoch=begin_another)
    assert len(refused) == 1
    assert train(run[0], tmp_path) == trained


@pytest.mark.parametrize("name", ["trial.json", "result.json", "checkpoint.pt"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "folder", "fifo", "gone", "list"])
def test_a_damaged_run_is_refused_in_one_line(
    name: str, damage: str, run: tuple[TrialConfig, Path], tmp_path: Path
) -> None:
    config, out = run
    shutil.copytree(out, tmp_path / "run")
    path = tmp_path / "run" / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "empty":
            path.write_bytes(b"")
        case "noise":
            path.write_bytes(random.Random(0).randbytes(100))
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "list":
            path.write_text("[]")
    for act in (lambda: pack_run(tmp_path / "run", tmp_path / "model.bnn"), lambda: train(config, tmp_path / "run")):
        try:
            act()
        except (EnvironmentProblem, ValueError) as problem:
            assert name in str(problem) and str(problem).isprintable()


# --- images


@pytest.mark.attack
@pytest.mark.timeout(0)
@pytest.mark.filterwarnings("ignore")  # Pillow's, which the readers of whole sets silence
def test_mutated_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    contents = []
    for form in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        written = io.BytesIO()
        Image.fromarray(pixels).save(written, form)
        contents.append(written.getvalue())
    path = tmp_path / "image.png"
    for seed in tries(300):
        source = random.Random(seed)
        path.write_bytes(mutated(source.choice(contents), source))
        try:
            with limited_processor_time():
                assert open_image(path, "RGB").mode == "RGB", seed
        except DataError as error:
            assert str(error).isprintable(), seed
