"""Arrays of numbers as a data set: what they become, what is refused, and that a packed model reads them the same."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bnnsearch.cli import main
from bnnsearch.config.data import ArraysConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.arrays import Scaling, measured_scaling
from bnnsearch.core.data import DataError, Split, check_data, load_data
from bnnsearch.core.data.arrays import from_samples, stacked
from bnnsearch.deploy import compare, exported, packed_network
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.predict import predict_files
from bnnsearch.trial import build_trainer

SOURCE = np.random.default_rng(0)
LABELS = np.arange(60) % 3


def config(root: Path, **settings: Any) -> ArraysConfig:
    return ArraysConfig(root=str(root), **settings)


def write(folder: Path, **arrays: np.ndarray) -> Path:
    """The same arrays as `set.npz` and as `.npy` files."""
    np.savez_compressed(folder / "set.npz", **arrays)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder / "set.npz"


@pytest.mark.parametrize(
    ("layout", "stored", "shape"),
    [
        ("NHW", (60, 4, 5), (1, 4, 5)),
        ("NCHW", (60, 2, 4, 5), (2, 4, 5)),
        ("NHWC", (60, 4, 5, 2), (2, 4, 5)),
        ("NL", (60, 7), (1, 1, 7)),
        ("NCL", (60, 2, 7), (2, 1, 7)),
        ("NLC", (60, 7, 2), (2, 1, 7)),
    ],
)
def test_an_archive_and_mapped_files_give_the_octets_of_every_layout(
    tmp_path: Path, layout: str, stored: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    pixels = SOURCE.integers(0, 256, stored, dtype=np.uint8)
    pixels.flat[:60] = np.arange(60)  # not sorted by label, and no two samples alike
    path = write(tmp_path, images=pixels, labels=LABELS)
    data = load_data(config(path, layout=layout, classes=("a", "b", "c")))
    mapped = load_data(config(tmp_path, layout=layout))
    named = load_data(config(tmp_path, layout=layout, images="set.npz:images", labels="labels.npy"))
    assert (data.shape, data.classes, data.names) == (shape, 3, ("a", "b", "c"))
    assert [len(each) for each in (data.train, data.val, data.test)] == [42, 6, 12]  # 20 of each: 4 to test, 2 of 16
    everything = torch.cat([part.images for part in (data.train, data.val, data.test) if isinstance(part, Split)])
    order = {"C": 1, "H": 2, "W": 3, "L": 3}
    expected = np.zeros((60, *shape), np.uint8)
    for place in np.ndindex(stored):
        target = [place[0], 0, 0, 0]
        for axis, at in zip(layout[1:], place[1:], strict=True):
            target[order[axis]] = at
        expected[tuple(target)] = pixels[place]
    assert sorted(everything.flatten(1).tolist()) == sorted(expected.reshape(60, -1).tolist())
    for other in (mapped, named):
        assert torch.equal(other.train.images, data.train.images) and torch.equal(other.test.labels, data.test.labels)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=40), st.sampled_from(["float64", "int16", "int8"]))
def test_the_least_and_the_greatest_to_learn_from_are_0_and_255(values: list[float], kind: str) -> None:
    array = np.array(values).clip(-128, 127).astype(kind)[:, None]
    learned = np.arange(0, len(array), 2)
    scaling = measured_scaling(array, learned, "NL", clip=None)
    octets = scaling.octets(array)[:, 0, 0, 0].astype(float)
    if kind == "int8":
        assert octets.tolist() == (array[:, 0].astype(int) + 128).tolist()
        return
    low, high = (float(bound(array[learned])) for bound in (np.min, np.max))
    if low < high:
        expected = np.clip(255 * (array[:, 0].astype(float) - low) / (high - low), 0, 255)
        assert np.abs(octets - expected).max() <= 0.5 + 1e-6
    else:
        assert octets[learned].tolist() == [0] * len(learned)


def test_clipped_to_deviations_of_what_is_learned_from() -> None:
    array = SOURCE.normal(1e6, 3.0, (400, 2, 5)) * np.array([1, 10])[:, None]
    scaling = measured_scaling(array, np.arange(300), "NCL", clip=2.0)
    mean, deviation = array[:300].mean((0, 2)), array[:300].std((0, 2))
    assert scaling.low == pytest.approx((mean - 2 * deviation).tolist(), rel=1e-9)
    assert scaling.high == pytest.approx((mean + 2 * deviation).tolist(), rel=1e-9)


def test_the_test_set_and_what_is_held_out_move_no_scale(tmp_path: Path) -> None:
    signals = SOURCE.normal(size=(60, 1, 6)).astype(np.float32)
    path = write(
        tmp_path, x=signals, y=LABELS, test_x=signals[:9] * 1e6, test_y=LABELS[:9].astype(np.uint8).reshape(-1, 1)
    )
    names = {"images": "x", "labels": "y", "test_images": "test_x", "test_labels": "test_y", "layout": "NCL"}
    data = load_data(config(path, **names))
    assert data.scaling is not None and isinstance(data.train, Split)
    assert (int(data.train.images.min()), int(data.train.images.max())) == (0, 255)
    assert abs(data.scaling.high[0]) < 10 and len(data.test) == 9
    with pytest.raises(ValidationError, match="test_images and test_labels are given together"):
        config(path, test_images="x")


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez_compressed(folder / "set.npz", **arrays)
    return folder / "set.npz"


GOOD = np.zeros((60, 4, 5), np.uint8)


def _truncated(folder: Path) -> Path:
    path = npz(folder, images=SOURCE.integers(0, 256, (60, 4, 5)), labels=LABELS)
    path.write_bytes(path.read_bytes()[:-40])
    return path


def _damaged(folder: Path) -> Path:
    path = folder / "set.npz"
    np.savez(path, images=SOURCE.integers(0, 256, (60, 4, 5), dtype=np.uint8), labels=LABELS)
    content = bytearray(path.read_bytes())
    content[600] ^= 255
    path.write_bytes(content)
    return path


def _pickled(folder: Path) -> Path:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "run",))

    trap = np.empty(60, object)
    trap[0] = Trap()
    return npz(folder, images=trap, labels=LABELS)


def _huge(folder: Path) -> Path:
    path = folder / "set.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("images.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (2**28, 2**10, 2**10)}
        )
    return path


def _folder(folder: Path) -> Path:
    (folder / "images.npy").write_bytes(pickle.dumps([1, 2]))
    np.save(folder / "labels.npy", LABELS)
    return folder


def _sparse(folder: Path) -> Path:
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (60, 2**20, 2**15)}
        )
        file.truncate(2**41)
    return folder


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda folder: folder / "none.npz", r"none\.npz: images: cannot be read \(No such file"),
    "no folder": (lambda folder: folder / "none", r"none/images\.npy: cannot be read \(No such file"),
    "a folder": (lambda folder: _made(folder / "set.npz"), r"cannot be read \(a folder, not a file\)"),
    "key": (lambda folder: npz(folder, pixels=GOOD, labels=LABELS), "it has no key images, only pixels, labels"),
    "objects": (_pickled, "images: expected an array of numbers, but it holds Python objects, which are never read"),
    "a pickle": (_folder, r"images\.npy: expected an array of numbers, but it cannot be read"),
    "text": (lambda folder: npz(folder, images=np.array(["a"] * 60), labels=LABELS), "expected integers or floating"),
    "complex": (lambda folder: npz(folder, images=GOOD * 1j, labels=LABELS), "but it has complex128"),
    "axes": (
        lambda folder: npz(folder, images=GOOD[:, 0], labels=LABELS),
        r"layout NHW needs 3 axes, but its shape is \(60, 5\); layouts of 2 axes: NL",
    ),
    "empty": (lambda folder: npz(folder, images=GOOD[:0], labels=LABELS), r"its shape is \(0, 4, 5\)"),
    "short": (lambda folder: npz(folder, images=GOOD, labels=LABELS[:50]), "each of 60 samples, but found 50"),
    "real labels": (lambda folder: npz(folder, images=GOOD, labels=LABELS / 2), "integers, but they are float64"),
    "one-hot": (lambda folder: npz(folder, images=GOOD, labels=np.eye(3, dtype=int)[LABELS]), r"shape is \(60, 3\)"),
    "below": (lambda folder: npz(folder, images=GOOD, labels=LABELS - 1), "from 0 on, but there is -1"),
    "above": (lambda folder: npz(folder, images=GOOD, labels=LABELS + 10**12), "from 0 on, but there is 100000000000"),
    "a gap": (lambda folder: npz(folder, images=GOOD, labels=LABELS * 2), "from 0 on, but none is 1"),
    "one class": (lambda folder: npz(folder, images=GOOD, labels=LABELS * 0), "at least 2 classes"),
    "nan": (lambda folder: npz(folder, images=_with(np.nan), labels=LABELS), "finite numbers, .* but sample 41"),
    "infinite": (lambda folder: npz(folder, images=_with(np.inf), labels=LABELS), "finite numbers, .* but sample 41"),
    "too large": (lambda folder: npz(folder, images=_with(1e300), labels=LABELS), r"within \+-3e\+38, but sample 41"),
    "truncated": (_truncated, "expected an array of numbers, but it cannot be read"),
    "damaged": (_damaged, "expected an array of numbers, but it cannot be read"),
    "huge in an archive": (_huge, "images: (is larger than the memory|.* it cannot be read)"),
    "huge": (_sparse, "larger than the memory of this machine"),
}  # fmt: skip


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _with(value: float) -> np.ndarray:
    images = SOURCE.normal(size=(60, 4, 5))
    images[41, 1, 2] = value
    return images


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    root = make(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        check_data(config(root, layout="NHW"))
    assert str(raised.value).isprintable() and str(raised.value).startswith(str(tmp_path))
    assert not (tmp_path / "run").exists()


def test_training_and_test_samples_are_of_one_kind(tmp_path: Path) -> None:
    sets = {"images": GOOD, "labels": LABELS, "real": GOOD / 2, "wide": np.zeros((60, 4, 6), np.uint8)}
    path = npz(tmp_path, **sets, more=LABELS + 1)
    for images, labels, message in (
        ("real", "labels", "real: expected numbers of type uint8, as in .*images, but got float64"),
        ("wide", "labels", r"wide: expected samples of shape \(4, 5\), as in .*, but got \(4, 6\)"),
        ("images", "more", "labels must be among those to learn from, 0 to 2, but got 3"),
    ):
        with pytest.raises(DataError, match=message):
            load_data(config(path, layout="NHW", test_images=images, test_labels=labels))
    with pytest.raises(DataError, match="2 names are given for 3 classes, labels 0 to 2"):
        load_data(config(path, layout="NHW", classes=("a", "b")))
    with pytest.raises(DataError, match=r"augment lighting needs images of 3 channels, .* but data arrays has 1"):
        load_data(config(path, layout="NHW", augment=["lighting"]))


def test_what_is_trained_on_arrays_predicts_from_arrays(tmp_path: Path) -> None:
    """Search to prediction: the packed model makes the same octets of the file, and of each sample the same label."""
    levels = SOURCE.normal(size=(90, 6, 6)) + (np.arange(90) % 3)[:, None, None]
    path = npz(tmp_path, images=levels.astype(np.float16), labels=np.arange(90) % 3)
    trial = TrialConfig.model_validate(
        {
            "data": {"name": "arrays", "root": str(path), "layout": "NHW", "classes": ["low", "mid", "high"]},
            "model": {"name": "mlp", "hidden": [16], "inputs": "binary"},
            "method": {"name": "ste"},
            "plan": {"epochs": 2},
            "seed": 1,
        }
    )
    trainer, data = build_trainer(trial), load_data(trial.data)
    list(trainer.fit())
    network = exported(trainer)
    model = packed_network(network, data)
    assert isinstance(data.val, Split)
    assert compare(model, network, data.val) == (len(data.val), 0)
    model.save(tmp_path / "model.bnn")
    assert data.scaling is not None
    expected = model.predict(data.scaling.octets(levels.astype(np.float16))).tolist()
    np.save(tmp_path / "new.npy", levels.astype(np.float16))
    found = [*predict_files(model, [path]), *predict_files(model, [tmp_path / "new.npy"])]
    assert [each.label for each in found] == expected * 2
    assert [each.sample for each in found] == [*range(90)] * 2
    shown = CliRunner().invoke(main, ["predict", str(tmp_path / "model.bnn"), str(path), "--json"])
    events = [json.loads(line) for line in shown.output.splitlines()]
    assert (shown.exit_code, events[4]["sample"]) == (0, 4)
    assert [event["label"] for event in events] == expected
    np.save(tmp_path / "new.npy", levels[:, :5])
    wrong = CliRunner().invoke(main, ["predict", str(tmp_path / "model.bnn"), str(tmp_path / "new.npy")])
    assert wrong.exit_code == 3
    assert r"expected samples of (1, 6, 6), channels, height and width" in wrong.output


def test_pack_says_how_numbers_become_octets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.linspace(-2, 3.1, 60 * 12).reshape(60, 12)
    SOURCE.shuffle(values)
    trial = {"model": {"name": "mlp", "hidden": [8]}, "method": {"name": "ste"}, "plan": {"epochs": 1}, "seed": 1}
    said = {}
    for kind in ("float32", "int8", "uint8"):
        folder = tmp_path / f"{kind}_data"
        folder.mkdir()
        path = npz(folder, images=(values if kind == "float32" else values * 9 + 20).astype(kind),
                   labels=np.arange(60) % 2)  # fmt: skip
        data = {"name": "arrays", "root": str(path), "layout": "NL"}
        Path("config.yaml").write_text(json.dumps({**trial, "data": data}))
        for words in (["train", "config.yaml", "-o", kind, "--no-track"], ["pack", kind, "-o", f"{kind}.bnn"]):
            done = CliRunner().invoke(main, words)
            assert done.exit_code == 0, done.output
        said[kind] = done.output.splitlines()[1:]
    (line,) = said["float32"]
    scaling = PackedModel.load(Path("float32.bnn")).scaling
    assert scaling is not None
    assert line == f"its {scaling.described()}"
    low, high = scaling.low[0], scaling.high[0]
    assert f"low {low:.4g}, high {high:.4g}: within them off by half a step of {(high - low) / 255:.4g}" in line
    assert said["int8"] == ["its octets are x + 128, which keeps whole numbers from -128 to 127"]
    assert said["uint8"] == []


def test_a_model_of_images_takes_octets_as_they_are() -> None:
    scaling = Scaling(low=(0.0, 0.0), high=(255.0, 255.0))
    pixels = SOURCE.integers(0, 256, (5, 2, 3, 4), dtype=np.uint8)
    assert np.array_equal(scaling.octets(pixels), pixels)
    with pytest.raises(ValidationError, match="low must be below high"):
        Scaling(low=(0.0,), high=(0.0,))


def test_a_torch_data_set_is_stacked_or_refused() -> None:
    pairs: list[Any] = [(torch.full((2, 5), float(place)), place % 2) for place in range(40)]
    data = from_samples(stacked(pairs, "mine"), None, config(Path("unused")), torch.device("cpu"), layout="NCL")
    assert (data.shape, data.classes, len(data.test)) == ((2, 1, 5), 2, 8)
    for changed, message in (
        (
            (torch.zeros(2, 6), 1),
            r"mine: expected samples of one shape, numbers, but found shapes \[\(2, 5\), \(2, 6\)\]",
        ),
        ((torch.zeros(2, 5), -1), "mine: labels must count the classes from 0 on, but there is -1"),
    ):
        with pytest.raises(DataError, match=message):
            stacked([*pairs, changed], "mine")
    with pytest.raises(DataError, match="mine: expected samples of one shape"):
        stacked([], "mine")
