"""`bnnsearch bench`: how long a packed network takes."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say, write_event


@click.command()
@options.model
@click.option("--batch", type=options.AT_LEAST_ONE, default=1, show_default=True, help="Images per call.")
@options.own_threads
@options.as_json
def bench(model: Path, batch: int, threads: int, as_json: bool) -> None:
    """Measure how long the packed MODEL takes on this machine.

    Example: bnnsearch bench model.bnn --batch 64
    """
    from bnnsearch.packed.latency import measure_latency
    from bnnsearch.packed.model import PackedModel

    latency = measure_latency(PackedModel.load(model), batch=batch, threads=threads)
    if as_json:
        write_event("latency", model=str(model), batch=batch, threads=threads,
                    median_ms=latency.median_ms, spread=latency.spread)  # fmt: skip
        return
    told = f"{latency.median_ms:.4f} ms per call of {batch} images on {threads} threads"
    say(f"{told}, spread {latency.spread:.0%} between rounds")
