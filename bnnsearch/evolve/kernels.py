"""The native kernels of evolution: what each takes. Integers only; the C sources say what they do.

Arrays are passed as they lie in memory: contiguous, 64 bits an element unless a kernel's source says otherwise. A call
releases the interpreter lock, so that Python threads run side by side.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numpy.typing import NDArray

from bnnsearch import native

SIGNATURES = {
    "count_ones": ("ai", True),
    "find_ones": ("aaia", False),
    "weight_places": ("aaia", False),
    "transpose_changes": ("aiaaa", False),
    "score_room": ("aii", True),
    "score": ("aiaiiaaiiiaa", False),
    "labels": ("aiaaiiaa", False),
    "credit_room": ("iii", True),
    "assign_credit": ("aiaaaaaaiiiasia", False),
    "close_gaps": ("saai", True),
    "move_counters": ("aaaasiiiii", True),
    "rebuild": ("saa", False),
    "score_children": ("saaaia", False),
    "adopt_child": ("saai", False),
    "majority": ("aaaia", False),
    "transpose": ("aiia", False),
    "mark_last": ("aaaaaaiiia", True),
}
"""Arguments of each, letter by letter: array, integer, structure by reference; and whether it returns an integer."""


class _Array:
    """How ctypes passes an array: as the address of its first element."""

    @classmethod
    def from_param(cls, array: NDArray[Any]) -> ctypes.c_void_p:
        return ctypes.c_void_p(address(array))


_KINDS: dict[str, Any] = {"a": _Array, "i": ctypes.c_int64, "s": ctypes.c_void_p}


def address(array: NDArray[Any]) -> int:
    """Of the first element; it is good for as long as someone keeps the array."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def bind(variant: str, name: str) -> Any:
    """A kernel as it is compiled for an instruction set."""
    function = getattr(native.library(), f"bnn_{variant}_{name}")
    kinds, returns = SIGNATURES[name]
    function.argtypes = [_KINDS[kind] for kind in kinds]
    function.restype = ctypes.c_int64 if returns else None
    return function


def __getattr__(name: str) -> Any:
    """Load a kernel at its first use."""
    if name not in SIGNATURES:
        raise AttributeError(name)
    return globals().setdefault(name, bind(native.chosen(), name))
