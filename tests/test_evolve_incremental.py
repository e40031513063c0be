"""Incremental scores are the scores of a fresh forward pass, for any depth and any number of flips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnsearch.bits import pack_rows
from bnnsearch.evolve.forward import score
from bnnsearch.evolve.incremental import HITS, LEADS, Kept
from bnnsearch.evolve.individual import Individual
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.samples import to_blocks

MARGIN = 4

pytestmark = pytest.mark.usefixtures("instruction_set")


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 140),
    st.lists(st.integers(1, 80), min_size=1, max_size=4),
    st.integers(1, 70),
    st.integers(1, 300),
)
def test_children_score_as_if_evaluated_afresh(
    seed: int, inputs: int, hidden: list[int], bits: int, count: int
) -> None:
    generator, classes = np.random.default_rng(seed), 3
    layout = Layout((inputs, *hidden, classes * bits))
    rows = pack_rows(generator.integers(0, 2, (count, inputs)).astype(np.bool_))
    blocks = to_blocks(rows, generator.integers(0, classes, count))

    def fresh(*genomes: np.ndarray) -> list[list[int]]:
        return score(np.stack(genomes), layout, blocks.columns, blocks.labels, (classes, MARGIN)).tolist()

    def random_child(parent: np.ndarray) -> Individual:
        flips = generator.choice(layout.weights, int(generator.integers(0, min(9, layout.weights + 1))), replace=False)
        return Individual(parent, layout.places(np.sort(flips)))

    parent = layout.random(generator)
    kept = Kept(layout, blocks, classes, MARGIN)
    kept.rebuild(parent)
    for _ in range(2):
        children = [random_child(parent) for _ in range(5)]
        starts = np.cumsum([0, *(len(child.flips) for child in children)])
        flips = np.concatenate([child.flips for child in children]).astype(np.int64)
        scores = kept.score_children(parent, flips, starts)
        assert scores.tolist() == fresh(*(child.genome for child in children))
        assert [kept.totals[:, [HITS, LEADS]].sum(axis=0).tolist()] == fresh(parent)
        kept.adopt_child(parent, children[0].flips)
        parent = children[0].genome
        assert [kept.totals[:, [HITS, LEADS]].sum(axis=0).tolist()] == fresh(parent)
