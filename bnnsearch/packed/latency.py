"""How long a packed network takes on this machine: one call at a time, pinned to its cores, in several rounds.

With one thread its own processor time counts, so that what else runs on the machine takes no time of the clock; with
several threads the clock does. Other work can still slow a round down, by the caches it shares, and never speeds one
up: the median of the fastest round is the result, and how much slower the round in the middle was is the spread.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnnsearch.packed.model import PackedModel

WARM_UP_CALLS = 10
ROUNDS = 7
FEWEST_CALLS = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Time of one call.

    Attributes:
        median_ms: median of all calls in the fastest round, milliseconds.
        p90_ms, p99_ms: what nine, and ninety-nine, of a hundred calls in all rounds took at most.
        spread: how much slower the round in the middle was, as a share of it.
    """

    median_ms: float
    p90_ms: float
    p99_ms: float
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
        rounds = [
            times_ms(lambda: model.logits(images, threads=threads), seconds=seconds / ROUNDS, clock=clock)
            for _ in range(ROUNDS)
        ]
    medians = sorted(float(np.median(times)) for times in rounds)
    p90, p99 = np.percentile(np.concatenate(rounds), [90, 99])
    return Latency(medians[0], float(p90), float(p99), medians[ROUNDS // 2] / medians[0] - 1)


def median_ms(call: Callable[[], object], *, seconds: float, clock: Callable[[], int]) -> float:
    """Median milliseconds of `call`; see `times_ms`."""
    return float(np.median(times_ms(call, seconds=seconds, clock=clock)))


def times_ms(call: Callable[[], object], *, seconds: float, clock: Callable[[], int]) -> NDArray[np.float64]:
    """Milliseconds of each `call`, made for `seconds` and at least five times; `clock` tells nanoseconds."""
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return np.array(times) / 1e6


def processor() -> str:
    """The processor's name, as Linux knows it; elsewhere its kind."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
