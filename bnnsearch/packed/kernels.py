"""The native kernels of the packed runtime, and their structures; `native/packed/packed.h` says what is what."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

from bnnsearch import native

SIGNATURES: dict[str, native.Signature] = {
    "gathered_bytes": ("i", True),
    "filter_bytes": ("ii", True),
    "lay_filters": ("aiia", False),
    "run_stages": ("siii", False),
}

LANES = 16
"""Channels of a vector."""

SLACK = 16
"""Bytes that may be read over the end of a value."""


class StepKind(IntEnum):
    """What is done to a block."""

    AFFINE = 0
    SCALE = 1
    SHIFT = 2
    CLAMP = 3
    PRELU = 4
    DIVIDE = 5
    ADD = 6
    MULTIPLY = 7
    STORE = 8
    BITS = 9
    SIGNS = 10


class StageKind(IntEnum):
    """What fills blocks, or moves scalars."""

    BITS = 0
    REAL = 1
    WIDE_REAL = 2
    MAX = 3
    SUM = 4
    WIDE_SUM = 5
    INPUT = 6
    COPY = 7
    SIGMOID = 8


class Step(ctypes.Structure):
    """What is done to a block; pointers are addresses of arrays that someone else keeps."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("turned", ctypes.c_void_p),
        ("map", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("octets", ctypes.c_int64),
    )


class Stage(ctypes.Structure):
    """A source and its steps, or scalars that move."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        ("source", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("pixels", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("run", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("filters", ctypes.c_void_p),
        ("bases", ctypes.c_void_p),
        ("base_offsets", ctypes.c_void_p),
        ("steps", ctypes.c_void_p),
        ("step_count", ctypes.c_int64),
        ("target", ctypes.c_void_p),
        ("target_offsets", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("shared", ctypes.c_int64),
        ("images", ctypes.c_int64),
    )


def bind(variant: str, name: str) -> Any:
    """A kernel as it is compiled for an instruction set."""
    return native.bind(variant, name, SIGNATURES[name])


def __getattr__(name: str) -> Any:
    """Load a kernel at its first use."""
    return native.load(globals(), name)
