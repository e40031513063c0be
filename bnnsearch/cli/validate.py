"""`bnnsearch validate`: is a space right, and what does it hold."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say, write_event


@click.command()
@options.space
@options.overrides
@options.as_json
def validate(space: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check SPACE and say what it holds; trains nothing.

    Example: bnnsearch validate spaces/digits_quickstart.yaml
    """
    from bnnsearch.space import load_space
    from bnnsearch.study.measured import check_measured

    loaded = load_space(space, overrides=overrides, begins=True)
    check_measured(loaded)
    if not as_json:
        say(*loaded.describe())
        return
    parameters = [
        {"name": each.name, "distribution": each.distribution.describe(), "where": dict(each.condition)}
        for each in loaded.trial.parameters()
    ]
    write_event(
        "valid", space=str(space), study=loaded.study.name, configurations=loaded.trial.size(), parameters=parameters,
        uses=[each.entry for each in loaded.guests], warnings=loaded.warnings,
    )  # fmt: skip
