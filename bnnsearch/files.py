"""Opening files that others made; writing whole, and locking, those that several processes use.

What is no file, such as a FIFO or a device, is told before reading it could hang.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from bnnsearch.errors import EnvironmentProblem

_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


def check_regular(path: str | os.PathLike[str]) -> None:
    """See that `path` is a file, or a link to one.

    Raises:
        OSError: its `strerror` says what it is instead, or why that cannot be told.
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError as error:
        if Path(path).is_symlink():
            raise FileNotFoundError(errno.ENOENT, "a link to nothing") from error
        raise
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_KINDS.get(stat.S_IFMT(mode), 'a device')}, not a file")


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """See that a file may be made in the place of `path`: that nothing is there, or a file.

    Raises:
        OSError: see `check_regular`. As root a device such as /dev/null would be replaced for the whole machine.
    """
    with suppress(FileNotFoundError):
        check_regular(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, in one step: where it is replaced, a reader sees the old or the new one.

    Raises:
        EnvironmentProblem: it cannot be written; nothing is left of it.
    """
    try:
        check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _draft(path, content) as draft:
            draft.replace(path)
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written: {error.strerror}") from error


def write_first(path: Path, content: bytes) -> None:
    """Write a file in one step, unless it is there, or another process was first.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    if path.exists():
        return
    with _draft(path, content) as draft:
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            draft.replace(path)


@contextmanager
def _draft(path: Path, content: bytes) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        draft.write_bytes(content)
        yield draft
    finally:
        with suppress(OSError):  # in a folder that is read-only, or is none, this fails too
            draft.unlink(missing_ok=True)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open the file `path` for reading.

    Raises:
        OSError: see `check_regular`; or it may not be read.
    """
    check_regular(path)
    # without waiting: between the check and here a FIFO may have taken the file's place
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def read_regular(path: str | os.PathLike[str], *, most: int | None = None) -> bytes:
    """The content of the file `path`, or its first `most` + 1 bytes: enough to see that it is too long.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path) as content:
        try:
            return content.read(-1 if most is None else most + 1)
        except MemoryError as error:  # the hole of a sparse file takes no disk
            raise OSError(errno.ENOMEM, "larger than the memory") from error


def lock(file: int | IO[Any], *, wait: float = math.inf) -> None:
    """Lock an open file for this process: until it is closed, or the process ends, however it ends.

    Args:
        file: the open file, or its descriptor.
        wait: seconds to wait while another process holds it.

    Raises:
        BlockingIOError: another process holds it still.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait == math.inf else fcntl.LOCK_NB))
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.1)
