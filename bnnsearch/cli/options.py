"""Options and arguments of several commands: each is defined once, so that it means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
AT_LEAST_ONE = click.IntRange(min=1)

space = click.argument("space", type=FILE)
study = click.argument("study", type=FOLDER, required=False)
model = click.argument("model", type=FILE)

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
overrides = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the space file."
)
runs = click.option(
    "--runs", type=FOLDER, default=Path("runs"), show_default=True, envvar="BNNSEARCH_RUNS", help="Where studies are."
)
executor = click.option(
    "--executor", type=click.Choice(["auto", "ray", "local"]), default="auto", show_default=True,
    help="Ray Tune on this machine, or one trial after another in this process; auto is that for a small search.",
)  # fmt: skip
cluster = click.option(
    "--cluster", type=FILE, metavar="FILE",
    help="Search on a cluster: its file here, in clusters/ or among those of `init`, such as aws-spot.yaml.",
)  # fmt: skip
seed = click.option("--seed", type=click.IntRange(min=0), help="Seed of all that is random [default: the file's].")
device = click.option("--device", help="torch device [default: cuda where there is one, else cpu].")
threads = click.option("--threads", type=AT_LEAST_ONE, help="Threads to compute with [default: one per core].")
own_threads = click.option(
    "--threads", type=AT_LEAST_ONE, default=1, show_default=True, help="Threads to compute with."
)
register = click.option("--register", metavar="NAME", help="Name of the registered model [default: the study's].")


def output(default: str | None, text: str, *, kind: click.Path = FILE) -> Decorator:
    """Where the result is written, `--output`."""
    return click.option(
        "-o", "--output", "--out", "out", type=kind, default=default and Path(default), show_default=bool(default),
        help=text,
    )  # fmt: skip


def alias(default: str) -> Decorator:
    """What the registered version is called."""
    return click.option("--alias", default=default, show_default=True, help="The new version's alias.")


def set_threads(count: int | None) -> None:
    """Have torch compute with `count` threads; None leaves it as it is."""
    if count is not None:
        import torch

        torch.set_num_threads(count)
