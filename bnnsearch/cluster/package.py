"""What travels to a cluster with a search: this project, so that all nodes run the same of it, the space, guests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import bnnsearch
from bnnsearch.config.families import FAMILIES
from bnnsearch.config.guests import Guest, write_files

SPACE_PACKAGE, SPACE_FILE = "bnnsearch_job", "space.yaml"
OFFERS = f"{SPACE_PACKAGE}-1.dist-info"
"""What packages of guests offer by name, where Python looks for it: there they are not installed."""


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
        packages = {guest.entry.partition(".")[0] for guest in guests if not guest.is_file}
        if offers := _offers(packages):
            told = {
                "METADATA": f"Metadata-Version: 2.1\nName: {SPACE_PACKAGE}\nVersion: 1\n",
                "entry_points.txt": offers,
            }
            write_files({f"{OFFERS}/{name}": text.encode() for name, text in told.items()}, Path(staged))
            modules.add(Path(staged, OFFERS))
        for guest in guests:
            write_files(guest.files, job if guest.is_file else Path(staged))
            if not guest.is_file:
                modules |= {Path(staged, Path(name).parts[0]) for name in guest.files}
        yield sorted(map(str, modules))


def _offers(packages: Collection[str]) -> str:
    """The entry points of the families that lie in `packages`, in the form of their file."""
    lines = []
    for group in (f"bnnsearch.{family.key}" for family in FAMILIES):
        found = [each for each in entry_points(group=group) if each.module.partition(".")[0] in packages]
        lines += [f"[{group}]", *(f"{each.name} = {each.value}" for each in found)] if found else []
    return "\n".join(lines)
