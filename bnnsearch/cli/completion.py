"""`bnnsearch completion`: commands, options and files completed by the shell."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import get_completion_class

from bnnsearch.terminal.output import say

PLACES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/completions/bnnsearch.fish"}
"""Below the home folder: what each shell reads when it starts."""

BEGINNING, END = "# >>> bnnsearch completion", "# <<< bnnsearch completion"


@click.command()
@click.argument("shell", type=click.Choice(list(PLACES)))
@click.option("--install", is_flag=True, help="Write it into what SHELL reads when it starts, once.")
@click.pass_context
def completion(context: click.Context, shell: str, *, install: bool) -> None:
    """Print what has SHELL complete commands, options and files of a `bnnsearch` on its path.

    Example: bnnsearch completion bash --install
    """
    found, program = get_completion_class(shell), context.find_root().command
    assert found is not None
    source = found(program, {}, "bnnsearch", "_BNNSEARCH_COMPLETE").source().strip()
    if not install:
        say(*source.splitlines(), whole=True)
        return
    place = Path.home() / PLACES[shell]
    _put(place, source)
    say(f"{place}: completes `bnnsearch` in every new {shell}")


def _put(place: Path, source: str) -> None:
    """Write the block into the file, in the place of an earlier one; the rest of the file stays as it is."""
    before = place.read_text(encoding="utf-8") if place.exists() else ""
    head, mark, rest = before.partition(f"{BEGINNING}\n")
    tail = rest.partition(f"{END}\n")[2] if mark else ""
    gap = "\n" if head and not head.endswith("\n") else ""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{head}{gap}{BEGINNING}\n{source}\n{END}\n{tail}", encoding="utf-8")
