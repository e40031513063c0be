"""`bnnsearch ui`: MLflow's UI on a search."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder


@click.command()
@options.study
@options.runs
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
def ui(study: Path | None, runs: Path, host: str, port: int) -> None:
    """Open MLflow's UI on the trials of the search, the best of the first objective on top.

    What matters of them has columns and charts. The view is kept in the experiment, and its link can be shared.

    Example: bnnsearch ui --port 5001
    """
    from bnnsearch.past import read_past

    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.preset import view_of
    from bnnsearch.tracking.ui import serve

    past = read_past(folder)
    settings = past.space.study
    view = view_of(folder.search_id, settings, past.results)
    serve(study_store(settings, folder), host=host, port=port, view=view)
