"""XOR networks: the packed forward pass against integers, ties, votes, images to bits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch.bits import unpack_rows
from bnnsearch.evolve.forward import predict, score
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.network import Binarizer, XorNetwork
from bnnsearch.evolve.samples import to_blocks

pytestmark = pytest.mark.usefixtures("instruction_set")


def votes_in_integers(network: XorNetwork, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Section 4.1 of the thesis on plain arrays: votes (images, classes) of a network with one threshold, no crop."""
    values = np.where(images.reshape(len(images), -1) >= network.binarizer.thresholds[0], 1, -1)
    for words, inputs in zip(network.layers(), network.sizes[:-1], strict=True):
        signs = np.where(unpack_rows(words, inputs), 1, -1)
        values = np.where(values @ signs.T >= 0, 1, -1)
    return (values > 0).reshape(len(images), network.classes, -1).sum(axis=2)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.integers(1, 140), min_size=1, max_size=4),
    st.integers(2, 11),
    st.integers(1, 70),
)
def test_packed_network_predicts_as_integers_do(
    seed: int, side: int, hidden: list[int], classes: int, bits: int
) -> None:
    generator = np.random.default_rng(seed)
    sizes = (side * side, *hidden, classes * bits)
    network = XorNetwork(sizes, classes, Layout(sizes).random(generator), Binarizer())
    images = generator.integers(0, 256, (37, 1, side, side)).astype(np.uint8)
    votes = votes_in_integers(network, images)
    assert (network.predict(images) == votes.argmax(axis=1)).all()  # argmax takes the first of equals

    labels = generator.integers(0, classes, len(images))
    others = np.where(np.arange(classes) == labels[:, None], -1, votes).max(axis=1)
    leads = np.clip(votes[np.arange(len(images)), labels] - others, -5, 5)
    blocks = to_blocks(network.binarizer.rows(images), labels)
    scored = score(network.genome[None], network.layout, blocks.columns, blocks.labels, (classes, 5))
    assert scored.tolist() == [[(votes.argmax(axis=1) == labels).sum(), leads.sum()]]


@pytest.mark.parametrize(
    ("votes", "label", "hit", "lead"),
    [((4, 3, 2), 0, 1, 1), ((4, 4, 2), 0, 1, 0), ((4, 4, 2), 1, 0, 0), ((1, 4, 2), 2, 0, -2), ((0, 0, 0), 0, 1, 0)],
)
def test_a_label_wins_a_tie_only_against_higher_ones(votes: tuple[int, ...], label: int, hit: int, lead: int) -> None:
    layout = Layout((1, 12))  # an input bit of 1 makes each output its weight
    genome = np.zeros(layout.words, np.uint64)
    for index, ones in enumerate(votes):
        genome[4 * index : 4 * index + ones] = 1
    blocks = to_blocks(np.ones((1, 1), np.uint64), np.array([label]))
    assert score(genome[None], layout, blocks.columns, blocks.labels, (3, 9)).tolist() == [[hit, lead]]
    assert predict(genome, layout, blocks.columns, 3)[0] == votes.index(max(votes))


def test_pixels_become_bits_by_thresholds_after_shift_and_crop() -> None:
    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4) * np.uint8(16)  # 0, 16, ..., 240
    rows = Binarizer((100, 200), crop=1).rows(image)  # inner pixels 80 96 / 144 160
    assert unpack_rows(rows, 8).astype(int).tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]]
    moved = Binarizer((100,), crop=1).rows(image, (1, -1))  # down and left: the inner pixels were 32 48 / 96 112
    assert unpack_rows(moved, 4).astype(int).tolist() == [[0, 0, 0, 1]]


def test_shifting_fills_with_zeros() -> None:
    image = np.full((1, 1, 2, 2), 255, np.uint8)
    assert unpack_rows(Binarizer().rows(image, (0, 1)), 4).astype(int).tolist() == [[0, 1, 0, 1]]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 100), min_size=2, max_size=4))
def test_layout(seed: int, sizes: list[int]) -> None:
    layout = Layout(tuple(sizes))
    genome = layout.random(np.random.default_rng(seed))
    assert not (genome & ~layout.mask).any()
    all_places = layout.places(np.arange(layout.weights))
    marked = np.zeros_like(genome)
    np.bitwise_or.at(marked, all_places >> 6, np.uint64(1) << (all_places & 63).astype(np.uint64))
    assert (marked == layout.mask).all()
    back, start = layout.transposed(genome), 0
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        words = -(-outputs // 64)
        transposed = back[start : start + -(-inputs // 8) * 8 * words].reshape(-1, words)
        start += transposed.size
        bits = unpack_rows(layout.layer(genome, layer)[:outputs], inputs)
        assert (unpack_rows(transposed, outputs)[:inputs] == bits.T).all()
    assert start == len(back)
