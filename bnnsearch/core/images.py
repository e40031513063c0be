"""The one decoder of image files: training, evaluation and `predict` see the same pixels of the same file.

Any mode of pixels becomes 8-bit grey or RGB; `docs/own-data.md` has the table. Reals and integers of 16 bits or more
are scaled, `round(255 value / white)`, never clipped. Of several frames the first is taken, orientations that the file
tells are applied, and what shows through is white. The only import beside numpy is Pillow, so that it serves
predictions without torch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from bnnsearch.errors import DataError, printable
from bnnsearch.files import open_regular

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff"}
)
"""What files of images are called."""

DECODER = 3
"""Version of these rules: rises when a file would become other pixels. 1 clipped 16 bits and dropped transparency; 2
left it to Pillow which side is scaled first, and from Pillow 13 on tall images had other pixels."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, whatever a file is called; never PostScript, for which Pillow would start an interpreter."""

MAX_PIXELS = 89_478_485
"""Larger images are refused before their pixels are: a few kilobytes can claim to be terabytes. Pillow's own limit."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a crop, in pixels."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_GREY_STEPS = {"L;2": 255 // 3, "L;4": 255 // 15}


Source = str | os.PathLike[str] | tuple[str, bytes]
"""A file's path; or a name for messages, and what the file holds."""


def read_images(
    files: Sequence[Source], shape: tuple[int, int, int], *, crop: float | None = None
) -> NDArray[np.uint8]:
    """Image files as uint8 (N, C, H, W), as the splits of a data set hold them.

    Args:
        files: N of them.
        shape: (C, H, W) to scale to; C is 1 for grey, 3 for RGB.
        crop: share of the shorter side to take, a central square; None stretches the whole image.

    Raises:
        DataError: a file is no image, is cut short, or has pixels without a meaning; it is named.
    """
    channels, height, width = shape
    images = np.empty((len(files), channels, height, width), dtype=np.uint8)
    mode: Literal["L", "RGB"] = "L" if channels == 1 else "RGB"

    def read(place: int) -> None:
        picture = open_image(files[place], mode)
        box = None if crop is None else central_box(picture.size, crop)
        images[place] = scaled_pixels(picture, (width, height), box)

    # Pillow decodes outside the interpreter's lock. What it warns of (odd EXIF, odd palettes) is decided here.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        for _ in pool.map(read, range(len(files))):
            pass
    return images


def scaled_pixels(picture: Image.Image, size: tuple[int, int], box: Box | None = None) -> NDArray[np.uint8]:
    """The `box` of a grey or RGB image scaled to (width, height), bilinear, across, then down: uint8 (C, H, W)."""
    left, top, right, bottom = box or (0, 0, *picture.size)
    for wanted, part in (
        ((size[0], picture.height), (left, 0, right, picture.height)),
        (size, (0, top, size[0], bottom)),
    ):
        picture = picture.resize(wanted, Image.Resampling.BILINEAR, box=part)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def central_box(size: tuple[int, int], share: float) -> Box:
    """The central square with `share` of the shorter side of a (width, height) image."""
    width, height = size
    side = min(width, height) * share
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def open_image(file: Source, mode: Literal["L", "RGB"]) -> Image.Image:
    """The decoded image in `mode`.

    Raises:
        DataError: see `read_images`.
    """
    name = file[0] if isinstance(file, tuple) else file
    try:
        with BytesIO(file[1]) if isinstance(file, tuple) else open_regular(file) as content:
            if content.seek(0, os.SEEK_END) == 0:
                raise ValueError("it is empty")
            content.seek(0)
            return _decoded(_identified(content), mode)
    except Exception as error:  # whatever the file holds: Pillow's decoders raise errors of a dozen kinds
        reason = (isinstance(error, OSError) and error.strerror) or printable(str(error)) or type(error).__name__
        raise DataError(f"{printable(name)}: expected an image, but it cannot be decoded ({reason})") from error


def _identified(content: BinaryIO) -> Image.Image:
    """The image before its pixels are decoded."""
    try:
        picture = Image.open(content, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError(f"none of {', '.join(FORMATS)}") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels, at most {MAX_PIXELS} are read")
    return picture


def _decoded(picture: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """The first frame upright, in 8 bits, opaque, in `mode`."""
    _scale_key(picture)
    picture.load()
    with suppress(Exception):  # EXIF that cannot be read tells no orientation; viewers show such images as they lie
        ImageOps.exif_transpose(picture, in_place=True)
    tags = getattr(picture, "tag_v2", {})
    if 2 in tags.get(_SAMPLE_FORMAT, ()) and picture.mode != "I":
        raise ValueError("signed samples of 8 bits have no black and white")
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _deep_grey(picture).convert(mode)
    if picture.has_transparency_data:
        picture = _opaque(picture)
    if picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")  # so that the grey of a palette or of CMYK is the one weighted sum of its RGB
    return picture.convert(mode)


def _scale_key(picture: Image.Image) -> None:
    """Scale the value that a PNG declares transparent as Pillow scales the pixels, which it forgets to do."""
    key, raw = picture.info.get("transparency"), _raw_mode(picture)
    if isinstance(key, int) and raw in _GREY_STEPS:
        picture.info["transparency"] = key * _GREY_STEPS[raw]
    elif isinstance(key, tuple) and raw == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def _raw_mode(picture: Image.Image) -> str:
    """How the file holds its pixels, in Pillow's names; known until they are decoded."""
    arguments = picture.tile[0].args if isinstance(picture, ImageFile.ImageFile) and picture.tile else ""
    return arguments if isinstance(arguments, str) else ""


def _deep_grey(picture: Image.Image) -> Image.Image:
    """Integers of 16 or 32 bits, 0 black to 65535 white, and floating values, 0 to 1, as 8-bit grey.

    Raises:
        ValueError: a value lies outside, or is not a number.
    """
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    white = 1 if picture.mode == "F" else 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):  # in this form it holds of a NaN, too
        raise ValueError(f"mode {picture.mode} has values from {low:.6g} to {high:.6g}, expected 0 to {white}")
    octets = np.rint(values.astype(np.float32) * 255 / white).astype(np.uint8)  # 65535 * 255 < 2**24: exact products
    if tags.get(_PHOTOMETRIC) == 0:
        octets = 255 - octets  # Pillow heeds "white is zero" for 8 bits only
    if "transparency" in picture.info:
        octets[values == picture.info["transparency"]] = 255
    return Image.fromarray(octets)


def _opaque(picture: Image.Image) -> Image.Image:
    """What shows through is white."""
    seen = picture.convert("RGBA")
    ground = Image.new("RGBA", seen.size, "white")
    ground.alpha_composite(seen)
    return ground
