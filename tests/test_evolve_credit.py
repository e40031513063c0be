"""Integer credit assignment and counters against the same rule on plain integer arrays."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch.bits import pack_rows, padded, unpack_rows
from bnnsearch.core.data import Dataset, Split
from bnnsearch.evolve.algorithm import Problem
from bnnsearch.evolve.batch_errors import BatchErrors, Weights
from bnnsearch.evolve.counters import start_counters
from bnnsearch.evolve.credit import CreditRule
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.majority_marks import majority_marks, majority_operations
from bnnsearch.evolve.network import Binarizer
from bnnsearch.evolve.parallel import Threads
from bnnsearch.evolve.samples import pack_data

Integers = NDArray[np.int64]

pytestmark = pytest.mark.usefixtures("instruction_set")


def random_problem(generator: np.random.Generator, sizes: tuple[int, ...], count: int, threads: int) -> Problem:
    classes = 3
    images = torch.from_numpy(generator.integers(0, 256, (count, 1, 1, sizes[0])).astype(np.uint8))
    split = Split(images, torch.from_numpy(generator.integers(0, classes, count)))
    samples = pack_data(Dataset(split, split, split, classes, (1, 1, sizes[0])), Binarizer())
    return Problem(samples, Layout(sizes), count, 1, Threads(threads))


def errors_in_integers(
    signs: list[Integers], inputs: Integers, labels: Integers, rule: CreditRule
) -> tuple[list[Integers], list[Integers]]:
    """Activations of all layers, (samples, neurons) of +-1, and errors of all but the first, of -1, 0, 1."""
    values, near = [inputs], []
    for weights in signs:
        product = values[-1] @ weights.T
        values.append(np.where(product >= 0, 1, -1))
        near.append(abs(product) <= rule.gate)
    group = values[-1].shape[1] // rule.classes
    votes = (values[-1] > 0).reshape(len(labels), rule.classes, group).sum(axis=2)
    asked = np.zeros_like(values[-1])
    for sample, label in enumerate(labels):
        close = [c for c in range(rule.classes) if c != label and votes[sample, label] - votes[sample, c] < rule.margin]
        for c in close:
            group_c = slice(c * group, (c + 1) * group)
            asked[sample, group_c] = np.where(values[-1][sample, group_c] > 0, -1, 0)
        if close:
            own = slice(label * group, (label + 1) * group)
            asked[sample, own] = values[-1][sample, own] < 0
    errors = [asked * near[-1]]
    for weights, gate in zip(signs[:0:-1], near[-2::-1], strict=True):
        error = errors[0] @ weights
        errors.insert(0, np.sign(error) * (abs(error) > rule.error_threshold) * gate)
    return values, errors


@pytest.mark.parametrize("threads", [1, 2])
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 80), min_size=1, max_size=3), st.integers(1, 200))
def test_a_batch_moves_counters_and_weights_as_the_rule_says(
    threads: int, seed: int, hidden: list[int], count: int
) -> None:
    generator = np.random.default_rng(seed)
    sizes = (int(generator.integers(1, 100)), *hidden, 3 * int(generator.integers(1, 30)))
    rule = CreditRule(3, int(generator.integers(1, 10)), int(generator.integers(0, 12)), int(generator.integers(0, 4)))
    problem = random_problem(generator, sizes, count, threads)
    layout, picks = problem.layout, np.arange(count)
    genome = layout.random(generator)
    state = Weights(genome.copy(), layout.transposed(genome), start_counters(layout, genome, generator, 5))
    limit, band = 8, 2
    signs = [
        np.where(unpack_rows(layout.layer(genome, layer)[:outputs], inputs), 1, -1).astype(np.int64)
        for layer, (inputs, outputs) in enumerate(pairwise(sizes))
    ]
    inputs = np.where(unpack_rows(problem.samples.rows, sizes[0]), 1, -1).astype(np.int64)
    values, errors = errors_in_integers(signs, inputs, problem.samples.labels, rule)
    old = [counters_of(layout, state.counters, layer) for layer in range(len(signs))]

    errors_of_batch = BatchErrors(problem, rule, size=count)
    hits, _ = errors_of_batch.count(state, picks)
    flips = errors_of_batch.push(state, np.array([limit, band], np.int16))

    votes = (values[-1] > 0).reshape(count, 3, -1).sum(axis=2)
    assert hits == (votes.argmax(axis=1) == problem.samples.labels).sum()
    expected_flips = 0
    for layer, weights in enumerate(signs):
        moved = np.clip(old[layer] + errors[layer].T @ values[layer], -limit, limit)
        if errors[-1].any():
            assert (counters_of(layout, state.counters, layer) == moved).all()
        else:  # nobody asks for anything: not even the clip is applied
            moved = old[layer]
        now = np.where(moved > band, 1, np.where(moved < -band, -1, weights)) if errors[-1].any() else weights
        expected_flips += int((now != weights).sum())
        words = layout.layer(state.genome, layer)[: sizes[layer + 1]]
        assert (unpack_rows(words, sizes[layer]) == (now > 0)).all()
    assert flips == expected_flips
    assert (state.back == layout.transposed(state.genome)).all()
    assert not (state.genome & ~layout.mask).any()


def counters_of(layout: Layout, counters: NDArray[np.int16], layer: int) -> Integers:
    """One layer's counters, (outputs, inputs)."""
    start = 0
    for index, (inputs, outputs) in enumerate(pairwise(layout.sizes)):
        shape = (padded(inputs, 8), padded(outputs, 16))
        if index == layer:
            return counters[start : start + shape[0] * shape[1]].reshape(shape)[:inputs, :outputs].T.astype(np.int64)
        start += shape[0] * shape[1]
    raise IndexError(layer)


