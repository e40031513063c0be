"""Binary matrix products by XOR and popcount.

Bit 1 is +1, bit 0 is -1. *Rows* hold one bit vector each, `rows[row, word]`, element i in bit i % 64 of word i // 64;
a weight matrix is stored so, one row per output neuron. *Columns* hold the transpose, `columns[word, column]`: samples
go through the network as columns. Rows come in multiples of 8, columns in multiples of 16 (64 where bits are
transposed), and bits beyond a vector's length are zero on both sides, so that they never count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount_tile import COLUMNS, ROWS, Where, tile_distances, tile_gated, tile_majority

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


def as_columns(rows: Words, multiple: int = COLUMNS) -> Words:
    """Lay packed rows (count, words) out as columns (words, count rounded up to `multiple`); the padding is zero."""
    columns = np.zeros((rows.shape[1], padded(rows.shape[0], multiple)), np.uint64)
    columns[:, : rows.shape[0]] = rows.T
    return columns


@compiled
def distances(columns: Words, rows: Words, out: NDArray[np.int16]) -> None:
    """Hamming distances of every row to every column.

    Args:
        columns: (words, n), n a multiple of 16.
        rows: (m, words), m a multiple of 8, or the same flat.
        out: (m, n), overwritten.
    """
    words, count = columns.shape
    for row in range(0, out.shape[0], ROWS):
        for column in range(0, count, COLUMNS):
            where = Where(column, count, row * words, 1, words, words)
            tile_distances((columns, rows), where, (out, row * count + column, count))


@compiled
def clear_from(plane: Words, length: int) -> None:
    """Zero the bits of the columns `plane` (words, n) from element `length` on."""
    for word in range(length // 64, plane.shape[0]):
        keep = np.uint64((1 << (length % 64)) - 1) if word == length // 64 else np.uint64(0)
        for column in range(plane.shape[1]):
            plane[word, column] &= keep


@compiled
def majority_layer(columns: Words, rows: Words, sizes: tuple[int, int], out: Words) -> None:
    """One binary layer: output bit 1 where at least half of the inputs agree with the weights.

    Args:
        columns: inputs (words, n), n a multiple of 16.
        rows: weights (outputs rounded up to 8, words), or the same flat.
        sizes: number of inputs and of outputs.
        out: (ceil(outputs / 64), n), overwritten.
    """
    words, count = columns.shape
    inputs, outputs = sizes
    out[:] = np.uint64(0)
    for row in range(0, outputs, ROWS):
        for column in range(0, count, COLUMNS):
            where = Where(column, count, row * words, 1, words, words)
            tile_majority((columns, rows), where, inputs >> 1, (out, (row >> 6) * count + column, row & 63))
    clear_from(out, outputs)


@compiled
def gated_layer(
    vectors: tuple[Words, ...], outputs: int, gate: tuple[NDArray[np.int64], int], out: tuple[Words, Words]
) -> None:
    """Signs of the dot products of rows and columns, and which of them are near zero.

    Args:
        vectors: columns (words, n), rows (outputs rounded up to 8, words) or flat, and, where only some elements of
            each column count, the mask of these (words, n).
        outputs: number of outputs.
        gate: how many elements of each column count (n,), and the margin up to which |dot product| is near.
        out: bits `dot product >= 0` and marks of the near ones, both (ceil(outputs / 64), n), overwritten.
    """
    words, count = vectors[0].shape
    sign, near = out
    sign[:] = np.uint64(0)
    near[:] = np.uint64(0)
    for row in range(0, outputs, ROWS):
        for column in range(0, count, COLUMNS):
            where = Where(column, count, row * words, 1, words, words)
            tile_gated(vectors, where, gate, (sign, near, (row >> 6) * count + column, row & 63))
    clear_from(sign, outputs)
    clear_from(near, outputs)


@compiled
def transpose(columns: Words, out: Words) -> None:
    """Transpose bits: element i of column c becomes element c of column i.

    Args:
        columns: (words, n), n a multiple of 64.
        out: (n / 64, 64 words), overwritten.
    """
    words, count = columns.shape
    for word in range(words):
        for first in range(0, count, 64):
            tile = out[first // 64, word * 64 : word * 64 + 64]
            tile[:] = columns[word, first : first + 64]
            half = 32
            low = np.uint64(0x00000000FFFFFFFF)
            while half:
                for base in range(0, 64, 2 * half):
                    for k in range(base, base + half):
                        swap = ((tile[k] >> np.uint64(half)) ^ tile[k + half]) & low
                        tile[k] ^= swap << np.uint64(half)
                        tile[k + half] ^= swap
                half >>= 1
                low ^= low << np.uint64(half)
