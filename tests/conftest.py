"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # the processes that tests start find the fixtures
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"  # as in search/ray.py, but before a test module imports Ray first


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests share no pretraining with one another or with the user's own studies."""
    monkeypatch.setenv("BNNSEARCH_CACHE", str(tmp_path / "cache"))
