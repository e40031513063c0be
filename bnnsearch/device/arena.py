"""Where the values lie: places in one arena, as small as a few orders of placing them find.

A value is alive from the stage that writes it to the last that reads it. What a stage writes may lie over the beginning
of what it reads for the last time, as far as the rows of a window leave it behind: pixel by pixel, in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from bnnsearch.device.program import Stage, Stored

FEW = 6
Starts = dict[str, int]


def place(stages: Sequence[Stage], stored: Mapping[str, Stored], output: str) -> Starts:
    """The first byte of every value."""
    made: dict[str, int] = {}
    last: dict[str, int] = {output: len(stages)}
    for number, stage in enumerate(stages):
        made.update(dict.fromkeys(stage.writes, number))
        last.update(dict.fromkeys(stage.reads, number) | {name: number for name in stage.writes if name not in last})
    last[output] = len(stages)
    ahead = _ahead(stages, stored, last)

    def apart(first: str, second: str) -> bool:
        return last[first] < made[second] or last[second] < made[first]

    names = sorted(made, key=lambda name: made[name])
    orders = permutations(names) if len(names) <= FEW else iter(_some_orders(names, stored))
    best: tuple[int, Starts] | None = None
    for order in orders:
        places = _Places(stored, ahead)
        for name in order:
            places.add(name, [other for other in places.starts if not apart(name, other)])
        size = max(places.starts[name] + stored[name].bytes for name in names)
        if best is None or size < best[0]:
            best = size, places.starts
    assert best is not None
    return best[1]


def _some_orders(names: Sequence[str], stored: Mapping[str, Stored]) -> list[list[str]]:
    by_size = sorted(names, key=lambda name: -stored[name].bytes)
    return [list(names), list(names[::-1]), by_size]


@dataclass
class _Places:
    """Values placed one after another; `ahead` as `_ahead` gives it."""

    stored: Mapping[str, Stored]
    ahead: Mapping[tuple[str, str], int]
    starts: Starts = field(default_factory=dict)

    def add(self, name: str, others: Sequence[str]) -> None:
        """Place `name` as low as it disturbs none of `others`, which are alive at the same time."""
        step, tried = self.stored[name].alignment, {0}
        for other in others:
            start = self.starts[other]
            tried.add(start + self.stored[other].bytes)
            if (name, other) in self.ahead:  # it is written over the other
                tried.add(max(0, start - self.ahead[name, other]) // step * step)
            if (other, name) in self.ahead:
                tried.add(start + self.ahead[other, name])
        for start in sorted(-(-start // step) * step for start in tried):
            if all(self._fits(name, start, other) for other in others):
                self.starts[name] = start
                return
        raise AssertionError("after all others there is room")

    def _fits(self, name: str, start: int, other: str) -> bool:
        place = self.starts[other]
        if start + self.stored[name].bytes <= place or place + self.stored[other].bytes <= start:
            return True
        if (name, other) in self.ahead and start + self.ahead[name, other] <= place:
            return True
        return (other, name) in self.ahead and place + self.ahead[other, name] <= start


def _ahead(
    stages: Sequence[Stage], stored: Mapping[str, Stored], last: Mapping[str, int]
) -> dict[tuple[str, str], int]:
    """By (written, read) by how many bytes the one must begin before the other, where they may overlap at all."""
    found: dict[tuple[str, str], int] = {}
    for number, stage in enumerate(stages):
        beside = {name for other in stage.others() if other is not stage.inner for name in other.reads}
        needed = _first_needed(stage)
        if needed is None:
            continue
        name, pixels = needed
        if last[name] != number or name in beside:
            continue
        reading = np.minimum.accumulate(pixels[::-1])[::-1] * stored[name].pixel_bytes
        for written in stage.writes:
            end = (np.arange(len(reading)) + 1) * stored[written].pixel_bytes
            found[written, name] = max(0, int((end - reading).max()))
    return found


def _first_needed(stage: Stage) -> tuple[str, NDArray[np.int64]] | None:
    """The one value that a stage reads through windows, and its first pixel that each pixel of the result needs."""
    rows, columns = np.mgrid[: stage.shape.height, : stage.shape.width].reshape(2, -1)
    reader: Stage | None = stage
    while reader is not None:
        if reader.source in ("flattened", "concatenated"):
            return None
        window = reader.window
        rows = np.clip(rows * window.stride[0] - window.padding[0], 0, window.shape.height - 1)
        columns = np.clip(columns * window.stride[1] - window.padding[1], 0, window.shape.width - 1)
        if reader.map is not None:
            return reader.map, rows * window.shape.width + columns
        reader = reader.inner
    return None
