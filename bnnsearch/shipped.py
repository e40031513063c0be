"""The space and cluster files that come with the package: beside it in a checkout, inside it where it is installed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from bnnsearch.errors import InputError
from bnnsearch.files import write_whole

FOLDERS = ("spaces", "clusters")


@dataclass(frozen=True, slots=True)
class Shipped:
    """One such file.

    Attributes:
        folder: `spaces` or `clusters`.
        name: of the file.
        text: its content.
    """

    folder: str
    name: str
    text: str

    @property
    def about(self) -> str:
        """What it is, in a sentence: its description, or the first of its comments."""
        if described := re.search(r"^description: (.*)$", self.text, re.MULTILINE):
            return described[1]
        return re.split(r"\.\s", " ".join(re.findall(r"^# +(.*)$", self.text, re.MULTILINE)), maxsplit=1)[0]


def folder(name: str) -> Traversable:
    """Where the files of one kind are."""
    inside = files("bnnsearch") / "shipped" / name
    return inside if inside.is_dir() else Path(str(files("bnnsearch"))).parent / name


def shipped() -> list[Shipped]:
    """All of them, by folder and name."""
    return [
        Shipped(kind, each.name, each.read_text(encoding="utf-8"))
        for kind in FOLDERS
        for each in sorted(folder(kind).iterdir(), key=lambda each: each.name)
        if each.name.endswith((".yaml", ".sbatch"))
    ]


def copy(name: str, out: Path | None) -> tuple[Shipped, Path]:
    """Copy one of them with its comments.

    Args:
        name: with or without its ending.
        out: the file to write; None is its own name, here.

    Returns:
        It, and where it is now.

    Raises:
        InputError: there is none of this name, or the file is there already.
        EnvironmentProblem: it cannot be written.
    """
    known = shipped()
    found = next((each for each in known if name in (each.name, each.name.rpartition(".")[0])), None)
    if found is None:
        raise InputError(f"there is no file {name}; there are: {', '.join(each.name for each in known)}")
    path = out or Path(found.name)
    if path.exists():
        raise InputError(f"{path}: is there already; name another file with -o")
    write_whole(path, found.text.encode())
    return found, path
