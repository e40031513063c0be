"""Randomness and kernels of a stretch of training, decided by a seed and restored afterwards."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def derived_seed(seed: int, *path: int | str) -> int:
    """A seed in [0, 2^63) that depends on `seed` and on every part of `path`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *path))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def compiled(function: Callable[..., Any], *, deterministic: bool) -> Callable[..., Any]:
    """The function as torch compiles it, with kernels that repeat bit for bit where they are to."""
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(deterministic)  # the compiler keeps this; `reproducible` does not tell it
    torch.set_deterministic_debug_mode(before)
    return torch.compile(function)


@contextmanager
def reproducible(seed: int, *, device: torch.device, deterministic: bool = True) -> Iterator[None]:
    """Seed torch's generators and, with `deterministic`, allow only kernels that repeat bit for bit.

    On leaving, generators and settings are as they were.
    """
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        # as `use_deterministic_algorithms` does, which loads all of torch's compiler to tell it too
        torch.set_deterministic_debug_mode("error" if deterministic else "default")
        # filling finds bugs, at the price of one more write of every tensor
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
