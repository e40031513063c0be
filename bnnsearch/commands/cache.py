"""Listing and clearing what studies share."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from bnnsearch.commands.following import OK
from bnnsearch.folder import cache_folder
from bnnsearch.study.cache import CacheEntry, cache_entries, clear_cache
from bnnsearch.terminal.ending import print_lines
from bnnsearch.terminal.text import metric_text


def show() -> int:
    """Say what the cache holds, the newest first."""
    entries = cache_entries(cache_folder())
    lines = [
        f"{entry.written.astimezone():%Y-%m-%d %H:%M}  {_size([entry]):>8}  {entry.kind:8}  {entry.path.stem}"
        for entry in entries
    ]
    print_lines(Console(), [*lines, f"{cache_folder()}: {len(entries)} states, {_size(entries)}"])
    return OK


def clear() -> int:
    """Delete what the cache holds, but for what a trial is reading or computing."""
    deleted = clear_cache(cache_folder())
    left = cache_entries(cache_folder())
    in_use = f"; {len(left)} are in use and stay" if left else ""
    print_lines(Console(), [f"{cache_folder()}: deleted {len(deleted)} states, {_size(deleted)}{in_use}"])
    return OK


def _size(entries: Sequence[CacheEntry]) -> str:
    return f"{metric_text('bytes', sum(entry.size for entry in entries))}B"
