"""Evolved networks, packed: the same labels on every image, ties between labels included."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bnnsearch.bits import pack_rows
from bnnsearch.errors import InputError
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.network import Binarizer, XorNetwork
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.xor import pack_xor_network


def random_network(rng: np.random.Generator, sizes: tuple[int, ...], classes: int, binarizer: Binarizer) -> XorNetwork:
    layout = Layout(sizes)
    genome = np.zeros(layout.words, np.uint64)
    for index, (inputs, outputs) in enumerate(pairwise(sizes)):
        layout.layer(genome, index)[:outputs] = pack_rows(rng.random((outputs, inputs)) < 0.5)
    return XorNetwork(sizes, classes, genome, binarizer)


@pytest.mark.parametrize(
    ("hidden", "bits_per_label", "binarizer", "shape"),
    [
        ((), 1, Binarizer(), (1, 8, 8)),
        ((70, 33), 3, Binarizer((90,), crop=1), (1, 9, 11)),
        ((130,), 12, Binarizer((60, 128, 200), crop=2), (3, 12, 10)),
    ],
)
def test_an_evolved_network_votes_the_same(
    hidden: tuple[int, ...], bits_per_label: int, binarizer: Binarizer, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    sizes = (binarizer.inputs(shape), *hidden, 10 * bits_per_label)
    network = random_network(rng, sizes, 10, binarizer)
    images = rng.integers(0, 256, (300, *shape), dtype=np.uint8)
    images[:, :, ::2] = rng.choice(np.array([59, 60, 89, 90, 127, 128], np.uint8), images[:, :, ::2].shape)
    pack_xor_network(network, shape=shape).save(tmp_path / "model.bnn")
    packed = PackedModel.load(tmp_path / "model.bnn")
    votes = packed.logits(images)
    assert (np.sort(votes, axis=1)[:, -1] == np.sort(votes, axis=1)[:, -2]).any()
    np.testing.assert_array_equal(packed.predict(images), network.predict(images))


def test_images_of_another_shape_than_it_evolved_on_are_refused() -> None:
    network = random_network(np.random.default_rng(0), (64, 20), 10, Binarizer())
    with pytest.raises(InputError, match="takes 64 bits"):
        pack_xor_network(network, shape=(1, 9, 9))
