"""Bits in words. Bit 1 is +1, bit 0 is -1.

*Rows* hold one bit vector each, `rows[row, word]`, element i in bit i % 64 of word i // 64; a weight matrix is stored
so, one row per output neuron. *Columns* hold the transpose, `columns[word, column]`: samples go through an evolved
network as columns. Bits beyond a vector's length are zero on both sides, so that they never count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def padded(count: int, multiple: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def pack_rows(bits: NDArray[np.bool_]) -> Words:
    """Pack `bits` (rows, n) into words (rows, ceil(n / 64)).

    Returns:
        uint64 array; bits beyond n are zero.
    """
    count, length = bits.shape
    packed = np.zeros((count, padded(length, 64) // 8), np.uint8)
    packed[:, : -(-length // 8)] = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False)


def unpack_rows(words: Words, length: int) -> NDArray[np.bool_]:
    """The inverse of `pack_rows`: bits (rows, length)."""
    octets = np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=length, bitorder="little").astype(np.bool_)