def test_counters_start_on_the_side_of_their_weight() -> None:
    layout, generator = Layout((70, 30, 20)), np.random.default_rng(0)
    genome = layout.random(generator)
    counters = start_counters(layout, genome, generator, 7)
    for layer in range(2):
        bits = unpack_rows(layout.layer(genome, layer)[: layout.sizes[layer + 1]], layout.sizes[layer])
        values = counters_of(layout, counters, layer)
        assert ((values > 0) == bits).all()
        assert set(abs(values).ravel().tolist()) == set(range(1, 8))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300))
def test_the_transpose_follows_a_change(seed: int, flips: int) -> None:
    layout, generator = Layout((70, 33, 20)), np.random.default_rng(seed)
    old = layout.random(generator)
    places = layout.places(generator.integers(0, layout.weights, flips))
    new, back = old.copy(), layout.transposed(old)
    np.bitwise_xor.at(new, places >> 6, np.uint64(1) << (places & 63).astype(np.uint64))
    layout.change_transposed(back, old, new)
    assert (back == layout.transposed(new)).all()


def test_literal_marks_by_hand() -> None:
    # 2 inputs, 1 hidden neuron, 2 labels of one bit; all weights +1
    layout = Layout((2, 1, 2))
    genome = layout.mask.copy()
    rows, labels = pack_rows(np.array([[1, 1], [1, 1], [0, 1], [1, 1]], np.bool_)), np.array([0, 0, 0, 1])
    # every hidden neuron and output bit is 1; bit 0 should be 1 1 1 0, bit 1 should be 0 0 0 1
    marks, wrong = majority_marks(genome, layout, rows, labels, (2, False))
    assert layout.layer(marks, 1)[:2, 0].tolist() == [0, 1]  # bit 0 is wrong once, bit 1 three times; its weight agreed
    assert layout.layer(marks, 0)[:1, 0].tolist() == [0]  # one of the two weights leaving the neuron: not most
    assert wrong == 1
    # four images through 2 + 2 weights, through the one weight of the wrong bit, and the marks of 2 weights that leave
    assert majority_operations(layout, 4, wrong) == 4 * 4 + 4 * 1 + 2
    both, wrong = majority_marks(genome, layout, rows, labels, (2, True))
    assert wrong == 2
    # balanced: bit 0 is right for all its own and wrong for all others: one half; bit 1 the same
    assert layout.layer(both, 1)[:2, 0].tolist() == [1, 1]
    assert layout.layer(both, 0)[:1, 0].tolist() == [0b11]


def test_literal_marks_vanish_where_all_outputs_are_zero() -> None:
    # three labels: a bit that is always 0 is wrong for a third of the batch, which is less than half
    layout = Layout((3, 3, 3))
    genome = np.zeros(layout.words, np.uint64)
    layout.layer(genome, 1)[:3] = 0b111  # hidden neurons all 1 for inputs of -1, outputs all 1 - so flip the last layer
    layout.layer(genome, 1)[:3] = 0
    rows, labels = pack_rows(np.zeros((6, 3), np.bool_)), np.array([0, 1, 2, 0, 1, 2])
    marks, wrong = majority_marks(genome, layout, rows, labels, (3, False))
    assert (marks.any(), wrong) == (False, 0)
    marks, wrong = majority_marks(genome, layout, rows, labels, (3, True))
    assert (marks.any(), wrong) == (True, 3)
