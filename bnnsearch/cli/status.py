"""`bnnsearch status`: where a search stands."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say


@click.command()
@options.study
@options.runs
@options.as_json
def status(study: Path | None, runs: Path, as_json: bool) -> None:
    """Say where a search stands: STUDY is its folder, by default the newest.

    Example: bnnsearch status
    """
    from bnnsearch.cluster.placement import is_remote
    from bnnsearch.folder import find_study_folder
    from bnnsearch.past import read_past
    from bnnsearch.terminal.ending import tell_status

    folder = find_study_folder(study, runs)
    past = read_past(folder)
    if is_remote(folder):
        from bnnsearch.cluster.following import next_lines
        from bnnsearch.cluster.remote import status_on_cluster

        found = status_on_cluster(folder)
        tell_status(folder, past.space.study, found.results, as_json=as_json, job=found.job)
        if not as_json:
            say(*next_lines(folder, found.job))
        return
    say(*filter(None, [past.damage]), err=True)
    tell_status(folder, past.space.study, past.results, as_json=as_json)
