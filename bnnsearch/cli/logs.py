"""`bnnsearch logs`: what a search on a cluster has said."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder
from bnnsearch.terminal.output import say


@click.command()
@options.study
@options.runs
def logs(study: Path | None, runs: Path) -> None:
    """Print what a search on a cluster has said: STUDY is its folder here, by default the newest.

    Example: bnnsearch logs
    """
    from bnnsearch.cluster.remote import logs_on_cluster

    say(*logs_on_cluster(find_study_folder(study, runs)), whole=True)
