"""Data sets of Hugging Face's `datasets`: local folders, in all forms that have data alone; nothing is downloaded."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnnsearch.config.data import HuggingfaceConfig
from bnnsearch.core.data import DataError, Dataset, Split, load_data
from bnnsearch.errors import EnvironmentProblem

SOURCE = np.random.default_rng(0)
LABELS = [number % 3 for number in range(60)]


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra huggingface")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def read(path: Path, **settings: Any) -> Dataset:
    return load_data(HuggingfaceConfig(path=str(path), **settings))


def pictures() -> list[bytes]:
    contents = []
    for _ in range(60):
        Image.fromarray(SOURCE.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(content := BytesIO(), "PNG")
        contents.append(content.getvalue())
    return contents


def saved(folder: Path, **columns: Any) -> Path:
    """What `save_to_disk` writes: two splits with the same rows."""
    import datasets

    features = datasets.Features(
        {
            name: datasets.ClassLabel(names=["a", "b", "c"])
            if name == "label"
            else datasets.Image()
            if name == "image"
            else datasets.Array2D((2, 5), "float32")
            for name in columns
        }
    )
    table = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": table, "test": table.select(range(9))}).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def test_images_are_decoded_as_all_are(tmp_path: Path) -> None:
    contents = pictures()
    data = read(saved(tmp_path, image=[{"bytes": each, "path": None} for each in contents], label=LABELS), image_size=6)
    assert (data.shape, data.names, len(data.test)) == ((3, 6, 6), ("a", "b", "c"), 9)
    assert isinstance(data.test, Split)
    pixels = np.asarray(Image.open(BytesIO(contents[4])).convert("RGB")).transpose(2, 0, 1)
    assert data.test.images[4].numpy().tolist() == pixels.tolist()
    grey = read(tmp_path / "saved", image_size=8, channels=1, test_split=None)
    assert (grey.shape, len(grey.test)) == ((1, 8, 8), 12)


def test_a_folder_of_files_and_a_single_table_are_read(tmp_path: Path) -> None:
    import datasets

    signals = SOURCE.normal(size=(60, 10)).astype(np.float32)
    table = datasets.Dataset.from_dict({"values": signals, "class": LABELS})
    for split, rows in (("train", table), ("test", table.select(range(12)))):
        rows.to_parquet(str(tmp_path / "files" / f"{split}.parquet"))
    table.save_to_disk(str(tmp_path / "single"))
    names = {"column": "values", "label": "class", "layout": "NL"}
    files, single = read(tmp_path / "files", **names), read(tmp_path / "single", **names, test_split=None)
    assert (files.shape, files.names, len(files.test)) == ((1, 1, 10), ("0", "1", "2"), 12)
    assert files.scaling is not None and isinstance(files.test, Split)
    assert torch.equal(files.test.images[3], torch.from_numpy(files.scaling.octets(signals[3:4])[0]))
    assert (single.shape, len(single.test)) == ((1, 1, 10), 12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_split": "learn"}, "it has no split learn, only train, test"),
        ({"column": "picture"}, "train has no column picture, only values, label"),
        ({"column": "label"}, r"layout NCL needs 3 axes, but its shape is \(60,\)"),
        ({"label": "values"}, "train: values: labels must be integers, but they are float32"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    path = saved(tmp_path, values=SOURCE.normal(size=(60, 2, 5)).astype(np.float32), label=LABELS)
    with pytest.raises(DataError, match=message) as raised:
        read(path, **{"column": "values", "layout": "NCL", **settings})
    assert str(raised.value).isprintable()


def test_a_broken_image_and_what_is_not_there_are_named(tmp_path: Path) -> None:
    contents: list[Any] = [{"bytes": each, "path": None} for each in pictures()]
    contents[7]["bytes"] = contents[7]["bytes"][:50]
    with pytest.raises(DataError, match="saved: train: image 7: expected an image, but it cannot be decoded"):
        read(saved(tmp_path, image=contents, label=LABELS))
    with pytest.raises(DataError, match="nowhere/none: cannot be read as a data set of Hugging Face"):
        read(Path("nowhere/none"))


def test_code_of_a_data_set_never_runs(tmp_path: Path) -> None:
    folder, ran = tmp_path / "trap", tmp_path / "ran"
    folder.mkdir()
    (folder / "trap.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    with pytest.raises(DataError, match="trap: cannot be read as a data set of Hugging Face"):
        read(folder)
    assert not ran.exists()


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(EnvironmentProblem) as raised:
        read(tmp_path)
    assert raised.value.lines == (
        "bnnsearch: data huggingface needs the package datasets: pip install 'bnnsearch[huggingface]'",
    )
