"""Deleting a study's folder: whole, and only while nobody works on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bnnsearch.folder import StudyFolder
from bnnsearch.record import held


@contextmanager
def remove_folder(folder: StudyFolder) -> Iterator[None]:
    """Delete the folder on leaving, unless what is done before fails.

    Raises:
        StudyInUse: another process works on the study.
        OSError: it cannot be deleted.
    """
    with held(folder):
        yield
        shutil.rmtree(folder.path.resolve())
    if folder.path.is_symlink():
        folder.path.unlink()
    with suppress(OSError):
        folder.path.parent.rmdir()  # if this was the last study of its name
