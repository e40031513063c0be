"""`bnnsearch down`: the end of a search's cluster."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder
from bnnsearch.terminal.output import say, write_event


@click.command()
@options.study
@options.runs
@options.as_json
def down(study: Path | None, runs: Path, as_json: bool) -> None:
    """End the cluster that a search runs on; the study stays in its storage.

    Example: bnnsearch down runs/cifar10_bnew/20260101-120000
    """
    from bnnsearch.cluster.launcher import LOG
    from bnnsearch.cluster.placement import Placement

    folder = find_study_folder(study, runs)
    told = Placement.of(folder).file().end(folder.path / LOG)
    if as_json:
        write_event("down", study=str(folder.path), told=told)
    else:
        say(told)
