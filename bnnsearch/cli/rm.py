"""`bnnsearch rm`: the end of a study."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.errors import InputError
from bnnsearch.folder import find_study_folder
from bnnsearch.invocation import command
from bnnsearch.terminal.output import say, write_event


@click.command()
@click.argument("study", type=options.FOLDER)
@options.runs
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-mlflow", is_flag=True, help="Leave its runs in MLflow.")
@options.as_json
def rm(*, study: Path, runs: Path, yes: bool, keep_mlflow: bool, as_json: bool) -> None:
    """Delete a study: its folder, and its runs and artifacts in MLflow. Asks first.

    What was exported, trained or registered elsewhere stays.

    Example: bnnsearch rm runs/digits_quickstart/20260101-120000
    """
    from bnnsearch.cluster.placement import is_remote
    from bnnsearch.past import read_past

    folder = find_study_folder(study, runs)
    if is_remote(folder):
        raise InputError(
            f"{study}: searches on a cluster; `{command('down', study)}` ends that, then delete the folder"
        )
    past = read_past(folder)
    if not yes and sys.stdin is None:
        raise InputError("there is nobody to ask; --yes deletes without asking")
    if not yes:
        where = "" if keep_mlflow else " and its runs in MLflow"
        click.confirm(f"delete {folder.path} with {len(past.results)} trials{where}?", abort=True, err=as_json)
    from bnnsearch.study.removal import remove_folder
    from bnnsearch.tracking.removal import remove_runs

    with remove_folder(folder):
        removed = None if keep_mlflow else remove_runs(past.space.study, folder)
    if as_json:
        write_event("removed", study=str(folder.path), runs=0 if removed is None else removed.runs)
        return
    say(f"{folder.path}: deleted")
    if removed is not None:
        say(removed.told)
