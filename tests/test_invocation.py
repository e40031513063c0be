"""Commands that are printed can be pasted: they begin as the shell began this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnnsearch.invocation import command

ROOT = Path(__file__).parents[1]
BESIDE = Path(sys.executable).parent


def printed(words: list[str], tmp_path: Path, **environment: str) -> str:
    """The command in what `report` says where there is no study."""
    ran = subprocess.run(
        [*words, "report", "--runs", str(tmp_path)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2, ran.stderr
    return ran.stderr.split("`")[1]


def test_arguments_are_quoted() -> None:
    assert command("resume", Path("runs/a b"), "$HOME") == "bnnsearch resume 'runs/a b' '$HOME'"


@pytest.mark.parametrize("words", [[str(BESIDE / "bnnsearch")], [sys.executable, "-m", "bnnsearch"]])
def test_a_command_that_the_shell_does_not_find_is_named_by_its_path(words: list[str], tmp_path: Path) -> None:
    assert printed(words, tmp_path, PATH=os.defpath) == f"{BESIDE / 'bnnsearch'} run SPACE"
    assert printed(words, tmp_path, PATH=f"{BESIDE}{os.pathsep}{os.defpath}") == "bnnsearch run SPACE"


@pytest.mark.skipif(shutil.which("uv") is None, reason="takes uv")
def test_under_uv_run_it_begins_with_uv_run_and_its_options(tmp_path: Path) -> None:
    words = ["uv", "run", "--no-sync", "bnnsearch"]
    assert printed(words, tmp_path) == "uv run --no-sync bnnsearch run SPACE"
