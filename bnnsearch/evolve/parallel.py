"""Threads for kernels that release the interpreter lock: as many as torch uses, so that one setting holds for all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Threads:
    """Runs one function on several argument lists side by side; the calling thread takes the first.

    Args:
        count: threads, the calling one included; None is torch's number.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = torch.get_num_threads() if count is None else count
        self._pool = ThreadPoolExecutor(self.count - 1, "evolve") if self.count > 1 else None

    def run(self, function: Callable[..., T], shares: Iterable[tuple[Any, ...]]) -> list[T]:
        """`function(*share)` for every share, in order; one share per thread is best."""
        first, *others = shares
        if self._pool is None:
            return [function(*share) for share in (first, *others)]
        futures = [self._pool.submit(function, *share) for share in others]
        return [function(*first), *(future.result() for future in futures)]

    def spans(self, length: int, multiple: int = 1) -> list[tuple[int, int]]:
        """Cut range(length) into one span per thread, at multiples of `multiple`; late ones may be empty."""
        pieces = -(-length // multiple)
        cuts = [min(length, multiple * (pieces * k // self.count)) for k in range(self.count)] + [length]
        return list(pairwise(cuts))
