"""Popcount kernels against plain integer arithmetic on unpacked bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch.kernels.counting import step_distances
from bnnsearch.kernels.jit import compiled
from bnnsearch.kernels.popcount import (
    Words,
    as_columns,
    distances,
    gated_layer,
    majority_layer,
    pack_rows,
    padded,
    transpose,
    unpack_rows,
)

Bits = NDArray[np.bool_]

sizes = st.integers(1, 150)
seeds = st.integers(0, 2**32 - 1)


def random_bits(seed: int, *shape: int) -> Bits:
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.bool_)


def weights(bits: Bits) -> Words:
    rows = np.zeros((padded(len(bits), 8), padded(bits.shape[1], 64) // 64), np.uint64)
    rows[: len(bits)] = pack_rows(bits)
    return rows


def bits_of(columns: Words, length: int, count: int) -> Bits:
    """(count, length) of columns."""
    return unpack_rows(np.ascontiguousarray(columns.T), length)[:count]


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


@settings(deadline=None)
@given(seeds, sizes, sizes, sizes)
def test_distances_count_differing_bits(seed: int, samples: int, inputs: int, outputs: int) -> None:
    x, w = random_bits(seed, samples, inputs), random_bits(seed + 1, outputs, inputs)
    columns = as_columns(pack_rows(x))
    out = np.full((padded(outputs, 8), columns.shape[1]), -1, np.int16)
    distances(columns, weights(w), out)
    assert (out[:outputs, :samples] == (x[None] != w[:, None]).sum(axis=2)).all()


@settings(deadline=None)
@given(seeds, sizes, sizes, sizes)
def test_majority_is_one_where_at_least_half_agree(seed: int, samples: int, inputs: int, outputs: int) -> None:
    x, w = random_bits(seed, samples, inputs), random_bits(seed + 1, outputs, inputs)
    columns = as_columns(pack_rows(x))
    out = np.full((padded(outputs, 64) // 64, columns.shape[1]), ~np.uint64(0))
    majority_layer(columns, weights(w), (inputs, outputs), out)
    agreeing = (x[:, None] == w[None]).sum(axis=2)
    assert (bits_of(out, outputs, samples) == (2 * agreeing >= inputs)).all()
    assert not bits_of(out, len(out) * 64, samples)[:, outputs:].any()


def test_a_tie_of_an_even_number_of_inputs_gives_one() -> None:
    columns, out = as_columns(pack_rows(np.array([[True, False]]))), np.zeros((1, 16), np.uint64)
    majority_layer(columns, weights(np.array([[True, True], [False, True]])), (2, 2), out)
    assert out[0, 0] == 0b01  # one of two agrees: 1; none agrees: 0


@settings(deadline=None)
@given(seeds, sizes, sizes, sizes, st.integers(0, 40))
def test_gate_counts_only_masked_elements(seed: int, samples: int, inputs: int, outputs: int, margin: int) -> None:
    x, m = random_bits(seed, samples, inputs), random_bits(seed + 2, samples, inputs)
    w = random_bits(seed + 1, outputs, inputs)
    columns, mask = as_columns(pack_rows(x)), as_columns(pack_rows(m))
    totals = np.zeros(columns.shape[1], np.int64)
    totals[:samples] = m.sum(axis=1)
    sign, near = np.full((2, padded(outputs, 64) // 64, columns.shape[1]), ~np.uint64(0))
    gated_layer((columns, weights(w), mask), outputs, (totals, margin), (sign, near))
    product = (np.where(x, 1, -1) * m) @ np.where(w, 1, -1).T
    assert (bits_of(sign, outputs, samples) == (product >= 0)).all()
    assert (bits_of(near, outputs, samples) == (abs(product) <= margin)).all()


@settings(deadline=None)
@given(seeds, sizes, sizes)
def test_transposing(seed: int, count: int, length: int) -> None:
    bits = random_bits(seed, count, length)
    columns = as_columns(pack_rows(bits), 64)
    out = np.empty((columns.shape[1] // 64, len(columns) * 64), np.uint64)
    transpose(columns, out)
    assert (bits_of(out, count, length) == bits.T).all()


@compiled
def _step(counts: NDArray[np.int16], signs: NDArray[np.int8], sign: int, majority: int) -> tuple[int, int]:
    was, now = step_distances(counts, 1, signs, 2, (sign, majority))
    return was, now


@settings(deadline=None)
@given(seeds, st.sampled_from((-1, 1)))
def test_a_step_moves_64_counts_and_tells_both_sides(seed: int, sign: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(28, 37, 70).astype(np.int16)
    signs = generator.integers(-1, 2, 70).astype(np.int8)
    before, after = counts.copy(), counts.copy()
    after[1:65] += np.int16(sign) * signs[2:66]
    was, now = _step(counts, signs, sign, 32)
    assert (counts == after).all()
    for word, values in ((was, before), (now, after)):
        assert word == sum(1 << k for k in range(64) if values[1 + k] <= 32)
