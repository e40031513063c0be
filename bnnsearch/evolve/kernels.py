"""The native kernels of evolution: what each takes. Integers only; the C sources say what they do.

Arrays are passed as they lie in memory: contiguous, 64 bits an element unless a kernel's source says otherwise. A call
releases the interpreter lock, so that Python threads run side by side.
"""

from __future__ import annotations

from typing import Any

from bnnsearch import native

SIGNATURES: dict[str, native.Signature] = {
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


def bind(variant: str, name: str) -> Any:
    """A kernel as it is compiled for an instruction set."""
    return native.bind(variant, name, SIGNATURES[name])


def __getattr__(name: str) -> Any:
    """Load a kernel at its first use."""
    return native.load(globals(), name)
