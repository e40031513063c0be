"""A folder of images, `train/CLASS/*` and `test/CLASS/*`: decoded once, kept as one file of uint8 arrays.

The kept file is a plain `.npz` (no pickle) named after what it was made from: path, size and time of every image, and
the size it was decoded to. Its checksums are verified when it is read; a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bnnsearch.config.data import ImageFolderConfig
from bnnsearch.core.data.dataset import DataError, Split

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})

_log = logging.getLogger(__name__)
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Listing:
    """The image files of one folder of class folders, sorted: class names, paths, and each path's class."""

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]


def list_images(folder: Path) -> Listing:
    """The images below `folder/CLASS/`, classes and files in alphabetical order.

    Raises:
        DataError: no such folder, fewer than two classes, or a class without images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one folder of images per class in it")
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise DataError(f"{folder}: expected at least 2 class folders, but found {len(classes)}")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        entries = os.scandir(folder / name)
        found = sorted(entry.path for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"{folder / name}: expected images ({', '.join(sorted(SUFFIXES))}), but found none")
        files += found
        labels += [label] * len(found)
    return Listing(tuple(classes), tuple(files), np.array(labels, dtype=np.int64))


def check_same_classes(train: Path, test: Path, listings: tuple[Listing, Listing]) -> None:
    """See that both folders hold the same classes.

    Raises:
        DataError: naming the classes that only one of them has.
    """
    differing = sorted(set(listings[0].classes) ^ set(listings[1].classes))
    if differing:
        raise DataError(f"{train} and {test} must hold the same classes, but only one has {', '.join(differing[:5])}")


def read_image_folder(config: ImageFolderConfig) -> tuple[Split, Split]:
    """Training and test images, decoded to `channels` x `image_size` x `image_size`.

    Raises:
        DataError: the folders are not as expected, or a file is no image; it is named.
    """
    root = Path(config.root)
    listings = list_images(root / "train"), list_images(root / "test")
    check_same_classes(root / "train", root / "test", listings)
    cache = Path(config.cache) if config.cache else root / ".bnnsearch-cache"
    train, test = (_decoded(listing, config, cache) for listing in listings)
    return train, test


def _decoded(listing: Listing, config: ImageFolderConfig, cache: Path) -> Split:
    path = cache / f"{_fingerprint(listing, config)}.npz"
    shape = (len(listing.files), config.channels, config.image_size, config.image_size)
    images = _kept_images(path, shape)
    if images is None:
        images = _decode(listing.files, config.image_size, config.channels)
        _keep(path, images)
    return Split(torch.from_numpy(images), torch.from_numpy(listing.labels))


def _fingerprint(listing: Listing, config: ImageFolderConfig) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {config.channels} {config.image_size}".encode())
    for file in listing.files:
        status = Path(file).stat()
        digest.update(f"\0{file}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def _kept_images(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The kept array, or None where there is none of this shape that is whole."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images: NDArray[np.uint8] = arrays["images"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s: damaged (%s); decoding the images again", path, error)
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _keep(path: Path, images: NDArray[np.uint8]) -> None:
    """Write whole or not at all: several workers may decode at once, and the folder may be read-only."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            np.savez(written, images=images)
            written.replace(path)
    except OSError as error:
        _log.warning("%s: cannot keep the decoded images (%s); each start decodes them anew", path, error)


def _decode(files: Sequence[str], size: int, channels: int) -> NDArray[np.uint8]:
    images = np.empty((len(files), channels, size, size), dtype=np.uint8)

    def decode(place: int) -> None:
        picture = open_image(files[place], "RGB" if channels == 3 else "L")
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, dtype=np.uint8)
        images[place] = pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes outside the interpreter lock
        for _ in pool.map(decode, range(len(files)), chunksize=256):
            pass
    return images


def open_image(file: str, mode: str) -> Image.Image:
    """The decoded image in `mode`, `RGB` or `L`.

    Raises:
        DataError: the file is no image or is cut short.
    """
    try:
        with Image.open(file) as picture:
            return picture.convert(mode)
    except (OSError, SyntaxError, ValueError) as error:  # PIL reports damaged files as any of these
        raise DataError(f"{file}: expected an image, but it cannot be decoded ({error})") from error
