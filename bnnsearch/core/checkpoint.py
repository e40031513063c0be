"""A training state on disk: tensors and plain values, whole or not at all, refused when a byte has changed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bnnsearch.errors import DataError, EnvironmentProblem, printable
from bnnsearch.files import read_regular

MAGIC = b"bnnsearch checkpoint 1\n"
CHECKPOINT = "checkpoint.pt"
"""Name of the checkpoint in a folder of `bnnsearch train`."""

_DIGEST = hashlib.sha256().digest_size


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path` in one step: whoever reads finds the old state or the new one, never half of one."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote; tensors come to the CPU.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is not a checkpoint, is cut short, was changed, or holds more than plain values.
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{printable(path)}: cannot be read ({error.strerror})") from error
    start = len(MAGIC) + _DIGEST
    if not content.startswith(MAGIC) or len(content) < start:
        raise ValueError(f"{printable(path)}: not a checkpoint")
    payload = content[start:]
    if hashlib.sha256(payload).digest() != content[len(MAGIC) : start]:
        raise ValueError(f"{printable(path)}: the checkpoint is damaged (its SHA-256 differs)")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{printable(path)}: a checkpoint may hold only tensors and plain values") from error
    except Exception as error:  # a forged archive fails in the ways of zip, of pickle and of tensors
        raise ValueError(f"{printable(path)}: not a checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise ValueError(f"{printable(path)}: a checkpoint holds values by name, but this is a {type(state).__name__}")
    return state


def check_format(state: Mapping[str, Any], expected: int) -> None:
    """See that a trainer's state is of the format that this version writes, before any of it is taken up.

    Raises:
        ValueError: it is of another; the first had no number.
    """
    found = state.get("format", 1)
    if found != expected:
        raise ValueError(f"written by another version of bnnsearch (a state of format {found}, not {expected})")


def take_up(load: Callable[[dict[str, Any]], None], saved: Mapping[str, Any], checkpoint: Path) -> None:
    """Let a trainer's `load_state_dict` take up the state in what was read from `checkpoint`.

    Raises:
        EnvironmentProblem: it is not a state that this version reads.
        RuntimeError: its tensors do not fit the network (see `misfit`).
    """
    try:
        load(saved["trainer"])
    except (KeyError, TypeError, ValueError) as error:
        problem = str(error) if isinstance(error, ValueError) else f"not a state that this version reads ({error!r})"
        raise EnvironmentProblem(
            f"{printable(checkpoint)}: {printable(problem)}; read it with the version that wrote it, or train anew"
        ) from error


def check_classes(saved: dict[str, Any], classes: Sequence[str], checkpoint: Path) -> None:
    """See that the data set's classes are those that a checkpoint was trained on; older ones do not say.

    Raises:
        DataError: they are not, so that its labels would mean others.
    """
    trained = saved.get("classes", classes)
    if list(trained) != list(classes):
        told, found = (", ".join(map(printable, names)) for names in (trained, classes))
        raise DataError(f"{printable(checkpoint)}: trained on the classes {told}, but the data set has {found}")


def misfit(error: Exception) -> str:
    """One line of what torch says of a state that does not fit a network: after a heading, it has a line for each."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[-1].strip())


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
