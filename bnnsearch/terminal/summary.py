"""A network layer by layer, as a table on the terminal or as events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bnnsearch.errors import printable
from bnnsearch.packed.summary import Line
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.output import write_event
from bnnsearch.terminal.text import bytes_text, count_text


def show_summary(lines: Sequence[Line], *, what: str, as_json: bool) -> None:
    """Print a network: a line for each layer, and its sums."""
    weights, size = sum(line.weights for line in lines), sum(line.bytes for line in lines)
    macs = {
        kind: sum(line.macs for line in lines if line.arithmetic == kind) for kind in ("binary", "integer", "float32")
    }
    binary = sum(line.weights for line in lines if line.bits == 1)
    if as_json:
        for line in lines:
            write_event("layer", **asdict(line))
        write_event("summary", of=what, weights=weights, binary_weights=binary, bytes=size, macs=macs)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column(
        "layer", overflow="fold"
    )  # all others keep their widths: a name is read in pieces, a number is not
    table.add_column("kind", no_wrap=True)
    for title in ("output", "weights", "bits", "bytes", "MACs"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for line in lines:
        size_text = bytes_text(line.bytes) if line.bytes else ""
        numbers = ["x".join(map(str, line.shape)), _counted(line.weights), str(line.bits or ""), size_text]
        table.add_row(printable(line.name), line.kind, *numbers, _counted(line.macs), line.arithmetic)
    console = Console()
    console.print(table)
    share = binary / weights if weights else 0.0
    told = ", ".join(f"{count_text(count)} {kind}" for kind, count in macs.items() if count)
    sums = f"{_counted(weights)} weights, {share:.1%} of 1 bit; {bytes_text(size)}; MACs: {told}"
    print_lines(console, [f"{what}: {sums}"])


def _counted(count: int) -> str:
    return count_text(count) if count else ""
