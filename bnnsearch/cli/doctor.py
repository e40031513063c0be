"""`bnnsearch doctor`: whether this machine has what searches need."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.errors import ENVIRONMENT, OK
from bnnsearch.terminal.output import say, write_event


@click.command()
@click.argument("space", type=options.FILE, required=False)
@options.runs
@click.option("--no-ray", is_flag=True, help="Do not start a Ray to see whether it starts.")
@options.as_json
def doctor(*, space: Path | None, runs: Path, no_ray: bool, as_json: bool) -> int:
    """Look at what searches need of this machine, and say what to do where something is missing.

    With a SPACE, also whether its data can be read and its MLflow store be written. Exits with 3 if something is wrong.

    Example: bnnsearch doctor spaces/digits_quickstart.yaml
    """
    from bnnsearch.study.health import examine

    wrong = 0
    for finding in examine(space, runs, ray=not no_ray):
        wrong += finding.ok is False
        if as_json:
            write_event("finding", name=finding.name, ok=finding.ok, found=finding.found, advice=finding.advice)
            continue
        mark = {True: "ok", False: "WRONG", None: "-"}[finding.ok]
        say(f"{mark:6} {finding.name:14} {finding.found}", *([f"       -> {finding.advice}"] if finding.advice else []))
    return ENVIRONMENT if wrong else OK
