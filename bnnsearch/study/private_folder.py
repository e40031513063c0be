"""A folder of one process and one user, for what Ray keeps while it runs: mode 0700, short, and gone at the end.

Its name is short because the names of sockets below it have at most 107 bytes. Its owner holds a lock in it for as long
as it lives; the next process that makes such a folder removes those whose owners were killed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import lock

PREFIX = "bnnsearch-"
LOCK = "lock"
LONGEST = 40
"""Bytes of the folder's path, so that Ray's longest socket, of 66 bytes below it, has a name the system takes."""

PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where it is made if TMPDIR does not do."""

_RANDOM = 8  # characters that `mkdtemp` adds


@contextmanager
def private_folder() -> Iterator[Path]:
    """Make the folder, and remove it on leaving; those that killed processes left are removed first.

    Raises:
        EnvironmentProblem: no place for temporary files is writable and has a path short enough.
    """
    base = _base()
    _sweep(base)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    with (folder / LOCK).open("w") as file:
        lock(file)
        try:
            yield folder
        finally:
            remove(folder)


def _base() -> Path:
    longest = LONGEST - len(PREFIX) - _RANDOM - 1
    for place in filter(None, (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), *PLACES)):
        base = Path(place).absolute()
        if len(os.fsencode(base)) <= longest and base.is_dir() and os.access(base, os.W_OK | os.X_OK):
            return base
    raise EnvironmentProblem(
        f"Ray needs a writable folder for temporary files whose path has at most {longest} bytes; "
        f"TMPDIR is {tempfile.gettempdir()}, and none of {', '.join(PLACES)} can be written"
    )


def _sweep(base: Path) -> None:
    """Remove the folders of this user's dead processes; what cannot be removed is left to the next sweep."""
    for folder in base.glob(f"{PREFIX}{'?' * _RANDOM}"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open("r+") as file:  # one without a lock is being made just now
                lock(file, wait=0)
                remove(folder)


def remove(folder: Path) -> None:
    """Remove everything, the lock last: a folder of which something is left is known for one of ours.

    One that is gone already, as when someone cleans /tmp, is no error.
    """
    with suppress(FileNotFoundError):
        for entry in folder.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        if [entry.name for entry in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()
