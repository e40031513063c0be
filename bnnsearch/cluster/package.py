"""What travels to a cluster with a search: this project, so that all nodes run the same of it, and the space."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bnnsearch

SPACE_PACKAGE, SPACE_FILE = "bnnsearch_job", "space.yaml"


@contextmanager
def packaged(space_text: str) -> Iterator[list[str]]:
    """Folders to be sent as Ray's `py_modules`.

    Not as a working directory: nodes that share a machine unpack that anew under a running driver's feet.
    """
    with tempfile.TemporaryDirectory() as staged:
        project, job = Path(staged, "bnnsearch"), Path(staged, SPACE_PACKAGE)
        shutil.copytree(Path(bnnsearch.__file__).parent, project, ignore=shutil.ignore_patterns("__pycache__"))
        job.mkdir()
        (job / SPACE_FILE).write_text(space_text, encoding="utf-8")
        yield [str(project), str(job)]
