"""The file of a 1-bit model: safetensors, with a manifest in the header's metadata. No code is ever loaded from it.

`docs/packed-format.md` describes it for other languages. Whatever is wrong with a file is one `EnvironmentProblem` with
the reason: nothing that stands in a file can do more.
"""

from __future__ import annotations

import hashlib
import json
import struct
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from bnnsearch.core.arrays import Scaling
from bnnsearch.core.images import DECODER
from bnnsearch.errors import EnvironmentProblem, printable
from bnnsearch.files import read_regular
from bnnsearch.packed.graph import Graph, check_tensors
from bnnsearch.packed.operations import Array

VERSION = 2
_DTYPES = {"U64": "<u8", "F32": "<f4", "I32": "<i4", "I8": "|i1", "U8": "|u1"}

Provenance = Mapping[str, str]


class Preprocessing(BaseModel):
    """How an image file becomes the octets that the network takes; training read its images in the same way.

    Attributes:
        decoder: version of the rules of `core.images`.
        filter: how images are scaled to the network's height and width.
        crop: share of the shorter side that is taken, a central square; None stretches the whole image.
        arrays: how the numbers of an array become octets, where it was trained on arrays.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    decoder: Annotated[int, Field(ge=1, le=DECODER)] = DECODER
    filter: Literal["bilinear"] = "bilinear"
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    arrays: Scaling | None = None


class Manifest(BaseModel):
    """What the header says besides the tensors.

    Attributes:
        version: rises when an older reader could no longer read the file; keys it does not know are left out.
        bit_order: bit i of a row of bits is bit i mod 64 of word i div 64; 1 is +1 and 0 is -1.
        graph: the network.
        digests: SHA-256 of every tensor, in base64: of its dtype, its shape and its bytes.
        provenance: where the model comes from, free text by key.
        classes: their names, by label; left out where they have only numbers, as older writers did.
        preprocessing: what `predict` does to files.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    format: Literal["bnnsearch-packed"] = "bnnsearch-packed"
    version: Annotated[int, Field(ge=1)]
    bit_order: Literal["lsb0-uint64"] = "lsb0-uint64"
    graph: Graph
    digests: dict[str, str]
    provenance: dict[str, str] = {}
    classes: tuple[str, ...] = Field(default=(), strict=False)
    preprocessing: Preprocessing = Preprocessing()


def encode(
    graph: Graph,
    tensors: Mapping[str, Array],
    provenance: Provenance,
    *,
    classes: tuple[str, ...],
    preprocessing: Preprocessing,
) -> bytes:
    """The content of a model's file."""
    manifest = Manifest(
        version=graph.version,
        graph=graph,
        digests={name: _digest(array) for name, array in tensors.items()},
        provenance=dict(provenance),
        classes=classes,
        preprocessing=preprocessing,
    )
    text = json.dumps(_brief(manifest), separators=(",", ":"))
    metadata = {"manifest": text, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return _ordered(save(dict(tensors), metadata=metadata))


def _ordered(content: bytes) -> bytes:
    """The same file with its header in one order: safetensors writes the metadata in any, anew every time."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return (
        content[:8]
        + json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(end - 8)
        + content[end:]
    )


def read(path: Path) -> tuple[Manifest, dict[str, Array]]:
    """Read and check a model.

    Raises:
        EnvironmentProblem: the file is missing, truncated, changed, of another kind or of a later version.
    """
    try:
        content = read_regular(path)
    except OSError as error:
        raise EnvironmentProblem(f"{printable(path)}: cannot be read: {error.strerror}") from error
    try:
        return parse(content)
    except ValueError as error:
        raise EnvironmentProblem(f"{printable(path)}: {printable(str(error))}") from error


def parse(content: bytes) -> tuple[Manifest, dict[str, Array]]:
    """The manifest and the arrays of a file's content, checked.

    Raises:
        ValueError: one line on what is wrong.
    """
    manifest = _manifest(_metadata(content))
    try:
        found = dict(deserialize(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ValueError(f"not a whole safetensors file ({error})") from error
    tensors = {name: _array(name, entry) for name, entry in found.items()}
    if set(tensors) != set(manifest.digests):
        raise ValueError(f"tensors {sorted(set(tensors) ^ set(manifest.digests))} are not both listed and there")
    for name, array in tensors.items():
        if _digest(array) != manifest.digests[name]:
            raise ValueError(f"tensor {name!r} has been changed: its SHA-256 is not the one listed")
    check_tensors(manifest.graph, tensors)
    logits = manifest.graph.shapes()[manifest.graph.output].channels
    scaling, channels = manifest.preprocessing.arrays, manifest.graph.images.shape[0]
    if scaling is not None and len(scaling.low) != channels:
        raise ValueError(f"preprocessing.arrays scales {len(scaling.low)} channels, but the images have {channels}")
    if manifest.classes and len(manifest.classes) != logits:
        raise ValueError(f"{len(manifest.classes)} names are given for {logits} classes")
    return manifest, tensors


def _brief(manifest: Manifest) -> dict[str, Any]:
    """The manifest as JSON values; an operation leaves out what is its default, and an input that stands before it."""
    content = manifest.model_dump(mode="json", exclude_none=True)
    if not manifest.classes:
        del content["classes"]
    before = None
    for index, operation in enumerate(manifest.graph.operations):
        brief = {"op": operation.op} | operation.model_dump(mode="json", exclude_defaults=True)
        if brief.get("input") == before:
            del brief["input"]
        content["graph"]["operations"][index] = brief
        before = operation.name
    return content


def _fill_inputs(content: dict[str, Any]) -> None:
    """The inverse of leaving inputs out."""
    before = None
    for operation in content["graph"]["operations"]:
        if before is not None and not {"x", "parts"} & set(operation):
            operation.setdefault("input", before)
        before = operation.get("name")


def _metadata(content: bytes) -> dict[str, Any]:
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        metadata = header["__metadata__"]
        if not isinstance(metadata["manifest"], str):
            raise TypeError
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, OverflowError, MemoryError) as error:
        raise ValueError("not a packed model, or cut off: it has no header with a manifest") from error
    return dict(metadata)


def _manifest(metadata: Mapping[str, Any]) -> Manifest:
    text = metadata["manifest"]
    if metadata.get("manifest_sha256") != hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest():
        raise ValueError("the manifest has been changed: its SHA-256 is not the one listed")
    try:
        content = json.loads(text)
        version = content.get("version")
        if isinstance(version, int) and version > VERSION:
            raise ValueError(f"version {version} is later than {VERSION}, the last one known here; update bnnsearch")
        _fill_inputs(content)
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(printable(f"the manifest does not hold at {place}: {first['msg']}")) from error
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("the manifest is not a JSON object with a graph of operations") from error


def _array(name: str, entry: Mapping[str, Any]) -> Array:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name!r} has dtype {entry['dtype']}; only {', '.join(_DTYPES)} occur")
    array = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return array.astype(array.dtype.newbyteorder("="))


def _digest(array: Array) -> str:
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    kind = f"{array.dtype.name} {','.join(map(str, array.shape))}\n"
    return b64encode(hashlib.sha256(kind.encode() + little.tobytes()).digest()).decode()
