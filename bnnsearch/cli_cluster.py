"""The commands for searches on clusters; `cli.py` adds them to its own."""

from __future__ import annotations

from pathlib import Path

import click

_STUDY = click.argument("study", type=click.Path(path_type=Path, file_okay=False), required=False)
_RUNS = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    envvar="BNNSEARCH_RUNS",
    help="Where studies are.",
)
_FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@_STUDY
@_RUNS
def logs(study: Path | None, runs: Path) -> int:
    """Print what a search on a cluster has said: STUDY is its folder here, by default the newest.

    Example: bnnsearch logs
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.logs(study, runs=runs)


@click.command()
@_STUDY
@_RUNS
def stop(study: Path | None, runs: Path) -> int:
    """Have a search on a cluster save and end; the cluster stays, `resume` goes on.

    Example: bnnsearch stop runs/cifar10_bnew/20260101-120000
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.stop(study, runs=runs)


@click.command()
@_STUDY
@_RUNS
def down(study: Path | None, runs: Path) -> int:
    """End the cluster that a search runs on; the study stays in its storage.

    Example: bnnsearch down runs/cifar10_bnew/20260101-120000
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.down(study, runs=runs)


@click.group()
def cluster() -> None:
    """Start, look at and end clusters by hand; `run --cluster FILE` does it by itself."""


@cluster.command("up")
@_FILE
def cluster_up(file: Path) -> int:
    """Start the cluster of FILE and leave it running.

    Example: bnnsearch cluster up aws-spot.yaml
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.cluster_up(file)


@cluster.command("status")
@_FILE
def cluster_status(file: Path) -> int:
    """Say whether the cluster of FILE runs.

    Example: bnnsearch cluster status aws-spot.yaml
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.cluster_status(file)


@cluster.command("down")
@_FILE
def cluster_down(file: Path) -> int:
    """End the cluster of FILE.

    Example: bnnsearch cluster down aws-spot.yaml
    """
    from bnnsearch.commands import cluster as on_cluster

    return on_cluster.cluster_down(file)


COMMANDS: tuple[click.Command, ...] = (logs, stop, down, cluster)
