"""The file of a packed model: whole or refused, with a reason in one line."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.numpy import save
from torch import nn

from bnnsearch.config.model import Resnet18Config
from bnnsearch.core.binarize import sign
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, Sign
from bnnsearch.core.models.build import build_model
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.packed.format import parse
from bnnsearch.packed.model import PackedModel


@pytest.fixture(scope="module")
def packed() -> PackedModel:
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), Sign(), BinaryConv2d(5, 70, 3),
        nn.BatchNorm2d(70), Sign(), nn.Identity(), BinaryConv2d(70, 9, 2), nn.Flatten(), nn.Linear(9, 4),
    ).eval()  # fmt: skip
    nn.init.normal_(module[4].weight)
    provenance = {"config": "a test", "accuracy": "none"}
    return PackedModel.from_module(
        module, shape=(3, 4, 4), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3), provenance=provenance
    )


@pytest.fixture(scope="module")
def content(packed: PackedModel, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("packed") / "model.bnn"
    packed.save(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.bnn"]
    return path.read_bytes()


def load(path: Path, content: bytes) -> PackedModel:
    path.write_bytes(content)
    return PackedModel.load(path)


def with_manifest(content: bytes, change: Any) -> bytes:
    """The file with another manifest, all digests right."""
    (length,) = struct.unpack("<Q", content[:8])
    manifest = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["manifest"])
    text = json.dumps(change(manifest))
    dtypes = {"U64": np.uint64, "F32": np.float32, "I32": np.int32, "I8": np.int8, "U8": np.uint8}
    tensors = {
        name: np.frombuffer(entry["data"], dtypes[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in deserialize(content)
    }
    return save(tensors, {"manifest": text, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()})


def test_what_is_saved_is_what_is_loaded(packed: PackedModel, content: bytes, tmp_path: Path) -> None:
    loaded = load(tmp_path / "model.bnn", content)
    assert loaded.graph == packed.graph
    assert loaded.provenance == {"config": "a test", "accuracy": "none"}
    assert loaded.tensors.keys() == packed.tensors.keys()
    for name, array in packed.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
        assert loaded.tensors[name].dtype == array.dtype
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    np.testing.assert_array_equal(loaded.logits(images), packed.logits(images))


def test_a_file_is_a_function_of_its_model_alone(packed: PackedModel, content: bytes, tmp_path: Path) -> None:
    for number in range(8):  # safetensors writes metadata in any order
        packed.save(tmp_path / f"{number}.bnn")
        assert (tmp_path / f"{number}.bnn").read_bytes() == content


def test_bits_lie_as_the_documentation_says(packed: PackedModel) -> None:
    """Output channel 0: bit (row 3 + column) 5 + channel, least significant first."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), BinaryConv2d(5, 70, 3))
    weight = sign(module[2].weight)[0]
    word = sum(1 << ((y * 3 + x) * 5 + c) for y in range(3) for x in range(3) for c in range(5) if weight[c, y, x] > 0)
    assert packed.tensors["3"].shape == (70, 1)
    assert int(packed.tensors["3"][0, 0]) == word


@given(cut=st.floats(0, 1, exclude_max=True))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_refused(content: bytes, tmp_path: Path, cut: float) -> None:
    with pytest.raises(EnvironmentProblem, match=r"model\.bnn: ") as caught:
        load(tmp_path / "model.bnn", content[: int(cut * len(content))])
    assert "\n" not in str(caught.value)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused_or_changes_nothing(
    packed: PackedModel, content: bytes, tmp_path: Path, place: float, bit: int
) -> None:
    """Only what stands in no digest, such as a space in the header, may change without notice."""
    changed = bytearray(content)
    changed[int(place * len(content))] ^= 1 << bit
    try:
        loaded = load(tmp_path / "model.bnn", bytes(changed))
    except EnvironmentProblem as problem:
        assert "\n" not in str(problem)
        return
    assert loaded.graph == packed.graph
    assert all(np.array_equal(loaded.tensors[name], array) for name, array in packed.tensors.items())


