"""Randomness and kernels of a stretch of training, decided by a seed and restored afterwards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *path: int | str) -> int:
    """A seed in [0, 2^63) that depends on `seed` and on every part of `path`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *path))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def reproducible(seed: int, *, device: torch.device, deterministic: bool = True) -> Iterator[None]:
    """Seed torch's generators and, with `deterministic`, allow only kernels that repeat bit for bit.

    On leaving, generators and settings are as they were.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(deterministic)
        # filling finds bugs, at the price of one more write of every tensor
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
