"""The page that `pack --wasm` writes: a network as WebAssembly, and what draws, reads and classifies images with it.

It needs no network, no server and no other file. With one compiler it is a function of the model alone.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from bnnsearch.device.lower import lower
from bnnsearch.device.targets import wasm_module
from bnnsearch.errors import InputError
from bnnsearch.files import write_whole
from bnnsearch.packed.model import PackedModel


def write_page(model: PackedModel, path: Path) -> tuple[Path, int]:
    """Write the page of a model.

    Args:
        model: the network, of images: of one channel or three, higher and wider than one pixel.
        path: the file; in a folder it is called index.html.

    Returns:
        The file, and the bytes of WebAssembly in it.

    Raises:
        InputError: the network takes no images, or cannot be lowered.
        EnvironmentProblem: there is no compiler for WebAssembly, or the file cannot be written.
    """
    text, size = page_html(model)
    file = path / "index.html" if path.is_dir() or path.suffix.lower() not in (".html", ".htm") else path
    write_whole(file, text.encode())
    return file, size


def page_html(model: PackedModel) -> tuple[str, int]:
    """The page's text, and the bytes of WebAssembly in it; raises as `write_page`."""
    channels, height, width = model.shape
    if channels not in (1, 3) or min(height, width) < 2:
        raise InputError(
            "a page draws and reads images, of 1 or 3 channels and more than one row, but this network takes "
            f"{channels} channels of {height}x{width}"
        )
    program = lower(model.graph, model.tensors)
    module = wasm_module(model, program)
    arithmetic = "floating point" if program.real else "whole numbers"
    colour = " in colour" * (channels == 3)
    about = (
        f"It tells {len(model.classes)} classes by {width}x{height} pixels{colour}, in {arithmetic}: "
        f"{model.packed_bytes:,} bytes as a packed model, {len(module):,} as the WebAssembly that runs here. "
        "Nothing leaves this page."
    )
    network = {
        "about": about,
        "shape": model.shape,
        "classes": model.classes,
        "crop": model.preprocessing.crop,
        "number": program.number,
        "factor": program.factor,
        "wasm": b64encode(module).decode(),
    }
    text = json.dumps(network).replace("<", "\\u003c")  # no name of a class ends the script
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    return template.replace("@NETWORK@", text), len(module)
