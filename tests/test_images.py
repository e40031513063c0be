"""Image files: every mode of pixels has one meaning, in training, in the packed network and in `predict`.

Expected pixels are worked out by hand beside each case; PNG and TIFF forms that Pillow does not write are written here.
"""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_packed_format import with_manifest

from bnnsearch.cli import main
from bnnsearch.config.data import ImageFolderConfig, ImagenetConfig
from bnnsearch.config.evolution import ElitistConfig
from bnnsearch.config.method import SteConfig
from bnnsearch.config.model import MlpConfig, XorMlpConfig
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint
from bnnsearch.core.data import Split, eval_batches, load_data
from bnnsearch.core.data.folder import list_images, read_image_folder
from bnnsearch.core.images import FORMATS, open_image, read_images, scaled_pixels
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.deploy import pack_run
from bnnsearch.errors import DataError, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.predict import files_below, predict_files
from bnnsearch.space import Space, load_space
from bnnsearch.study.study import _job
from bnnsearch.study.worker import Assignment, run_trial
from bnnsearch.training import train
from bnnsearch.trial import build_trainer

WHITE = [255, 255, 255]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *, before: bytes = b"", after: bytes = b""
) -> bytes:
    """A PNG of unfiltered rows, with chunks before and after the pixels."""
    width, height = size
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    each = len(rows) // height
    pixels = b"".join(b"\0" + rows[row * each : (row + 1) * each] for row in range(height))
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(pixels)) + after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels: bytes, *, width: int, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A little-endian TIFF of one row of one sample per pixel."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(pixels)}
    entries = [struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in (tags | {339: sample_format}).items()]
    end = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II" + struct.pack("<HI", 42, 8 + len(pixels)) + pixels + end


