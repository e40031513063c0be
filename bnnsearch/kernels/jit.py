"""Compiling without a build step: numba, at the first call, kept on disk for the next process."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` for this machine's processor.

    A call releases the interpreter lock, so that Python threads run side by side.
    """
    return cast(Callable[P, R], numba.njit(function, nogil=True, cache=True))


def reassociated(function: Callable[P, R]) -> Callable[P, R]:
    """As `compiled`, but sums of floats may be taken in another order, the same at every call: in vectors."""
    return cast(Callable[P, R], numba.njit(function, nogil=True, cache=True, fastmath={"reassoc", "nsz", "contract"}))
