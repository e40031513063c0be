"""Commands as they can be pasted into the shell that this process was started from."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

NAME = "bnnsearch"


def command(*words: str | int | os.PathLike[str]) -> str:
    """The line that calls `bnnsearch` with `words`, quoted, in the way in which it was called now.

    `uv run`, `uvx` and their options come first where it was started so; a `bnnsearch` that the shell would not find is
    named by its path.
    """
    return shlex.join([*_program(), *(str(word) for word in words)])


def _program() -> list[str]:
    arguments = sys.argv[1:]
    if (runner := _runner(len(arguments))) is not None:
        return runner
    beside = Path(sys.executable).parent
    found = shutil.which(NAME)
    if found is not None and Path(found).parent == beside:
        return [NAME]
    script = beside / NAME
    return [str(script)] if script.exists() else [sys.executable, "-m", NAME]


def _runner(arguments: int) -> list[str] | None:
    """What uv was called with before our own arguments; None where it was not uv that started us."""
    if "UV" not in os.environ:  # uv tells its children where it is; asking for the parent takes 20 ms
        return None
    import psutil

    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return None
    words = words[: len(words) - arguments]
    if len(words) < 3 or Path(words[0]).stem not in {"uv", "uvx"} or Path(words[-1]).name != NAME:
        return None
    tail = words[3:] if words[1:3] == ["tool", "uvx"] else words[1:]
    return ["uvx" if len(tail) < len(words) - 1 else "uv", *tail]
