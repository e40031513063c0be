"""`bnnsearch pack`: one bit per weight."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say, write_event


@click.command()
@click.argument("run", type=options.FOLDER, default=Path("trained"))
@options.output("model.bnn", "The file to write.")
@click.option(
    "--edges", type=click.Choice(["float32", "int8"]), default="float32", show_default=True,
    help="How the real layers, the first and the last, are stored.",
)  # fmt: skip
@options.threads
@options.as_json
def pack(run: Path, out: Path, edges: Literal["float32", "int8"], threads: int | None, as_json: bool) -> None:
    """Pack the network of a finished `train` folder to one bit per weight, and check it image by image.

    Example: bnnsearch pack trained -o model.bnn
    """
    from bnnsearch.deploy import pack_run

    options.set_threads(threads)
    packed = pack_run(run, out, edges=edges)
    if as_json:
        write_event("packed", file=str(out), bytes=packed.bytes, checked=packed.checked)
        return
    told = f"; same labels as the trained network on {packed.checked} validation images" if packed.checked else ""
    say(f"wrote {out}: {packed.bytes} bytes{told}")
