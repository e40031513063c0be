"""Data sets that fit in memory and have one well-known form: digits, MNIST, CIFAR-10, CIFAR-100.

torchvision reads (and downloads, where asked to) MNIST and CIFAR; every file is checked against its published MD5
before it is read, so that a half-copied file is found before the first training step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnnsearch.core.data.dataset import ImageSet, Split, hold_out
from bnnsearch.errors import DataError, printable

MNIST_FILES: Mapping[str, str] = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""MD5 of MNIST's unpacked files."""


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """See that every file is in `folder` and has its MD5.

    Raises:
        DataError: a file is missing, cannot be read, or has other content.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected one with MD5 {expected} (set root, or download: true)")
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); expected MD5 {expected}") from error
        if found != expected:
            raise DataError(
                f"{path}: short or corrupt: expected MD5 {expected}, but {path.stat().st_size} bytes have {found}"
            )


def _download(dataset: Any, root: Path) -> None:
    try:
        dataset(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{root}: the download of {dataset.__name__} failed ({error})") from error


def read_digits(test_fraction: float) -> ImageSet:
    """scikit-learn's digits, grey levels 0..16 scaled to 0..255; the test split never changes with a seed.

    The file is read where scikit-learn has it: importing scikit-learn and SciPy for it takes four CPU seconds in every
    worker.

    Raises:
        DataError: scikit-learn is not installed, or has no such file.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("the digits are scikit-learn's, which is not installed; expected the package scikit-learn")
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the digits of scikit-learn")
    rows = np.loadtxt(path, delimiter=",")  # 64 pixels and the label
    pixels = np.rint(rows[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    everything = Split(torch.from_numpy(pixels), torch.from_numpy(rows[:, 64].astype(np.int64)))
    train, test = hold_out(everything.labels, fraction=test_fraction, seed=0)
    return ImageSet(everything.take(train), everything.take(test))


def read_mnist(root: Path, *, download: bool, files: Mapping[str, str] = MNIST_FILES) -> ImageSet:
    """Training and test images of MNIST below `root/MNIST/raw`.

    Raises:
        DataError: see `check_files`; or the download failed.
    """
    from torchvision.datasets import MNIST

    if download:
        _download(MNIST, root)
    check_files(root / "MNIST" / "raw", files)
    train, test = (MNIST(root, train=train) for train in (True, False))
    return ImageSet(Split(train.data.unsqueeze(1), train.targets), Split(test.data.unsqueeze(1), test.targets))


def read_cifar(root: Path, dataset: Any, *, download: bool) -> ImageSet:
    """Training and test images and the classes' names of `dataset`, torchvision's CIFAR10 or CIFAR100 class.

    Raises:
        DataError: see `check_files`; or the download failed.
    """
    if download:
        _download(dataset, root)
    meta = dataset.meta
    files = dict([*dataset.train_list, *dataset.test_list, (meta["filename"], meta["md5"])])
    check_files(root / dataset.base_folder, files)

    def split(read: Any) -> Split:
        images = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
        return Split(images, torch.tensor(read.targets, dtype=torch.int64))

    read = dataset(root, train=True)
    return ImageSet(split(read), split(dataset(root, train=False)), tuple(map(printable, read.classes)))
