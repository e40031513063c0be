"""`bnnsearch cache`: what studies share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.folder import cache_folder
from bnnsearch.study.cache import cache_entries, clear_cache
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.study.cache import CacheEntry


@click.command()
@click.option("--clear", is_flag=True, help="Delete all of it but what is in use.")
@options.as_json
def cache(*, clear: bool, as_json: bool) -> None:
    """List what studies have left for one another: pretrained networks and teachers.

    It lies in $BNNSEARCH_CACHE, else in ~/.cache/bnnsearch.

    Example: bnnsearch cache --clear
    """
    folder = cache_folder()
    deleted, kept = clear_cache(folder) if clear else [], cache_entries(folder)
    if as_json:
        for happened, entries in (("deleted", deleted), ("cached", kept)):
            for each in entries:
                written = each.written.isoformat()
                write_event(happened, file=str(each.path), kind=each.kind, bytes=each.size, written=written)
    elif clear:
        in_use = f"; {len(kept)} are in use and stay" if kept else ""
        say(f"{folder}: deleted {len(deleted)} states, {_size(deleted)}{in_use}")
    else:
        for each in kept:
            say(f"{each.written.astimezone():%Y-%m-%d %H:%M}  {_size([each]):>8}  {each.kind:8}  {each.path.stem}")
        say(f"{folder}: {len(kept)} states, {_size(kept)}")


def _size(entries: Sequence[CacheEntry]) -> str:
    from bnnsearch.terminal.text import bytes_text

    return bytes_text(sum(entry.size for entry in entries))