@given(noise=st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed model|manifest"):
        parse(noise)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(header=JSON, manifest=JSON, tail=st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_any_header_is_read_or_refused(header: Any, manifest: Any, tail: bytes) -> None:
    text = json.dumps(manifest)
    if isinstance(header, dict):
        header["__metadata__"] = {"manifest": text, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
    packed_header = json.dumps(header).encode()
    with pytest.raises(ValueError):
        parse(struct.pack("<Q", len(packed_header)) + packed_header + tail)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in _places(part, (*path, key)))]


def test_what_a_manifest_says_reaches_the_terminal_escaped(content: bytes) -> None:
    def change(manifest: Any) -> Any:
        manifest["graph"]["operations"][1]["op"] = "pool\n\x1b[31m"
        return manifest

    with pytest.raises(ValueError, match=r"graph\.operations\.1: .*pool\\n\\x1b\[31m") as caught:
        parse(with_manifest(content, change))
    assert str(caught.value).isprintable()


def test_a_name_that_does_not_print_is_refused(content: bytes) -> None:
    def change(manifest: Any) -> Any:
        manifest["graph"]["operations"][2]["name"] = "\x1f"
        return manifest

    with pytest.raises(ValueError, match="a name must be printable") as caught:
        parse(with_manifest(content, change))
    assert str(caught.value).isprintable()


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_changed_anywhere_never_crashes_the_reader(content: bytes, data: st.DataObject) -> None:
    """With every digest right again: only what the manifest means can refuse it, and a network that is left runs."""

    def change(manifest: Any) -> Any:
        path = data.draw(st.sampled_from(_places(manifest)))
        values = (
            st.sampled_from([0, 1, 2, 3, 64, 65, -1, 2**40, "input", "3", None, [], {}, [1, 1], [9, 9], True]) | JSON
        )
        if not path:
            return data.draw(values)
        part = manifest
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = data.draw(values)
        return manifest

    try:
        manifest, tensors = parse(with_manifest(content, change))
    except ValueError as error:
        assert str(error).isprintable()
        return
    if np.prod(manifest.graph.images.shape) > 10_000:
        return
    images = np.zeros((2, *manifest.graph.images.shape), np.uint8)
    assert PackedModel(manifest.graph, tensors).logits(images).shape[0] == 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layout": "NHW", "low": [0.0] * 9, "high": [1.0] * 9}, "scales 9 channels, but the images have"),
        ({"layout": "NHW", "low": [1.0], "high": [0.0]}, "low must be below high for each channel"),
        ({"layout": "HWN", "low": [0.0], "high": [1.0]}, "preprocessing.arrays.layout"),
    ],
)
def test_the_scale_of_arrays_is_checked(content: bytes, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(with_manifest(content, lambda manifest: manifest | {"preprocessing": {"arrays": arrays}}))


def test_a_later_version_asks_for_an_update(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="version 3 is later than 2"):
        load(
            tmp_path / "model.bnn", with_manifest(content, lambda manifest: manifest | {"version": 3, "bit_order": "x"})
        )


def test_unknown_keys_of_the_same_version_are_left_out(packed: PackedModel, content: bytes, tmp_path: Path) -> None:
    later = with_manifest(content, lambda manifest: manifest | {"licence": "none"})
    assert load(tmp_path / "model.bnn", later).graph == packed.graph


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    foreign = save({"weight": np.zeros(3, np.float32)}, {"format": "pt"})
    with pytest.raises(EnvironmentProblem, match="not a packed model"):
        load(tmp_path / "foreign.safetensors", foreign)
    with pytest.raises(EnvironmentProblem, match="cannot be read: No such file"):
        PackedModel.load(tmp_path / "missing.bnn")


def test_resnet18_is_thirty_times_smaller_on_disk(tmp_path: Path) -> None:
    module = build_model(Resnet18Config(), shape=(3, 32, 32), classes=10)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    PackedModel.from_module(module, shape=(3, 32, 32), mean=(0.5,) * 3, std=(0.25,) * 3).save(tmp_path / "model.bnn")
    assert (tmp_path / "state.pt").stat().st_size >= 30 * (tmp_path / "model.bnn").stat().st_size


def test_a_network_of_linear_layers_ends_in_integers(tmp_path: Path) -> None:
    """Three inputs against rows of +-1, by hand: (+, -, +) . (+, +, +) = 1 and . (-, +, -) = -3."""
    layer = BinaryLinear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]]))
    model = PackedModel.from_module(
        nn.Sequential(nn.Flatten(), Sign(), layer), shape=(1, 1, 3), mean=(0.5,), std=(0.5,)
    )
    assert model.tensors["2"].tolist() == [[0b111], [0b010]]
    assert model.logits(np.array([[[[200, 3, 255]]]], np.uint8)).tolist() == [[1.0, -3.0]]
