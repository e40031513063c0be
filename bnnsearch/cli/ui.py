"""`bnnsearch ui`: MLflow's UI on a search."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options


@click.command()
@options.study
@options.runs
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
def ui(study: Path | None, runs: Path, host: str, port: int) -> None:
    """Open MLflow's UI on the store that holds the search.

    Example: bnnsearch ui --port 5001
    """
    from bnnsearch.folder import find_study_folder
    from bnnsearch.past import read_past

    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.ui import serve

    serve(study_store(read_past(folder).space.study, folder), host=host, port=port)
