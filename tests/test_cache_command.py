"""`bnnsearch cache`, as a shell sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bnnsearch.cli import main


def test_the_cache_is_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNSEARCH_CACHE", str(tmp_path))
    for name, size in (("pretrain/abc.pt", 1500), ("teachers/def.pt", 500)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x" * size)

    listed = CliRunner().invoke(main, ["cache"])
    assert listed.exit_code == 0
    lines = listed.stdout.splitlines()
    assert {tuple(line.split()[2:]) for line in lines[:-1]} == {
        ("1.5", "kB", "pretrain", "abc"),
        ("500", "B", "teachers", "def"),
    }
    assert lines[-1] == f"{tmp_path}: 2 states, 2 kB"

    cleared = CliRunner().invoke(main, ["cache", "--clear"])
    assert cleared.stdout.strip() == f"{tmp_path}: deleted 2 states, 2 kB"
    assert not list(tmp_path.rglob("*.pt"))
    assert CliRunner().invoke(main, ["cache"]).stdout.strip() == f"{tmp_path}: 0 states, 0 B"
