"""The native library: everything that counts bits, and the passes of training, in C, one build per instruction set.

A kernel's name is `bnn_VARIANT_NAME`. Which variants run here is asked once, when the library is loaded.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bnnsearch.errors import EnvironmentProblem

FILE = Path(__file__).with_name("library" + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so"))
BUILD = "in a checkout `uv sync --reinstall-package bnnsearch` builds it"


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The library.

    Raises:
        EnvironmentProblem: there is none that loads here.
    """
    try:
        return ctypes.CDLL(str(FILE))
    except OSError as error:
        problem = f"this needs the native library, which does not load: {error}; {BUILD}"
        raise EnvironmentProblem(problem) from error


@lru_cache(maxsize=1)
def available() -> bool:
    """Whether the library loads here; where it does not, one line of the log says so and what happens instead."""
    try:
        library()
    except EnvironmentProblem as problem:
        instead = "training runs in torch alone, packed networks in numpy, slowly"
        logging.getLogger(__name__).warning("%s; until then %s", problem.lines[0], instead)
        return False
    return True


@lru_cache(maxsize=1)
def variants() -> tuple[str, ...]:
    """Instruction sets that this processor has, the best first; the last, `portable`, is the reference."""
    names = library().bnn_variants
    names.restype = ctypes.c_char_p
    found: bytes = names()
    return tuple(found.decode().split())


@lru_cache(maxsize=1)
def chosen() -> str:
    """The variant that is used: the best, or the one that the environment names in BNNSEARCH_VARIANT.

    Raises:
        EnvironmentProblem: it names one that does not run here.
    """
    name = os.environ.get("BNNSEARCH_VARIANT") or variants()[0]
    if name not in variants():
        raise EnvironmentProblem(f"BNNSEARCH_VARIANT: {name!r} does not run here; what does: {', '.join(variants())}")
    return name


class _Array:
    """How ctypes passes an array: as the address of its first element."""

    @classmethod
    def from_param(cls, array: NDArray[Any]) -> ctypes.c_void_p:
        return ctypes.c_void_p(address(array))


_KINDS: dict[str, Any] = {
    "a": _Array, "f": ctypes.c_double, "i": ctypes.c_int64, "p": ctypes.c_void_p, "s": ctypes.c_void_p
}  # fmt: skip

Signature = tuple[str, bool]
"""Arguments of a kernel, letter by letter: array, float64, integer, pointer as an address, structure by reference; and
whether it returns an integer."""


def address(array: NDArray[Any]) -> int:
    """Of the first element; it is good for as long as someone keeps the array."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def bind(variant: str, name: str, signature: Signature) -> Any:
    """A kernel as it is compiled for an instruction set. A call of it releases the interpreter lock."""
    function = library()[f"bnn_{variant}_{name}"]  # an attribute would be shared by all who bind it, kinds and all
    kinds, returns = signature
    function.argtypes = [_KINDS[kind] for kind in kinds]
    function.restype = ctypes.c_int64 if returns else None
    return function


def load(module: dict[str, Any], name: str) -> Any:
    """The kernel `name` of `module`, a module's names with its `SIGNATURES`, which keeps it from its first use on.

    Raises:
        AttributeError: it has none of that name.
    """
    if name not in module["SIGNATURES"]:
        raise AttributeError(name)
    return module.setdefault(name, bind(chosen(), name, module["SIGNATURES"][name]))
