"""`bnnsearch schema`: what editors complete spaces by."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.files import write_whole
from bnnsearch.terminal.output import say


@click.command()
@click.argument("space", type=options.FILE, required=False)
@options.output(None, "The file to write [default: standard output].")
def schema(space: Path | None, out: Path | None) -> None:
    """Print the JSON Schema of space files, for editors; with the guests that SPACE uses, where it is given.

    Example: bnnsearch schema -o schema.json
    """
    from bnnsearch.schema import space_schema
    from bnnsearch.space import use_guests

    if space is not None:
        use_guests(space)
    text = json.dumps(space_schema(), indent=2)
    if out is not None:
        write_whole(out, f"{text}\n".encode())
        say(f"wrote {out}")
    else:
        say(*text.splitlines(), whole=True)
