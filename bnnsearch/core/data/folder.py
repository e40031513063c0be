"""A folder of images, `train/CLASS/*` and `test/CLASS/*`: decoded once, kept as one file of uint8 arrays.

The kept file is a plain `.npz` (no pickle) named after what it was made from: path, size and time of every image, the
size it was decoded to, and the decoder's version. Its checksums are verified when it is read; a damaged one is made
again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from bnnsearch.config.data import ImageFolderConfig
from bnnsearch.core.data.dataset import ImageSet, Split
from bnnsearch.core.images import DECODER, SUFFIXES, read_images
from bnnsearch.errors import DataError, printable
from bnnsearch.files import check_regular

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """The image files of one folder of class folders, sorted: class names, paths, and each path's class."""

    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int64]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes as they are shown and stored."""
        return tuple(map(printable, self.classes))


def list_images(folder: Path) -> Listing:
    """The images below `folder/CLASS/`, classes and files in alphabetical order.

    Names that begin with a dot are skipped, and so is what has no image's suffix; what has one must be an image.

    Raises:
        DataError: no such folder, fewer than two classes, a class without images, or an image that is no file.
    """
    classes = [entry.name for entry in _entries(folder) if _is_class(entry)]
    if len(classes) < 2:
        raise DataError(f"{printable(folder)}: expected at least 2 class folders, but found {len(classes)}")
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [entry for entry in _entries(folder / name) if Path(entry.name).suffix.lower() in SUFFIXES]
        if not found:
            allowed = ", ".join(sorted(SUFFIXES))
            raise DataError(f"{printable(folder / name)}: expected images ({allowed}), but found none")
        files += [_image_path(entry) for entry in found]
        labels += [label] * len(found)
    return Listing(tuple(classes), tuple(files), np.array(labels, dtype=np.int64))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, by name, but for names that begin with a dot: macOS and editors leave such files behind."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            f"{printable(folder)}: no such folder; expected one folder of images per class in it"
        ) from error
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be read ({error.strerror})") from error


def _is_class(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder. A link to nothing may have been one, so it is refused, not skipped."""
    try:
        found = entry.is_dir()
    except OSError as error:
        raise DataError(f"{printable(entry.path)}: cannot be read ({error.strerror})") from error
    if not found and entry.is_symlink() and not Path(entry.path).exists():
        raise DataError(f"{printable(entry.path)}: expected a folder of images, but it is a link to nothing")
    return found


def _image_path(entry: os.DirEntry[str]) -> str:
    if not entry.is_file(follow_symlinks=False):  # costs no call to the system where it is one: sets have millions
        try:
            check_regular(entry.path)
        except OSError as error:
            raise DataError(f"{printable(entry.path)}: expected an image, but it is {error.strerror}") from error
    return entry.path


def check_same_classes(train: Path, test: Path, listings: tuple[Listing, Listing]) -> None:
    """See that both folders hold the same classes.

    Raises:
        DataError: naming the classes that only one of them has.
    """
    differing = sorted(set(listings[0].classes) ^ set(listings[1].classes))
    if differing:
        named = ", ".join(map(printable, differing[:5]))
        raise DataError(
            f"{printable(train)} and {printable(test)} must hold the same classes, but only one has {named}"
        )


def read_image_folder(config: ImageFolderConfig) -> ImageSet:
    """Training and test images and the classes' names, decoded to `channels` x `image_size` x `image_size`.

    Raises:
        DataError: the folders are not as expected, or a file is no image; it is named.
    """
    root = Path(config.root)
    listings = list_images(root / "train"), list_images(root / "test")
    check_same_classes(root / "train", root / "test", listings)
    cache = Path(config.cache) if config.cache else root / ".bnnsearch-cache"
    train, test = (_decoded(listing, config, cache) for listing in listings)
    return ImageSet(train, test, listings[0].names)


def _decoded(listing: Listing, config: ImageFolderConfig, cache: Path) -> Split:
    path = cache / f"{_fingerprint(listing, config)}.npz"
    shape = (len(listing.files), config.channels, config.image_size, config.image_size)
    images = _kept_images(path, shape)
    if images is None:
        images = read_images(listing.files, shape[1:])
        _keep(path, images)
    return Split(torch.from_numpy(images), torch.from_numpy(listing.labels))


def _fingerprint(listing: Listing, config: ImageFolderConfig) -> str:
    """Differs wherever the kept pixels could: other files, another size, other rules, another Pillow."""
    digest = hashlib.sha256(f"{DECODER} {PIL.__version__} {config.channels} {config.image_size}".encode())
    for file in listing.files:
        try:
            status = Path(file).stat()
        except OSError as error:
            raise DataError(f"{printable(file)}: cannot be read ({error.strerror})") from error
        digest.update(b"\0%b\0%d\0%d" % (os.fsencode(file), status.st_size, status.st_mtime_ns))
    return digest.hexdigest()[:32]


def _kept_images(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The kept array, or None where there is none of this shape that is whole."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images: NDArray[np.uint8] = arrays["images"]
    except Exception as error:  # a damaged archive fails in a dozen ways, and none matters: the images are still there
        _log.warning("%s: damaged (%s); decoding the images again", printable(path), printable(str(error)))
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
        _log.warning("%s: cannot keep the decoded images (%s); each start decodes them anew", printable(path), error)
