"""What holds for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share no pretraining with one another or with the user's own studies."""
    monkeypatch.setenv("BNNSEARCH_CACHE", str(tmp_path / "cache"))
