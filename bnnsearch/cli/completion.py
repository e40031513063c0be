"""`bnnsearch completion`: commands, options and files completed by the shell."""

from __future__ import annotations

import click

from bnnsearch.terminal.output import say


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what has SHELL complete commands, options and files of a `bnnsearch` on its path.

    Example: eval "$(bnnsearch completion bash)"
    """
    from click.shell_completion import get_completion_class

    found, program = get_completion_class(shell), context.find_root().command
    assert found is not None
    say(*found(program, {}, "bnnsearch", "_BNNSEARCH_COMPLETE").source().splitlines())
