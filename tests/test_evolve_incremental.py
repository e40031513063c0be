"""Incremental scores are the scores of a fresh forward pass, for any depth and any number of flips."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnsearch.evolve.forward import score_blocks
from bnnsearch.evolve.incremental import HITS, LEADS, adopt_child, keep, rebuild, score_children
from bnnsearch.evolve.individual import Individual
from bnnsearch.evolve.layout import Layout
from bnnsearch.evolve.samples import to_blocks
from bnnsearch.kernels.popcount import pack_rows

MARGIN = 4


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

    def fresh(genome: np.ndarray) -> tuple[int, int]:
        return score_blocks(genome, layout.table, blocks.columns, blocks.labels, (classes, MARGIN))

    def random_child(parent: np.ndarray) -> Individual:
        flips = generator.choice(layout.weights, int(generator.integers(0, min(9, layout.weights + 1))), replace=False)
        return Individual(parent, layout.places(np.sort(flips)))

    parent = layout.random(generator)
    kept = keep(layout, blocks.columns, blocks.labels, classes)
    rebuild(kept, layout, blocks.columns, parent, MARGIN)
    for _ in range(2):
        children = [random_child(parent) for _ in range(5)]
        starts = np.cumsum([0, *(len(child.flips) for child in children)])
        flips = np.concatenate([child.flips for child in children]).astype(np.int64)
        scores = score_children(kept, layout.table, parent, (flips, starts), MARGIN)
        assert [tuple(score) for score in scores.tolist()] == [fresh(child.genome) for child in children]
        assert tuple(kept.totals[:, [HITS, LEADS]].sum(axis=0).tolist()) == fresh(parent)
        adopt_child(kept, layout.table, parent, children[0].flips, MARGIN)
        parent = children[0].genome
        assert tuple(kept.totals[:, [HITS, LEADS]].sum(axis=0).tolist()) == fresh(parent)
