"""How long a packed network takes on this machine: one call at a time, pinned to its cores, in several rounds.

With one thread its own processor time counts, so that what else runs on the machine takes no time of the clock; with
several threads the clock does. Other work can still slow a round down, by the caches it shares, and never speeds one
up: the median of the fastest round is the result, and how much slower the round in the middle was is the spread.
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

    clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
    with _pinned(threads):
        for _ in range(WARM_UP_CALLS):
            model.logits(images, threads=threads)
        rounds = sorted(
            median_ms(lambda: model.logits(images, threads=threads), seconds=seconds / ROUNDS, clock=clock)
            for _ in range(ROUNDS)
        )
    return Latency(rounds[0], rounds[ROUNDS // 2] / rounds[0] - 1)


def median_ms(call: Callable[[], object], *, seconds: float, clock: Callable[[], int]) -> float:
    """Median milliseconds of `call`, made for `seconds` and at least five times; `clock` tells nanoseconds."""
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return float(np.median(times)) / 1e6


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
