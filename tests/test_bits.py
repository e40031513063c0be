"""Bits in words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch.bits import pack_rows, unpack_rows

Bits = NDArray[np.bool_]

sizes = st.integers(1, 150)
seeds = st.integers(0, 2**32 - 1)


def random_bits(seed: int, *shape: int) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.bool_)


@given(seeds, sizes, sizes)
def test_unpacking_reverses_packing_and_the_padding_is_zero(seed: int, count: int, length: int) -> None:
    bits = random_bits(seed, count, length)
    words = pack_rows(bits)
    assert (unpack_rows(words, length) == bits).all()
    assert not unpack_rows(words, words.shape[1] * 64)[:, length:].any()


def test_element_i_is_bit_i_of_its_word() -> None:
    bits = np.zeros((1, 70), np.bool_)
    bits[0, [0, 3, 64]] = True
    assert pack_rows(bits).tolist() == [[0b1001, 1]]
