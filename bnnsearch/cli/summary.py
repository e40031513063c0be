"""`bnnsearch summary`: a network layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options


@click.command()
@click.argument("network", type=options.FILE)
@options.as_json
def summary(*, network: Path, as_json: bool) -> None:
    """Print NETWORK layer by layer: a configuration such as best.yaml, or a packed model.

    Of each layer: its output, its weights and their bits, its bytes, and its multiply-accumulates and their arithmetic.

    Example: bnnsearch summary best.yaml
    """
    from bnnsearch.terminal.summary import show_summary

    if network.suffix in (".yaml", ".yml", ".json"):
        from bnnsearch.deploy import layers
        from bnnsearch.export import load_trial

        lines = layers(load_trial(network)[0])
    else:
        from bnnsearch.packed.model import PackedModel
        from bnnsearch.packed.summary import packed_lines

        lines = packed_lines(PackedModel.load(network))
    show_summary(lines, what=str(network), as_json=as_json)
