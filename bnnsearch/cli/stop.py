"""`bnnsearch stop`: the end of a search on a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder
from bnnsearch.invocation import command
from bnnsearch.terminal.output import say, write_event


@click.command()
@options.study
@options.runs
@options.as_json
def stop(study: Path | None, runs: Path, as_json: bool) -> None:
    """Have a search on a cluster save and end; the cluster stays, `resume` goes on.

    Example: bnnsearch stop runs/cifar10_bnew/20260101-120000
    """
    from bnnsearch.cluster.backend import JobState
    from bnnsearch.cluster.placement import Placement
    from bnnsearch.cluster.remote import stop_on_cluster

    folder = find_study_folder(study, runs)
    state = stop_on_cluster(folder)
    if as_json:
        write_event("stopping", study=str(folder.path), job=state)
        return
    going = state in (JobState.QUEUED, JobState.RUNNING)
    say(f"{folder.path}: {'it saves and ends' if going else f'it does not run there ({state})'}")
    say(f"to go on with it: {command('resume', folder.path)}", *Placement.of(folder).file().cost_lines(folder))
