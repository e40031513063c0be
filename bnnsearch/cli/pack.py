"""`bnnsearch pack`: one bit per weight, and the C of it for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say, write_event


@click.command()
@click.argument("run", type=click.Path(path_type=Path), default=Path("trained"))
@options.output("model.bnn", "The file to write.")
@click.option(
    "--edges", type=click.Choice(["float32", "int8"]), default="float32", show_default=True,
    help="How the real layers, the first and the last, are stored.",
)  # fmt: skip
@click.option("--c", "folder", type=options.FOLDER, metavar="DIR", help="Also write it as C99 for a device.")
@click.option(
    "--wasm", "page", type=click.Path(path_type=Path), metavar="PAGE",
    help="Also write it as an .html page that classifies drawings and images in a browser, offline.",
)  # fmt: skip
@click.option("--prefix", default="model", show_default=True, help="What the C's names begin with.")
@click.option("--integer", is_flag=True, help="Refuse C that would need floating point.")
@click.option("--multiply-free", is_flag=True, help="C for a processor without a multiplier; implies --integer.")
@options.threads
@options.as_json
def pack(
    *,
    run: Path,
    out: Path,
    edges: Literal["float32", "int8"],
    folder: Path | None,
    page: Path | None,
    prefix: str,
    integer: bool,
    multiply_free: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Pack the network of a finished `train` folder to one bit per weight, and check it image by image. With --c
    or --wasm, RUN may be a packed model.

    Example: bnnsearch pack trained -o model.bnn --c model_c
    """
    if run.is_file():
        if folder is None and page is None:
            raise click.UsageError(f"{run} is a file: a packed model can only be written as C, by --c or --wasm")
    else:
        _pack_run(run, out, edges=edges, threads=threads, as_json=as_json)
    model = run if run.is_file() else out
    if folder is not None:
        _write_c(model, folder, prefix=prefix, integer=integer, multiply_free=multiply_free, as_json=as_json)
    if page is not None:
        _write_page(model, page, as_json=as_json)


def _pack_run(run: Path, out: Path, *, edges: Literal["float32", "int8"], threads: int | None, as_json: bool) -> None:
    from bnnsearch.deploy import pack_run

    options.set_threads(threads)
    packed = pack_run(run, out, edges=edges)
    if as_json:
        scaling = None if packed.scaling is None else packed.scaling.model_dump(mode="json")
        write_event(
            "packed", file=str(out), bytes=packed.bytes, checked=packed.checked, rounded=packed.rounded, scaling=scaling
        )
        return
    told = f"; same labels as the trained network on {packed.checked} validation images" if packed.checked else ""
    if packed.rounded:
        told += f", but for {packed.rounded} where the rounding of float32 decides"
    say(f"wrote {out}: {packed.bytes} bytes{told}")
    if packed.scaling is not None:
        say(f"its {packed.scaling.described()}")


def _write_c(model: Path, folder: Path, *, prefix: str, integer: bool, multiply_free: bool, as_json: bool) -> None:
    from bnnsearch.device.project import table_bytes, write_project
    from bnnsearch.packed.model import PackedModel

    loaded = PackedModel.load(model)
    program = write_project(loaded, folder, prefix=prefix, integer=integer, multiply_free=multiply_free)
    arena, tables = program.arena_bytes, table_bytes(program)
    if as_json:
        write_event("device", folder=str(folder), arena_bytes=arena, table_bytes=tables, real=program.real)
        return
    kind = f"in floating point ({program.real})" if program.real else "in integers"
    say(f"wrote {folder}: {arena} bytes of arena, {tables} of tables, {kind}; `make -C {folder} test` runs it here")


def _write_page(model: Path, path: Path, *, as_json: bool) -> None:
    from bnnsearch.device.page import write_page
    from bnnsearch.packed.model import PackedModel

    file, size = write_page(PackedModel.load(model), path)
    if as_json:
        write_event("page", file=str(file), wasm_bytes=size)
        return
    say(f"wrote {file}: {size} bytes of WebAssembly; open it in a browser, or send it to somebody")
