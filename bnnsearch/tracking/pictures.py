"""The report's pictures as PNGs, drawn with matplotlib without a screen."""

from __future__ import annotations

from pathlib import Path

from bnnsearch.tracking.view import StudyView


def write_pictures(view: StudyView, directory: Path) -> None:
    """Write the PNGs."""
