"""Data sets: what is read, how it is split and batched, and that a damaged set is refused before training.

MNIST and CIFAR are written here in their own formats, small, with their own checksums. Where the environment variable
BNN_DATA names a folder with the real MNIST or CIFAR-10, they are read as well.
"""

import hashlib
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import CIFAR10

from bnnsearch.config.data import DigitsConfig, ImageFolderConfig, ImagenetConfig, MnistConfig
from bnnsearch.core.data import (
    DataError,
    Split,
    StreamedSplit,
    check_data,
    eval_batches,
    load_data,
    steps_per_epoch,
    train_batches,
)
from bnnsearch.core.data.dataset import channel_statistics, hold_out
from bnnsearch.core.data.sources import MNIST_FILES, read_cifar, read_digits, read_mnist

SOURCE = np.random.default_rng(0)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- splits


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**63 - 1),
)
def test_hold_out_is_balanced_disjoint_and_complete(counts: list[int], fraction: float, seed: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kept, held = hold_out(labels, fraction=fraction, seed=seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        taken = int((labels[held] == label).sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - fraction * count) <= 1
    again = hold_out(labels, fraction=fraction, seed=seed)
    assert torch.equal(kept, again[0]) and torch.equal(held, again[1])


def test_hold_out_depends_on_the_seed_and_a_limit_keeps_the_shares() -> None:
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    assert not torch.equal(hold_out(labels, fraction=0.5, seed=0)[1], hold_out(labels, fraction=0.5, seed=1)[1])
    kept, held = hold_out(labels, fraction=0.2, seed=0, limit=100)
    assert labels[torch.cat((kept, held))].bincount().tolist() == [60, 30, 10]
    assert labels[held].bincount().tolist() == [12, 6, 2]


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 has 1"):
        hold_out(torch.tensor([0, 0, 1]), fraction=0.5, seed=0)
    with pytest.raises(DataError, match="class dog has 1"):
        hold_out(torch.tensor([0, 0, 1]), fraction=0.5, seed=0, names=("cat", "dog"))


@given(st.integers(0, 2**32 - 1))
def test_statistics_are_those_of_the_pixels(seed: int) -> None:
    images = torch.randint(256, (5, 2, 3, 4), dtype=torch.uint8, generator=seeded(seed))
    mean, std = channel_statistics(images)
    pixels = (images.double() / 255).transpose(0, 1).flatten(1)
    assert mean == pytest.approx(pixels.mean(1).tolist())
    assert std == pytest.approx(pixels.std(1, correction=0).tolist())


def test_a_constant_channel_normalises_to_zero() -> None:
    split = Split(torch.full((4, 1, 2, 2), 7, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    split = Split(split.images, split.labels, *channel_statistics(split.images))
    ((images, _),) = eval_batches(split, batch_size=4)
    assert images.abs().max() < 1e-6


# --- digits: the whole way


def test_digits_are_split_normalised_and_read_once() -> None:
    data = load_data(DigitsConfig())
    assert (data.classes, data.shape, data.names) == (10, (1, 8, 8), tuple("0123456789"))
    assert len(data.train) + len(data.val) + len(data.test) == 1797
    assert min(data.val.labels.bincount()) >= 13
    images = torch.cat([x for x, _ in eval_batches(data.train, batch_size=500)])
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert load_data(DigitsConfig(batch_size=7, augment=("crop",))) is data
    other = load_data(DigitsConfig(seed=1))
    assert torch.equal(other.test.images, data.test.images)
    assert not torch.equal(other.val.images, data.val.images)


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    read = read_digits(test_fraction=0.25)
    images = torch.cat((read.train.images, read.test.images)).flatten(1)
    labels = torch.cat((read.train.labels, read.test.labels))
    ours = sorted(zip(images.tolist(), labels.tolist(), strict=True))
    theirs = sorted(zip(np.rint(bunch.data * 255 / 16).astype(int).tolist(), bunch.target.tolist(), strict=True))
    assert ours == theirs


# --- batches


def numbered(count: int) -> Split:
    """Image i is one pixel of value i."""
    return Split(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(count))


def test_an_epoch_has_every_image_at_most_once_in_whole_batches() -> None:
    split = numbered(50)
    batches = list(train_batches(split, batch_size=16, generator=seeded()))
    assert len(batches) == steps_per_epoch(split, 16) == 3
    labels = torch.cat([y for _, y in batches])
    assert len(labels.unique()) == 48
    assert labels.tolist() != sorted(labels.tolist())
    for images, of in batches:
        assert images.dtype == torch.float32
        assert torch.allclose(images.flatten(), of / 255)  # no statistics given: pixels scaled to [0, 1]


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    ((_, labels),) = train_batches(numbered(5), batch_size=16, generator=seeded())
    assert sorted(labels.tolist()) == [0, 1, 2, 3, 4]
    assert steps_per_epoch(numbered(5), 16) == 1


def test_the_generator_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        return torch.cat([y for _, y in train_batches(numbered(64), batch_size=8, generator=seeded(seed))]).tolist()

    assert order(0) == order(0) != order(1)


def test_evaluation_sees_every_image_in_order() -> None:
    batches = list(eval_batches(numbered(50), batch_size=16))
    assert [len(y) for _, y in batches] == [16, 16, 16, 2]
    assert torch.equal(torch.cat([y for _, y in batches]), torch.arange(50))


# --- MNIST in idx format


def write_mnist(root: Path) -> dict[str, str]:
    """40 training and 20 test images below `root`; gives their checksums."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, count in (("train", 40), ("t10k", 20)):
        pixels = SOURCE.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return {path.name: md5(path) for path in folder.iterdir()}


def test_mnist_is_read_from_its_files(tmp_path: Path) -> None:
    files = write_mnist(tmp_path)
    read = read_mnist(tmp_path, download=False, files=files)
    raw = (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()[16:]
    assert read.train.images.shape == (40, 1, 28, 28)
    assert read.train.images.numpy().tobytes() == raw
    assert read.test.labels.tolist() == [i % 10 for i in range(20)]


@pytest.mark.parametrize("name", MNIST_FILES)
@pytest.mark.parametrize("damage", ["missing", "short", "flipped", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    files = write_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / name
    content = bytearray(path.read_bytes())
    match damage:
        case "missing":
            path.unlink()
        case "short":
            path.write_bytes(content[:-1])
        case "flipped":
            content[-1] ^= 1
            path.write_bytes(content)
        case "empty":
            path.write_bytes(b"")
    with pytest.raises(DataError) as error:
        read_mnist(tmp_path, download=False, files=files)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and files[name] in message and "\n" not in message


def test_a_missing_set_is_found_by_load_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: no such file; expected one with MD5 6bbc9ace"):
        load_data(MnistConfig(root=str(tmp_path)))


def test_data_can_be_checked_before_anything_trains(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check_data(MnistConfig(root=str(tmp_path)))
    write_folder(tmp_path)
    check_data(folder_config(tmp_path))
    assert len(list((tmp_path / ".bnnsearch-cache").iterdir())) == 2


# --- CIFAR as pickled batches


def tiny_cifar(root: Path) -> type[CIFAR10]:
    """CIFAR-10's layout with five batches of 20 images: torchvision's reader with these files' checksums."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return md5(folder / name)

    def batch(name: str) -> str:
        pixels = SOURCE.integers(0, 256, (20, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": [i % 10 for i in range(20)]})

    class TinyCifar(CIFAR10):
        train_list = [[name, batch(name)] for name, _ in CIFAR10.train_list]  # noqa: RUF012  torchvision's own form
        test_list = [[name, batch(name)] for name, _ in CIFAR10.test_list]  # noqa: RUF012
        meta = {  # noqa: RUF012
            "filename": "batches.meta",
            "key": "label_names",
            "md5": write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]}),
        }

    return TinyCifar


def test_cifar_is_read_from_its_files(tmp_path: Path) -> None:
    dataset = tiny_cifar(tmp_path)
    read = read_cifar(tmp_path, dataset, download=False)
    assert read.train.images.shape == (100, 3, 32, 32) and read.test.images.shape == (20, 3, 32, 32)
    assert read.names == tuple(f"class {i}" for i in range(10))
    third = pickle.loads((tmp_path / dataset.base_folder / "data_batch_3").read_bytes())
    assert np.array_equal(read.train.images[40].numpy().reshape(-1), third["data"][0])
    assert read.train.labels[40:60].tolist() == third["labels"]


def test_a_damaged_cifar_batch_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    dataset = tiny_cifar(tmp_path)
    path = tmp_path / dataset.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="data_batch_3: short or corrupt: expected MD5"):
        read_cifar(tmp_path, dataset, download=False)


# --- a folder of images


def write_folder(root: Path, *, per_class: int = 6, size: tuple[int, int] = (12, 10), test: str = "test") -> None:
    for part in ("train", test):
        for name in ("cat", "dog", "eel"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = SOURCE.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def folder_config(root: Path, *, image_size: int = 12, channels: int = 3) -> ImageFolderConfig:
    return ImageFolderConfig.model_validate(
        {"root": str(root), "image_size": image_size, "channels": channels, "val_fraction": 0.34}
    )


def test_a_folder_of_images_is_read(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(12, 12))
    data = load_data(folder_config(tmp_path))
    assert (data.classes, data.shape, data.names) == (3, (3, 12, 12), ("cat", "dog", "eel"))
    assert [split.labels.bincount().tolist() for split in (data.train, data.val, data.test)] == [
        [4] * 3,
        [2] * 3,
        [6] * 3,
    ]
    picture = np.asarray(Image.open(tmp_path / "test" / "dog" / "2.png"))
    assert isinstance(data.test, Split)
    assert np.array_equal(data.test.images[8].numpy().transpose(1, 2, 0), picture)


def test_images_are_resized_and_made_grey(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(12, 10))
    assert load_data(folder_config(tmp_path, image_size=8, channels=1)).shape == (1, 8, 8)


def read_again(root: Path) -> torch.Tensor:
    """The test images as a new process would read them."""
    from bnnsearch.core.data.folder import read_image_folder

    return read_image_folder(folder_config(root)).test.images


def test_the_second_reading_needs_no_decoding_and_a_damaged_copy_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_folder(tmp_path)
    first = read_again(tmp_path)
    kept = sorted((tmp_path / ".bnnsearch-cache").iterdir())
    assert [path.suffix for path in kept] == [".npz", ".npz"]
    with monkeypatch.context() as patch:
        patch.setattr("bnnsearch.core.data.folder.read_images", pytest.fail)
        assert torch.equal(read_again(tmp_path), first)
    for path in kept:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert torch.equal(read_again(tmp_path), first)
    assert "damaged" in caplog.text


def test_a_changed_image_is_decoded_again(tmp_path: Path) -> None:
    write_folder(tmp_path)
    first = read_again(tmp_path)
    Image.new("RGB", (12, 12), (1, 2, 3)).save(tmp_path / "test" / "cat" / "0.png")
    assert read_again(tmp_path)[0, :, 0, 0].tolist() == [1, 2, 3] != first[0, :, 0, 0].tolist()


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path)
    (tmp_path / ".bnnsearch-cache").write_text("a file where the folder would be")
    assert len(read_again(tmp_path)) == 18
    assert "cannot keep the decoded images" in caplog.text


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train: no such folder; expected one folder of images per class"):
        load_data(folder_config(tmp_path))
    write_folder(tmp_path)
    broken = tmp_path / "train" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dog/3\.png: expected an image, but it cannot be decoded"):
        load_data(folder_config(tmp_path))
    for path in (tmp_path / "test" / "eel").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"eel: expected images .* but found none"):
        load_data(folder_config(tmp_path))
    (tmp_path / "test" / "eel").rmdir()
    with pytest.raises(DataError, match="must hold the same classes, but only one has eel"):
        load_data(folder_config(tmp_path))


# --- ImageNet, streamed


def imagenet_config(root: Path, workers: int = 0) -> ImagenetConfig:
    return ImagenetConfig(root=str(root), image_size=32, classes=3, workers=workers, val_fraction=0.34)


def test_imagenet_is_streamed_the_same_by_any_number_of_workers(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(50, 40), test="val")

    def epoch(workers: int, seed: int) -> list[torch.Tensor]:
        data = load_data(imagenet_config(tmp_path, workers))
        assert isinstance(data.train, StreamedSplit)
        batches = train_batches(data.train, batch_size=4, augment=(), generator=seeded(seed))
        return [tensor for batch in batches for tensor in batch]

    alone, together, other = epoch(0, 0), epoch(2, 0), epoch(0, 1)
    assert alone[0].shape == (4, 3, 32, 32)
    assert len(alone) == len(together) == 6
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(alone[0], other[0])


def test_streamed_evaluation_takes_the_centre(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(50, 40), test="val")
    data = load_data(imagenet_config(tmp_path))
    assert [len(split) for split in (data.train, data.val, data.test)] == [12, 6, 18]
    images, labels = next(eval_batches(data.test, batch_size=18))
    assert labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    picture = Image.open(tmp_path / "val" / "dog" / "2.png")
    crop = picture.resize((32, 32), Image.Resampling.BILINEAR, box=(7.5, 2.5, 42.5, 37.5))  # 35 of 40 pixels
    mean, std = torch.tensor(data.mean).view(3, 1, 1), torch.tensor(data.std).view(3, 1, 1)
    expected = (torch.from_numpy(np.asarray(crop).copy()).permute(2, 0, 1) / 255 - mean) / std
    assert torch.allclose(images[8], expected, atol=1e-5)


def test_a_subset_of_imagenet_says_how_many_classes_it_has(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(50, 40), test="val")
    with pytest.raises(DataError, match=r"expected 1000 classes, but found 3; `data\.classes: 3` reads a subset"):
        load_data(ImagenetConfig(root=str(tmp_path), image_size=32))


def test_an_unreadable_streamed_image_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, size=(50, 40), test="val")
    (tmp_path / "val" / "eel" / "1.png").write_bytes(b"not an image")
    data = load_data(imagenet_config(tmp_path))
    with pytest.raises(DataError, match=r"eel/1\.png: expected an image"):
        list(eval_batches(data.test, batch_size=4))


# --- the real sets, where they are


def real_data(*parts: str) -> str:
    root = os.environ.get("BNN_DATA")
    if root is None or not Path(root, *parts).exists():
        pytest.skip(f"BNN_DATA names no folder with {'/'.join(parts)}")
    return root


def test_real_mnist() -> None:
    data = load_data(MnistConfig(root=real_data("MNIST", "raw")))
    assert [len(data.train) + len(data.val), len(data.test), data.classes] == [60_000, 10_000, 10]
    assert data.mean == pytest.approx((0.1307,), abs=5e-4)
    assert data.std == pytest.approx((0.3081,), abs=5e-4)


def test_real_cifar10() -> None:
    from bnnsearch.config.data import Cifar10Config

    data = load_data(Cifar10Config(root=real_data("cifar-10-batches-py")))
    assert [len(data.train), len(data.val), len(data.test), data.classes] == [45_000, 5_000, 10_000, 10]
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=2e-3)
