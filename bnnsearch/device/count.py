"""How often the functions of `native/device` run in one prediction and their loops turn, which its time is made of."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from bnnsearch.device.program import Stage, Window


def counts(stages: tuple[Stage, ...]) -> dict[str, float]:
    """Calls of each function by its name, and turns of its loop by `NAME taps`; `dot` has rows, words and octets.

    Windows at the edges of a map count as far as they lie inside. Below a pool or a convolution, the mean over the map
    stands for those that are asked for.
    """
    found: dict[str, float] = defaultdict(float)

    def ask(stage: Stage, times: float) -> None:
        name = stage.source
        found[name] += times
        rows, columns = (_inside(stage.window, axis, stage.shape[1 + axis]) for axis in (0, 1))
        channels, below = stage.window.shape.channels, 1.0
        if name == "dot":
            octets = -(-channels // 8) * columns
            turns = {"rows": 1.0, "words": (octets // 4).mean(), "octets": (octets % 4).mean()}
            for kind, turn in turns.items():
                found[f"dot {kind}"] += times * rows.mean() * turn
        elif name.startswith(("convolve", "largest", "total", "mean")):
            below = rows.mean() * columns.mean() * (channels if name.startswith("convolve") else 1)
            found[f"{name} taps"] += times * below
        if stage.inner is not None and name != "convolve_pixels":
            ask(stage.inner, times * below)
        if isinstance(stage.weights, tuple):
            for part in stage.weights:
                if part.of is not None:
                    ask(part.of, times * part.count / stage.shape.channels)

    for stage in stages:
        size = stage.shape.height * stage.shape.width * stage.shape.channels
        found["run"] += size
        ask(stage, size)
        for step in stage.steps:
            found[step.take] += size
            if isinstance(step.a, Stage):
                ask(step.a, size)
    return found


def _inside(window: Window, axis: int, places: int) -> NDArray[np.int64]:
    """How many rows, or columns, of the window lie inside the map, at each of its places."""
    begin = np.arange(places) * window.stride[axis] - window.padding[axis]
    end = np.minimum(begin + window.kernel[axis], window.shape[1 + axis])
    return np.asarray(end - np.maximum(begin, 0))
