"""How long a packed network takes on this machine: one call at a time, pinned to its cores, in several rounds.

The median of single calls is what counts: a call is much shorter than the time slices in which a busy machine
interrupts it, so few calls are hit. Other work can slow whole rounds down and never speeds one up, so the fastest round
is the result, and how far the others are from it is the spread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bnnsearch.packed.model import PackedModel

WARM_UP_CALLS = 10
ROUNDS = 7
FEWEST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one call.

    Attributes:
        median_ms: median of all calls in the fastest round, milliseconds.
        spread: how much slower the round in the middle was, as a share of it.
    """

    median_ms: float
    spread: float


def measure_latency(model: PackedModel, *, batch: int = 1, threads: int = 1, seconds: float = 0.5) -> Latency:
    """Measure `model.logits` on `batch` random images.

    Args:
        model: the network.
        batch: images per call.
        threads: threads of a call, which is pinned to as many cores where the system allows it.
        seconds: time to measure for, after some calls to warm up; each of seven rounds makes at least five calls.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, *model.shape), dtype=np.uint8)

    def call() -> int:
        start = time.perf_counter_ns()
        model.logits(images, threads=threads)
        return time.perf_counter_ns() - start

    with _pinned(threads):
        for _ in range(WARM_UP_CALLS):
            call()
        medians = sorted(_round(call, seconds / ROUNDS) for _ in range(ROUNDS))
    return Latency(medians[0] / 1e6, medians[ROUNDS // 2] / medians[0] - 1)


def _round(call: Callable[[], int], seconds: float) -> float:
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < end:
        times.append(call())
    return float(np.median(times))


@contextmanager
def _pinned(cores: int) -> Iterator[None]:
    """Keep this thread, and those it starts, on `cores` cores; processes side by side choose different ones."""
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        yield
        return
    allowed = os.sched_getaffinity(0)
    ranked = sorted(allowed)
    first = os.getpid() % len(ranked)
    chosen = {ranked[(first + place) % len(ranked)] for place in range(cores)}
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