def saved(pixels: object, mode: str | None = None, *, form: str = "PNG", **options: object) -> bytes:
    """What Pillow writes of an array or an image."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    if mode is not None:
        picture = Image.frombytes(mode, picture.size, np.asarray(pixels).tobytes())
    written = io.BytesIO()
    picture.save(written, form, **options)
    return written.getvalue()


def palette() -> Image.Image:
    picture = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return picture


def u8(*values: object) -> np.ndarray:
    return np.array([values], np.uint8)


def big(*values: int) -> bytes:
    return np.array(values, ">u2").tobytes()


def turned() -> Image.Exif:
    """Orientation 6: the first row is on the right of the upright image."""
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


RED_THEN_BLUE = {"save_all": True, "append_images": [Image.new("RGB", (1, 1), "blue")]}
UPRIGHT = [[[1, 1, 1]], [[2, 2, 2]]]
DEEP = [0, 300, 32768, 65535]  # round(value / 257): 0, 1 (1.17), 128 (127.5), 255
DEEP_SEEN = [[[value] * 3 for value in (0, 1, 128, 255)]]
OPAQUE = [[WHITE, [10, 20, 30], [127, 127, 127]]]  # alpha 0, 255 and 128 on black: 255 (1 - 128 / 255) = 127
CLEAR = u8([10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 128])

PICTURES: dict[str, tuple[str, bytes, list[object]]] = {
    "grey": ("png", saved(u8(0, 7, 255)), [[[0] * 3, [7] * 3, WHITE]]),
    "rgb": ("png", saved(u8([1, 2, 3], [4, 5, 6])), [[[1, 2, 3], [4, 5, 6]]]),
    "bits": ("png", saved(np.array([[True, False]])), [[WHITE, [0] * 3]]),
    "bits-pbm": ("pbm", b"P4 2 1\n\x40", [[WHITE, [0] * 3]]),  # 1 is black there
    "grey-2bit": ("png", png((4, 1), 2, 0, b"\x1b"), [[[0] * 3, [85] * 3, [170] * 3, WHITE]]),
    "16bit-png": ("png", saved(np.array([DEEP], np.uint16)), DEEP_SEEN),
    "16bit-tiff": ("tif", saved(np.array([DEEP], np.uint16), form="TIFF"), DEEP_SEEN),
    "16bit-big-endian": ("tif", saved(np.array([DEEP], ">u2"), "I;16B", form="TIFF"), DEEP_SEEN),
    "16bit-pgm": ("pgm", saved(np.array([DEEP], np.int32), form="PPM"), DEEP_SEEN),
    "16bit-rgb": ("png", png((2, 1), 16, 2, big(0, 300, 65535, 65535, 33000, 0)), [[[0, 1, 255], [255, 128, 0]]]),
    "16bit-white-is-zero": ("tif", tiff(b"\0\0\xff\xff", width=2, bits=16, photometric=0), [[WHITE, [0] * 3]]),
    "12bit": ("tif", tiff(b"\xff\xf0\x00", width=2, bits=12), [[WHITE, [0] * 3]]),
    "10bit-pgm": ("pgm", b"P5 2 1 1023\n" + big(0, 1023), [[[0] * 3, WHITE]]),
    "32bit": ("tif", saved(np.array([DEEP], np.int32), form="TIFF"), DEEP_SEEN),
    "floating": ("tif", saved(np.array([[0, 0.5, 1]], np.float32), form="TIFF"), [[[0] * 3, [128] * 3, WHITE]]),
    "grey-alpha": ("png", saved(u8([10, 0], [10, 255], [0, 128]), "LA"), [[WHITE, [10] * 3, [127] * 3]]),
    "rgba": ("png", saved(CLEAR), OPAQUE),
    "rgba-tiff": ("tif", saved(CLEAR, form="TIFF"), OPAQUE),
    "rgba-webp": ("webp", saved(CLEAR, form="WEBP", lossless=True, exact=True), OPAQUE),
    "16bit-rgba": ("png", png((1, 1), 16, 6, big(1, 2, 3, 0)), [[WHITE]]),
    "16bit-key": ("png", png((2, 1), 16, 0, big(0, 300), before=chunk(b"tRNS", big(300))), [[[0] * 3, WHITE]]),
    "16bit-rgb-key": (
        "png", png((2, 1), 16, 2, big(0, 300, 0, 0, 0, 0), before=chunk(b"tRNS", big(0, 300, 0))), [[WHITE, [0] * 3]]
    ),
    "2bit-key": ("png", png((3, 1), 2, 0, b"\x18", before=chunk(b"tRNS", big(1))), [[[0] * 3, WHITE, [170] * 3]]),
    "grey-key": ("png", saved(u8(10, 11), transparency=11), [[[10] * 3, WHITE]]),
    "rgb-key": ("png", saved(u8([1, 2, 3], [4, 5, 6]), transparency=(4, 5, 6)), [[[1, 2, 3], WHITE]]),
    "palette": ("png", saved(palette()), [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]),
    "palette-key": ("gif", saved(palette(), form="GIF", transparency=1), [[[255, 0, 0], WHITE, [0, 0, 255]]]),
    "palette-alphas": (
        "png", saved(palette(), transparency=bytes([0, 255, 255])), [[WHITE, [0, 255, 0], [0, 0, 255]]]
    ),
    "cmyk": ("tif", saved(u8([0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]), "CMYK", form="TIFF"),
             [[WHITE, [0, 255, 255], [0] * 3]]),
    "cmyk-jpeg": ("jpg", saved(np.full((1, 1, 4), (0, 255, 255, 0), np.uint8), "CMYK", form="JPEG"), [[[255, 0, 0]]]),
    "turned-png": ("png", saved(u8([1] * 3, [2] * 3), exif=turned()), UPRIGHT),
    "turned-tiff": ("tif", saved(u8([1] * 3, [2] * 3), form="TIFF", exif=turned()), UPRIGHT),
    "turned-webp": ("webp", saved(u8([1] * 3, [2] * 3), form="WEBP", lossless=True, exif=turned()), UPRIGHT),
    "turned-16bit": ("png", saved(np.array([[0, 65535]], np.uint16), exif=turned()), [[[0] * 3], [WHITE]]),
    "turned-at-the-end": ("png", png((2, 1), 8, 0, b"\1\2", after=chunk(b"eXIf", turned().tobytes()[6:])), UPRIGHT),
    "exif-unreadable": ("png", png((2, 1), 8, 0, b"\1\2", before=chunk(b"eXIf", b"garbage!")), [[[1] * 3, [2] * 3]]),
    "animated-gif": ("gif", saved(Image.new("RGB", (1, 1), "red"), form="GIF", **RED_THEN_BLUE), [[[255, 0, 0]]]),
    "animated-png": ("png", saved(Image.new("RGB", (1, 1), "red"), **RED_THEN_BLUE), [[[255, 0, 0]]]),
    "animated-webp": (
        "webp", saved(Image.new("RGB", (1, 1), "red"), form="WEBP", lossless=True, **RED_THEN_BLUE), [[[255, 0, 0]]]
    ),
    "pages": ("tif", saved(Image.new("RGB", (1, 1), "red"), form="TIFF", **RED_THEN_BLUE), [[[255, 0, 0]]]),
    "under-another-name": ("png", saved(u8(0, 255), form="BMP"), [[[0] * 3, WHITE]]),
}  # fmt: skip
each_picture = pytest.mark.parametrize("name", PICTURES)


def write(folder: Path, name: str) -> Path:
    suffix, content, _ = PICTURES[name]
    path = folder / f"{name}.{suffix}"
    path.write_bytes(content)
    return path


# --- pixels


@each_picture
@pytest.mark.filterwarnings("ignore")  # Pillow's own, which the readers of whole sets silence
def test_every_mode_has_its_pixels(name: str, tmp_path: Path) -> None:
    path, seen = write(tmp_path, name), PICTURES[name][2]
    colour = np.asarray(open_image(path, "RGB"))
    assert colour.tolist() == seen
    luma = np.array(seen) @ (0.299, 0.587, 0.114)  # ITU-R 601
    assert np.abs(np.asarray(open_image(path, "L")) - luma).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(form: str, tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / "deep.png"
    path.write_bytes(saved(values, form=form))
    seen = np.asarray(open_image(path, "L"))
    assert np.abs(seen - values / 257).max() <= 0.5
    assert (seen[0, 0], seen[-1, -1]) == (0, 255)


def test_orientations_are_applied(tmp_path: Path) -> None:
    """Each by its definition: where row 0 and column 0 of the stored image are seen."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    seen = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }
    for orientation, upright in seen.items():
        exif = Image.Exif()
        exif[0x112] = orientation
        (tmp_path / "turned.png").write_bytes(saved(stored, exif=exif))
        np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "turned.png", "L")), upright)


