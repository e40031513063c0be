"""`bnnsearch cluster`: clusters by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import InputError
from bnnsearch.invocation import command
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.cluster.launcher import LauncherFile

_FILE = click.argument("file", type=options.FILE)


@click.group()
def cluster() -> None:
    """Start, look at and end clusters by hand; `run --cluster FILE` does it by itself."""


@cluster.command()
@_FILE
def up(file: Path) -> None:
    """Start the cluster of FILE and leave it running.

    Example: bnnsearch cluster up aws-spot.yaml
    """
    from bnnsearch.cluster.launch import launch

    found = _launched_by_us(file)
    launch(found, _log(found))
    price = found.settings.usd_per_hour
    cost = f", and costs {price.head:.2f} USD per hour without workers" if price else ""
    say(f"cluster {found.name} runs{cost}; {_ending(file)}")


@cluster.command()
@_FILE
@options.as_json
def status(file: Path, as_json: bool) -> None:
    """Say whether the cluster of FILE runs.

    Example: bnnsearch cluster status aws-spot.yaml
    """
    from bnnsearch.cluster.launch import head_address

    found = _launched_by_us(file)
    head = head_address(found)
    if as_json:
        write_event("cluster", name=found.name, head=head)
        return
    say(f"cluster {found.name} " + ("does not run" if head is None else f"runs, its head at {head}; {_ending(file)}"))


@cluster.command()
@_FILE
def down(file: Path) -> None:
    """End the cluster of FILE.

    Example: bnnsearch cluster down aws-spot.yaml
    """
    found = _launched_by_us(file)
    say(found.end(_log(found)))


def _launched_by_us(path: Path) -> LauncherFile:
    from bnnsearch.cluster.files import load_cluster
    from bnnsearch.cluster.launcher import LauncherFile

    found = load_cluster(path)
    if not isinstance(found, LauncherFile):
        raise InputError(f"{path}: only a cluster that `ray up` starts is started and ended by hand, but it is none")
    return found


def _ending(file: Path) -> str:
    return f"end it with: {command('cluster', 'down', file)}"


def _log(found: LauncherFile) -> Path:
    return Path(f"{found.name}.log")
