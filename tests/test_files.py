"""Files that several processes write at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bnnsearch.files import write_first


def contents_seen(path: Path, start: Path) -> set[str]:
    """What each of eight processes reads that begin at once to write the file, each something of its own."""
    children = []
    for number in range(8):
        child = os.fork()
        if child == 0:
            while not start.exists():
                pass
            write_first(path, str(number).encode())
            path.with_name(f"seen{number}").write_text(path.read_text())
            os._exit(0)
        children.append(child)
    start.touch()
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    return {path.with_name(f"seen{number}").read_text() for number in range(8)}


def test_all_who_write_a_file_at_once_find_what_the_first_one_wrote(tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert len(contents_seen(folder / "file", folder / "start")) == 1
        assert not list(folder.glob(".*"))


def test_a_file_is_written_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_first(tmp_path / "file", b"content")
    write_first(tmp_path / "file", b"other")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
