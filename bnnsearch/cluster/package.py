"""What travels to a cluster with a search: this project, so that all nodes run the same of it, the space, guests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import bnnsearch
from bnnsearch.config.guests import Guest, write_files

SPACE_PACKAGE, SPACE_FILE = "bnnsearch_job", "space.yaml"


@contextmanager
def packaged(space_text: str, guests: Sequence[Guest] = ()) -> Iterator[list[str]]:
    """Folders to be sent as Ray's `py_modules`.

    Not as a working directory: nodes that share a machine unpack that anew under a running driver's feet.
    """
    with tempfile.TemporaryDirectory() as staged:
        project, job = Path(staged, "bnnsearch"), Path(staged, SPACE_PACKAGE)
        shutil.copytree(Path(bnnsearch.__file__).parent, project, ignore=shutil.ignore_patterns("__pycache__"))
        job.mkdir()
        write_files({SPACE_FILE: space_text.encode()}, job)
        modules = {project, job}
        for guest in guests:
            write_files(guest.files, job if guest.is_file else Path(staged))
            if not guest.is_file:
                modules |= {Path(staged, Path(name).parts[0]) for name in guest.files}
        yield sorted(map(str, modules))
