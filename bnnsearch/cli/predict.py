"""`bnnsearch predict`: classes of image files."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.errors import ENVIRONMENT, OK, DataError
from bnnsearch.terminal.output import say, write_event

SHOWN_SCORES = 3


@click.command()
@options.model
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@options.own_threads
@options.as_json
def predict(model: Path, images: tuple[Path, ...], threads: int, as_json: bool) -> int:
    """Print the class of each image file and its highest scores, by the packed MODEL.

    In the place of a folder all images below it are read. A file that cannot be read is said on standard error; the
    others follow, and the exit code is 3.

    Example: bnnsearch predict model.bnn digit.png
    """
    from bnnsearch.packed.model import PackedModel
    from bnnsearch.packed.predict import files_below, predict_files

    loaded, bad = PackedModel.load(model), []

    def unread(file: Path, error: DataError) -> None:
        bad.append(file)
        say(*error.lines, err=True)
        if as_json:
            write_event("unread", file=str(file), reason=str(error))

    for found in predict_files(loaded, files_below(images), threads=threads, unread=unread):
        if as_json:
            scores = [round(float(score), 6) for score in found.scores]
            sample = {} if found.sample is None else {"sample": found.sample}
            write_event("predicted", file=str(found.file), **sample, label=found.label, name=found.name, scores=scores)
            continue
        best = (-found.scores).argsort(kind="stable")[:SHOWN_SCORES]
        shown = ", ".join(f"{loaded.classes[label]} {found.scores[label]:.4f}" for label in best)
        place = "" if found.sample is None else f"[{found.sample}]"
        say(f"{found.file}{place}: {shown}")
    return ENVIRONMENT if bad else OK
