"""What studies have left for one another: pretrained networks and teachers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bnnsearch.files import lock


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One state in the cache.

    Attributes:
        path: its file.
        kind: `pretrain` or `teachers`.
        size: bytes.
        written: when.
    """

    path: Path
    kind: str
    size: int
    written: datetime


def cache_entries(cache: Path) -> list[CacheEntry]:
    """All states in the cache, the newest first."""
    entries = [
        CacheEntry(path, path.parent.name, path.stat().st_size, datetime.fromtimestamp(path.stat().st_mtime, UTC))
        for path in (*cache.glob("*/*.pt"), *cache.glob("*/*.unfinished"))
    ]
    return sorted(entries, key=lambda entry: entry.written, reverse=True)


def clear_cache(cache: Path) -> list[CacheEntry]:
    """Delete every state that nobody is reading or computing; what was deleted."""
    deleted = []
    for entry in cache_entries(cache):
        with entry.path.with_suffix(".lock").open("a") as file:
            try:
                lock(file, wait=0)
            except BlockingIOError:
                continue
            entry.path.unlink()
            deleted.append(entry)
    return deleted