NOISE = np.random.default_rng(0).integers(0, 256, (99, 99), dtype=np.uint8)
REFUSED = {
    "empty": (b"", "it is empty"),
    "text": (b"not an image", f"none of {', '.join(FORMATS)}"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of BMP"),
    "cut-png": (saved(NOISE)[:2000], "truncated"),
    "cut-jpeg": (saved(NOISE, form="JPEG")[:2000], "truncated"),
    "cut-gif": (saved(NOISE, form="GIF")[:2000], "truncated"),
    "cut-tiff": (saved(NOISE, form="TIFF")[:2000], "."),
    "cut-webp": (saved(NOISE, form="WEBP", lossless=True)[:2000], "."),
    "cut-bmp": (saved(NOISE, form="BMP")[:2000], "truncated"),
    "cut-pgm": (saved(NOISE, form="PPM")[:2000], "truncated"),
    "bomb": (png((60_000, 60_000), 1, 0, b"\0" * 60_000), "3600000000 pixels"),
    "large": (png((10_000, 9_000), 1, 0, b"\0" * 9_000), "10000 x 9000 pixels, at most 89478485"),
    "32bit-beyond": (saved(np.array([[0, 65536]], np.int32), form="TIFF"), "from 0 to 65536, expected 0 to 65535"),
    "32bit-unsigned": (tiff(b"\0\0\0\0\xff\xff\xff\xff", width=2, bits=32), "expected 0 to 65535"),
    "negative": (tiff(b"\0\0\xff\xff", width=2, bits=16, sample_format=2), "from -1 to 0, expected 0 to 65535"),
    "signed-8bit": (tiff(b"\0\xff", width=2, bits=8, sample_format=2), "signed samples"),
    "floating-beyond": (saved(np.array([[0, 255]], np.float32), form="TIFF"), "from 0 to 255, expected 0 to 1"),
    "no-number": (saved(np.array([[0, np.nan]], np.float32), form="TIFF"), "nan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_pixels_is_named(name: str, tmp_path: Path) -> None:
    content, reason = REFUSED[name]
    path = tmp_path / f"{name}.png"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{name}\.png: expected an image, but it cannot be decoded \(.*{reason}"
    ) as told:
        read_images([path], (1, 4, 4))
    assert str(told.value).isprintable()


# --- what is no file, and odd names


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


def listening(path: Path) -> None:
    place, before = path.name, Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(place)
    finally:
        os.chdir(before)


def folder_of_that_name(path: Path) -> None:
    path.mkdir()


NO_FILES: dict[Callable[[Path], None], str] = {
    fifo: "a FIFO, not a file",
    endless: "a device, not a file",
    loop: "Too many levels of symbolic links",
    dangling: "a link to nothing",
    folder_of_that_name: "a folder, not a file",
}


def write_folder(root: Path, names: tuple[str, ...] = ("cat", "dog"), *, per_class: int = 3, side: int = 6) -> None:
    source = np.random.default_rng(1)
    for part in ("train", "test"):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for number in range(per_class):
                pixels = source.integers(0, 256, (side, side), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")


@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_no_file_is_named_at_once(make: Callable[[Path], None], tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "train" / "dog" / "9.png"
    make(path)
    with pytest.raises(DataError, match=rf"dog/9\.png: expected an image, but it is {NO_FILES[make]}"):
        list_images(tmp_path / "train")
    with pytest.raises(DataError, match=rf"9\.png: expected an image, but it cannot be decoded \({NO_FILES[make]}"):
        open_image(path, "L")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_socket_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    listening(tmp_path / "train" / "dog" / "9.png")
    with pytest.raises(DataError, match=r"9\.png: expected an image, but it is a socket, not a file"):
        list_images(tmp_path / "train")


def test_links_to_images_and_folders_are_followed(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "eel").symlink_to(tmp_path / "train" / "cat")
    (tmp_path / "train" / "dog" / "9.png").symlink_to(tmp_path / "train" / "cat" / "0.png")
    listing = list_images(tmp_path / "train")
    assert listing.classes == ("cat", "dog", "eel")
    assert np.bincount(listing.labels).tolist() == [3, 4, 3]


def test_dot_files_and_other_files_are_skipped(tmp_path: Path) -> None:
    write_folder(tmp_path)
    before = list_images(tmp_path / "train")
    (tmp_path / "train" / "dog" / "._0.png").write_bytes(b"\0\5\x16\7 what macOS leaves on foreign disks")
    (tmp_path / "train" / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".DS_Store").write_text("")
    (tmp_path / "train" / ".trash").mkdir()
    (tmp_path / "train" / "labels.csv").write_text("")
    assert list_images(tmp_path / "train").files == before.files


@pytest.mark.parametrize("make", [dangling, loop], ids=lambda make: make.__name__)
def test_a_link_to_nothing_may_have_been_a_class(make: Callable[[Path], None], tmp_path: Path) -> None:
    write_folder(tmp_path)
    make(tmp_path / "train" / "eel")
    with pytest.raises(DataError, match=r"train/eel: (expected a folder of images, but it is a link|cannot be read)"):
        list_images(tmp_path / "train")


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    closed, image = tmp_path / "train" / "dog", tmp_path / "train" / "cat" / "0.png"
    closed.chmod(0)
    image.chmod(0)
    for each in (*tmp_path.parents[:3], tmp_path):
        each.chmod(each.stat().st_mode | 0o055)
    try:
        with as_nobody():
            with pytest.raises(DataError, match=r"train/dog: cannot be read \(Permission denied\)"):
                list_images(tmp_path / "train")
            with pytest.raises(DataError, match=r"cat/0\.png: expected an image, .* \(Permission denied\)"):
                open_image(image, "L")
    finally:
        closed.chmod(0o755)


def test_names_that_are_not_utf8_are_read_and_shown_escaped(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9\x1b[31m")
    write_folder(tmp_path, ("cat", odd))
    (tmp_path / "train" / odd / "0.png").rename(tmp_path / "train" / odd / os.fsdecode(b"\xff\n.png"))
    config = folder_config(tmp_path)
    read = read_image_folder(config)
    assert read.names == (r"caf\udce9\x1b[31m", "cat")
    assert torch.equal(read_image_folder(config).train.images, read.train.images)  # from the cache
    (tmp_path / "train" / odd / os.fsdecode(b"\xff\n.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"\\udcff\\n\.png: expected an image") as told:
        read_image_folder(config)
    assert str(told.value).isprintable()


def test_kept_pixels_are_those_of_this_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    config, cache = folder_config(tmp_path), tmp_path / ".bnnsearch-cache"
    read_image_folder(config)
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr("bnnsearch.core.data.folder.DECODER", 10**6)
    read_image_folder(config)
    assert len(list(cache.iterdir())) == 4


def test_anything_in_place_of_kept_pixels_is_made_again(tmp_path: Path) -> None:
    write_folder(tmp_path)
    config = folder_config(tmp_path)
    first = read_image_folder(config).train.images
    for path in (tmp_path / ".bnnsearch-cache").iterdir():
        path.unlink()
        os.mkfifo(path)
    assert torch.equal(read_image_folder(config).train.images, first)


# --- the same file of pixels, the same label everywhere


def folder_config(root: Path) -> ImageFolderConfig:
    return ImageFolderConfig(root=str(root), image_size=6, channels=1, val_fraction=0.34)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose test images have every mode; the classes are dark and bright, so that something can be learnt."""
    root = tmp_path_factory.mktemp("everything")
    source = np.random.default_rng(2)
    for part in ("train", "test"):
        for place, name in enumerate(("dark", "bright")):
            (root / part / name).mkdir(parents=True)
            for number in range(12):
                pixels = source.integers(place * 100, 156 + place * 100, (9, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    for place, name in enumerate(PICTURES):
        write(root / "test" / ("dark", "bright")[place % 2], name)
    return root


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main.main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_torch_packed_and_predict_agree_on_every_mode(
    channels: int, everything: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ImageFolderConfig.model_validate({"root": str(everything), "image_size": 5, "channels": channels})
    model, plan = MlpConfig(hidden=(31,)), PlanConfig(epochs=2)
    config = TrialConfig(data=data, model=model, method=SteConfig(), plan=plan, seed=0)
    assert list(train(config, tmp_path).classes) == ["bright", "dark"]
    trainer = build_trainer(config)
    trainer.load_state_dict(load_checkpoint(tmp_path / "checkpoint.pt")["trainer"])
    test = load_data(data).test
    assert isinstance(test, Split)
    with torch.no_grad():
        network = trainer.sign_network().eval()  # type: ignore[attr-defined]
        wanted = torch.cat([network(images).argmax(1) for images, _ in eval_batches(test, batch_size=100)]).tolist()
    assert set(wanted) == {0, 1}
    pack_run(tmp_path, tmp_path / "model.bnn")
    assert PackedModel.load(tmp_path / "model.bnn").predict(test.images.numpy()).tolist() == wanted
    files = list_images(everything / "test").files
    capsys.readouterr()
    assert run("predict", tmp_path / "model.bnn", *files, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["file"], line["label"], line["name"]) for line in lines] == [
        (file, label, ("bright", "dark")[label]) for file, label in zip(files, wanted, strict=True)
    ]


def test_predict_scales_as_training_did(tmp_path: Path) -> None:
    """Bilinearly from 4 pixels to 2: the first is (3 * 100 + 3 * 100 + 200) / 7, the fourth tap lies outside."""
    (tmp_path / "step.png").write_bytes(saved(np.array([[100, 100, 200, 200]] * 4, np.uint8)))
    pixels = read_images([tmp_path / "step.png"], (1, 2, 2))
    assert pixels.tolist() == [[[[114, 186]] * 2]]


def test_a_streamed_set_is_predicted_from_its_centre(tmp_path: Path) -> None:
    write_folder(tmp_path, side=40)
    (tmp_path / "test").rename(tmp_path / "val")
    data = load_data(ImagenetConfig(root=str(tmp_path), image_size=32, classes=2, workers=0, val_fraction=0.34))
    assert (data.names, data.crop) == (("cat", "dog"), 224 / 256)
    streamed = torch.cat([images for images, _ in eval_batches(data.test, batch_size=6)])
    files = list_images(tmp_path / "val").files
    read = torch.from_numpy(read_images(files, data.shape, crop=data.crop)) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    assert torch.allclose((read - mean) / std, streamed, atol=1e-6)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    model = PackedModel.from_module(
        network, shape=data.shape, mean=data.mean, std=data.std,
        classes=data.names, preprocessing=Preprocessing(crop=data.crop),
    )  # fmt: skip
    model.save(tmp_path / "model.bnn")
    found = list(predict_files(PackedModel.load(tmp_path / "model.bnn"), [Path(file) for file in files]))
    assert [each.label for each in found] == network(streamed).argmax(1).tolist()
    assert [each.name for each in found] == [data.names[each.label] for each in found]


# --- names of classes


@pytest.fixture
def named(tmp_path: Path) -> TrialConfig:
    write_folder(tmp_path / "data", ("cat", "dog"), per_class=6)
    return TrialConfig(
        data=folder_config(tmp_path / "data"), model=MlpConfig(hidden=(9,)), method=SteConfig(),
        plan=PlanConfig(epochs=1), seed=0,
    )  # fmt: skip


def test_names_travel_with_the_model(named: TrialConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(named, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["classes"] == ["cat", "dog"]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["classes"] == ["cat", "dog"]
    pack_run(tmp_path / "run", tmp_path / "model.bnn")
    assert PackedModel.load(tmp_path / "model.bnn").classes == ("cat", "dog")
    image = tmp_path / "data" / "test" / "cat" / "0.png"
    assert run("predict", tmp_path / "model.bnn", image) == 0
    name, best, other, rest = capsys.readouterr().out.removeprefix(f"{image}: ").replace(",", "").split()
    assert {name, other} == {"cat", "dog"}
    assert float(best) >= float(rest) and float(best) + float(rest) == pytest.approx(1, abs=2e-4)


def test_other_classes_than_those_trained_on_are_refused(named: TrialConfig, tmp_path: Path) -> None:
    train(named, tmp_path / "run")
    for part in ("train", "test"):
        (tmp_path / "data" / part / "cat").rename(tmp_path / "data" / part / "eel")  # dog is now label 0
    load_data.__globals__["_loaded"].cache_clear()  # as a new process
    with pytest.raises(DataError, match="trained on the classes cat, dog, but the data set has dog, eel"):
        pack_run(tmp_path / "run", tmp_path / "model.bnn")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(DataError, match="trained on the classes cat, dog, but the data set has dog, eel"):
        train(named, tmp_path / "run")


def test_a_checkpoint_of_a_trial_names_its_classes_and_is_left_where_they_are_others(
    named: TrialConfig, tmp_path: Path
) -> None:
    config = named.model_copy(update={"plan": PlanConfig(epochs=3)}).model_dump(mode="json")
    space = load_space_of(config, tmp_path)
    (tmp_path / "study").mkdir()
    job = _job(space, StudyFolder(tmp_path / "study"), None)

    def epochs(count: int) -> list[int]:
        reports = run_trial(job, Assignment(0, config), own_process=False)
        told = (report.epoch for report in reports if isinstance(report, EpochMetrics))
        found = list(islice(told, count))
        reports.close()
        return found

    assert epochs(2) == [1, 2]
    assert load_checkpoint(job.checkpoint(0))["classes"] == ["cat", "dog"]
    assert epochs(1) == [2]
    for part in ("train", "test"):
        (tmp_path / "data" / part / "cat").rename(tmp_path / "data" / part / "eel")
    load_data.__globals__["_loaded"].cache_clear()  # as a new process
    assert epochs(1) == [1]


def load_space_of(config: dict[str, Any], folder: Path) -> Space:
    space = {
        "version": 1,
        "name": "named",
        "objectives": [{"metric": "val_acc", "mode": "max"}],
        "budget": {"trials": 1},
        "checkpoint": {"interval": 0},
        "trial": {name: value for name, value in config.items() if value is not None},
    }
    (folder / "space.yaml").write_text(json.dumps(space))
    return load_space(folder / "space.yaml")


def test_names_of_an_evolved_network_travel(named: TrialConfig, tmp_path: Path) -> None:
    config = TrialConfig(
        data=named.data, model=XorMlpConfig(hidden=(64,), bits_per_label=8), method=ElitistConfig(),
        plan=PlanConfig(epochs=1), seed=0,
    )  # fmt: skip
    train(config, tmp_path / "run")
    pack_run(tmp_path / "run", tmp_path / "model.bnn")
    model = PackedModel.load(tmp_path / "model.bnn")
    assert model.classes == ("cat", "dog")
    test = load_data(config.data).test
    assert isinstance(test, Split)
    files = [Path(file) for file in list_images(tmp_path / "data" / "test").files]
    trainer = build_trainer(config)
    trainer.load_state_dict(load_checkpoint(tmp_path / "run" / "checkpoint.pt")["trainer"])
    wanted = trainer.network().predict(test.images.numpy()).tolist()  # type: ignore[attr-defined]
    assert [each.label for each in predict_files(model, files)] == wanted


def tiny(classes: tuple[str, ...] = ()) -> PackedModel:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    return PackedModel.from_module(network, shape=(1, 2, 2), mean=(0.5,), std=(0.5,), classes=classes)


def test_a_file_without_names_goes_by_numbers(tmp_path: Path) -> None:
    """As written before there were names: neither key is there."""
    tiny().save(tmp_path / "model.bnn")

    def older(manifest: dict[str, object]) -> dict[str, object]:
        assert "classes" not in manifest
        del manifest["preprocessing"]
        return manifest

    (tmp_path / "model.bnn").write_bytes(with_manifest((tmp_path / "model.bnn").read_bytes(), older))
    model = PackedModel.load(tmp_path / "model.bnn")
    assert (model.classes, model.preprocessing) == (("0", "1"), Preprocessing())


def test_one_name_per_class(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one name per class must be given, but got 3 for 2"):
        tiny(("cat", "dog", "eel"))


def test_predict_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(("a\x1b[31m", "b\u202e")).save(tmp_path / "model.bnn")
    good = tmp_path / os.fsdecode(b"\xff.png")
    good.write_bytes(saved(u8(0, 255)))
    assert run("predict", tmp_path / "model.bnn", good) == 0
    line = capsys.readouterr().out.rstrip("\n")
    assert line.isprintable() and r"\udcff.png: " in line and r"a\x1b[31m" in line and r"b\u202e" in line
    os.mkfifo(tmp_path / "pipe.png")
    for bad, reason in ((tmp_path / "pipe.png", "a FIFO, not a file"), (tmp_path / "no.png", "No such file")):
        assert run("predict", tmp_path / "model.bnn", bad) == 3
        told = capsys.readouterr().err
        assert reason in told and told.count("\n") == 1
    assert run("predict", tmp_path / "pipe.png", good) == 3
    assert "a FIFO, not a file" in capsys.readouterr().err


def test_predict_reads_a_folder_as_training_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Links are followed once; what training keeps there is no sample; what cannot be read is said."""
    model, root, other = tmp_path / "model.bnn", tmp_path / "set", tmp_path / "other"
    tiny(("cat", "dog")).save(model)
    for place in (root / "cat", root / ".bnnsearch-cache", other):
        place.mkdir(parents=True)
        np.savez(place / "kept.npz", images=np.zeros((3, 1, 2, 2), np.uint8))
        (place / "a.png").write_bytes(saved(u8(0, 255)))
    (root / "cat" / "kept.npz").unlink()
    (other / "kept.npz").unlink()
    (root / "linked").symlink_to(other)
    (other / "back").symlink_to(root)
    with (root / "ARRAY.NPY").open("wb") as file:
        np.save(file, np.zeros((2, 1, 2, 2), np.uint8))
    assert run("predict", model, root) == 0
    shown = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"{root}/{name}" for name in ("ARRAY.NPY[0]", "ARRAY.NPY[1]", "cat/a.png", "linked/a.png")]

    (root / "cat" / "gone.png").symlink_to("nothing")
    assert run("predict", model, root) == 3
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert (
        said.err == f"bnnsearch: {root}/cat/gone.png: expected an image, but it cannot be decoded (a link to nothing)\n"
    )
    (root / "cat").chmod(0)
    with chdir(root), as_nobody(), pytest.raises(DataError, match=r"cat: cannot be read \(Permission denied\)"):
        files_below([Path()])
    (root / "cat").chmod(0o700)


def test_images_are_scaled_across_then_down() -> None:
    """Pillow 13 has its own order for tall ones; the two differ by a step here and there."""
    tall = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 13)).astype(np.uint8))
    across = np.asarray(tall.resize((28, 90), Image.Resampling.BILINEAR))
    down = np.asarray(Image.fromarray(across).resize((28, 28), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(scaled_pixels(tall, (28, 28))[0], down)
    first_down = Image.fromarray(np.asarray(tall.resize((13, 28), Image.Resampling.BILINEAR)))
    assert (np.asarray(first_down.resize((28, 28), Image.Resampling.BILINEAR)) != down).any()
