"""`bnnsearch init`: files to start from."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.invocation import command
from bnnsearch.shipped import copy, shipped
from bnnsearch.terminal.output import say, write_event


def _names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    return [each.name for each in shipped() if each.name.startswith(incomplete)]


@click.command()
@click.argument("name", required=False, shell_complete=_names)
@options.output(None, "The file to write [default: its own name, here].")
@options.as_json
def init(name: str | None, out: Path | None, as_json: bool) -> None:
    """Copy a space or cluster file to start from, with its comments; without NAME, list them.

    Example: bnnsearch init digits_quickstart
    """
    if name is not None:
        found, path = copy(name, out)
        following = ("run", str(path)) if found.folder == "spaces" else ("run", "SPACE", "--cluster", str(path))
        if as_json:
            write_event("copied", name=found.name, folder=found.folder, file=str(path))
        else:
            say(f"wrote {path}; next:", f"  {command(*following)}")
        return
    known = shipped()
    width = max(len(each.name) for each in known)
    for each in known:
        if as_json:
            write_event("shipped", name=each.name, folder=each.folder, about=each.about)
        else:
            say(f"{each.folder:8}  {each.name:{width}}  {each.about}")
