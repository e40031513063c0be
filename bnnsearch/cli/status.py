"""`bnnsearch status`: where a search stands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder
from bnnsearch.terminal.output import say

if TYPE_CHECKING:
    from bnnsearch.folder import StudyFolder

WATCH_SECONDS = 2.0


@click.command()
@options.study
@options.runs
@click.option("--watch", is_flag=True, help="Say it again whenever something has happened, until the search ends.")
@options.as_json
def status(*, study: Path | None, runs: Path, watch: bool, as_json: bool) -> None:
    """Say where a search stands: STUDY is its folder, by default the newest.

    It runs (in which process, on which host), was stopped, has failed, or is done.

    Example: bnnsearch status --watch
    """
    from bnnsearch.cluster.placement import is_remote
    from bnnsearch.past import read_past
    from bnnsearch.terminal.ending import tell_status

    folder = find_study_folder(study, runs)
    if is_remote(folder):
        from bnnsearch.cluster.following import next_lines
        from bnnsearch.cluster.remote import status_on_cluster

        if watch:
            raise click.UsageError("--watch looks at searches on this machine; `resume` watches one on a cluster")
        past, found = read_past(folder), status_on_cluster(folder)
        tell_status(past, as_json=as_json, results=found.results, job=found.job)
        if not as_json:
            say(*next_lines(folder, found.job))
        return
    if watch:
        _watch(folder, as_json=as_json)
        return
    past = read_past(folder)
    say(*filter(None, [past.damage]), err=True)
    tell_status(past, as_json=as_json)


def _watch(folder: StudyFolder, *, as_json: bool) -> None:
    from bnnsearch.past import read_past
    from bnnsearch.study.state import Standing, read_state
    from bnnsearch.terminal.ending import tell_status

    told: tuple[str, int] | None = None
    while True:
        past = read_past(folder)
        state = read_state(folder, past.results)
        if told != (told := (str(state), len(past.results))):
            if not as_json:
                click.clear()  # of a terminal alone
            tell_status(past, as_json=as_json)
        if state.standing is not Standing.RUNNING:
            return
        time.sleep(WATCH_SECONDS)
