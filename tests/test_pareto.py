"""Dominance, ranks, hypervolume, knee and selection: enumerated, hand-derived and property tests."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnnsearch.config.study import Objective
from bnnsearch.pareto import (
    Limit,
    ParetoFront,
    crowding_distance,
    dominates,
    hypervolume,
    hypervolume_series,
    knee,
    nondominated_ranks,
    reference_point,
)
from bnnsearch.results import TrialResult, TrialState

ACCURACY_AND_MEMORY = (Objective(metric="val_acc", mode="max"), Objective(metric="memory_bytes", mode="min"))


def trial(number, accuracy, memory, state=TrialState.COMPLETE, **more):
    metrics = {"val_acc": accuracy, "memory_bytes": memory}
    return TrialResult(number=number, state=state, config={}, params={}, metrics=metrics, **more)


# every pair of outcomes in two objectives: better (<), equal (=), worse (>) in each
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 0), (1, 1), True),  # < <
        ((0, 1), (1, 1), True),  # < =
        ((0, 2), (1, 1), False),  # < >
        ((1, 0), (1, 1), True),  # = <
        ((1, 1), (1, 1), False),  # = =
        ((1, 2), (1, 1), False),  # = >
        ((2, 0), (1, 1), False),  # > <
        ((2, 1), (1, 1), False),  # > =
        ((2, 2), (1, 1), False),  # > >
    ],
)
def test_dominance_table(first, second, expected):
    assert dominates(first, second, ["min", "min"]) is expected
    assert dominates(np.negative(first), np.negative(second), ["max", "max"]) is expected
    assert dominates((-first[0], first[1]), (-second[0], second[1]), ["max", "min"]) is expected


def test_ranks_by_hand():
    values = [(0.9, 10), (0.8, 5), (0.8, 10), (0.9, 10), (0.7, 6), (0.7, 11)]
    assert nondominated_ranks(values, ["max", "min"]).tolist() == [0, 0, 1, 0, 1, 2]


def test_crowding_distance_by_hand():
    # the middle: (4 - 0) / 4 in the first objective, (4 - 0) / 4 in the second
    assert crowding_distance([(0, 4), (1, 1), (4, 0)]).tolist() == [np.inf, 2.0, np.inf]
    assert crowding_distance([(1, 1), (1, 1)]).tolist() == [0.0, 0.0]
    assert crowding_distance([]).tolist() == []


@pytest.mark.parametrize(
    ("values", "modes", "reference", "expected"),
    [
        ([(3,), (1,)], ["max"], [0], 3),
        ([(1, 3), (3, 1)], ["max", "max"], [0, 0], 5),
        ([(1, 3), (3, 1), (2, 2)], ["max", "max"], [0, 0], 6),
        ([(-1, 3), (-3, 1), (-1, 3)], ["min", "max"], [0, 0], 5),
        ([(1, 1, 1)], ["min"] * 3, [2, 3, 4], 6),
        ([(0, 0, 1), (1, 0, 0)], ["min"] * 3, [2, 2, 2], 6),  # 4 + 4 - 2
        ([(0, 0, 0, 1), (1, 0, 0, 0)], ["min"] * 4, [2, 2, 2, 2], 12),  # 8 + 8 - 4
        ([(5, 5)], ["min", "min"], [4, 6], 0),
    ],
)
def test_hypervolume_by_hand(values, modes, reference, expected):
    assert hypervolume(values, modes, reference) == pytest.approx(expected)


def grid_volume(points, side):
    """Unit cells of [0, side]^m that some point, minimising, dominates."""
    cells = itertools.product(range(side), repeat=len(points[0]))
    return sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)


@st.composite
def tables(draw, side=4):
    """Small integer points, so that ties and duplicates are common."""
    objectives = draw(st.integers(1, 4))
    row = st.tuples(*[st.integers(0, side)] * objectives)
    return draw(st.lists(row, min_size=1, max_size=10))


@given(tables())
@settings(max_examples=80, deadline=None)
def test_hypervolume_equals_counting_cells(points):
    modes = ["min"] * len(points[0])
    reference = [4] * len(points[0])
    assert hypervolume(points, modes, reference) == pytest.approx(grid_volume(points, 4))


@given(tables())
@settings(max_examples=80, deadline=None)
def test_hypervolume_series_is_the_volume_so_far(points):
    modes = ["min"] * len(points[0])
    series = hypervolume_series(points, modes, [4] * len(points[0]))
    assert (np.diff(series) >= 0).all()
    assert series == pytest.approx([grid_volume(points[: end + 1], 4) for end in range(len(points))])


@given(tables(), st.data())
@settings(max_examples=80, deadline=None)
def test_ranks_agree_with_dominance(points, data):
    modes = data.draw(st.tuples(*[st.sampled_from(["min", "max"])] * len(points[0])))
    ranks = nondominated_ranks(points, modes)
    for row, rank in enumerate(ranks):
        dominators = [other for other in range(len(points)) if dominates(points[other], points[row], modes)]
        assert rank == max((ranks[other] + 1 for other in dominators), default=0)


@given(tables())
@settings(max_examples=80, deadline=None)
def test_every_row_is_better_than_the_reference(points):
    modes = ["min"] * len(points[0])
    assert (np.asarray(points) < reference_point(points, modes)).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20))
@settings(max_examples=80, deadline=None)
def test_front_is_mutually_nondominated_and_dominates_the_rest(points):
    results = [trial(number, *point) for number, point in enumerate(points)]
    front = ParetoFront.of(results, ACCURACY_AND_MEMORY)
    for number, point in enumerate(points):
        dominated = any(dominates(other, point, front.modes) for other in points)
        assert (number in front.numbers) is not dominated
    assert front.hypervolume >= 0
    assert front.hypervolume == pytest.approx([0.0, *front.hypervolume_series()][-1])


def test_knee_is_nearest_to_the_ideal():
    values = [(0.98, 100), (0.95, 40), (0.90, 30), (0.70, 20)]
    # scaled losses: (0, 1), (.107, .25), (.286, .125), (1, 0): .272 against .312
    assert knee(values, ["max", "min"]) == 1


def test_knee_tie_goes_to_the_first_objective():
    assert knee([(0.5, 1), (0.9, 2)], ["max", "min"]) == 1
    assert knee([(1, 0.5), (2, 0.9)], ["min", "max"]) == 0
    assert knee([(3,), (3,)], ["max"]) == 0


def test_front_leaves_out_unfinished_and_infeasible_trials_and_keeps_ties():
    results = [
        trial(0, 0.9, 10),
        trial(1, 0.99, 1, TrialState.PRUNED),
        trial(2, 0.99, 1, TrialState.FAILED),
        trial(3, 0.99, 1, violations={"bops": 0.5}),
        trial(4, 0.9, 10, violations={"bops": 0.0}),
        trial(5, 0.8, 10),
        trial(6, 0.95, 12),
    ]
    front = ParetoFront.of(results, ACCURACY_AND_MEMORY)
    assert [result.number for result in front.results] == [6, 0, 4]
    assert front.numbers == {0, 4, 6}


def test_front_of_nothing():
    front = ParetoFront.of([trial(0, 0.9, 1, TrialState.FAILED)], ACCURACY_AND_MEMORY)
    assert front.results == ()
    assert front.hypervolume == 0
    with pytest.raises(ValueError, match="no trial has finished within the constraints"):
        front.select()


def test_front_hypervolume_is_a_share_of_the_box():
    # reference (.46, 15.5), ideal (.9, 10): trial 0 dominates a strip of .04 x 5.5, trial 1 adds .4 x .5
    front = ParetoFront.of([trial(0, 0.5, 10), trial(1, 0.9, 15)], ACCURACY_AND_MEMORY)
    box = (0.9 - 0.46) * (15.5 - 10)
    assert front.hypervolume == pytest.approx(((0.5 - 0.46) * 5.5 + (0.9 - 0.5) * 0.5) / box)


def test_front_hypervolume_never_falls_after_the_tenth_trial():
    generator = np.random.default_rng(3)
    results = [trial(number, *generator.random(2)) for number in range(60)]
    volumes = [ParetoFront.of(results[:end], ACCURACY_AND_MEMORY).hypervolume for end in range(10, 60)]
    assert (np.diff(volumes) >= 0).all()
    assert volumes[-1] > volumes[0]


CHOICES = [trial(0, 0.98, 100), trial(1, 0.95, 40), trial(2, 0.90, 30), trial(3, 0.70, 20), trial(4, 0.94, 41)]


@pytest.mark.parametrize(
    ("by", "metric", "where", "expected"),
    [
        ("knee", None, [], 1),
        ("best", None, [], 0),
        ("best", "memory_bytes", [], 3),
        ("best", "val_acc", ["memory_bytes<=40"], 1),
        ("best", "val_acc", ["memory_bytes<40"], 2),
        ("best", "memory_bytes", ["val_acc>=0.94", " memory_bytes > 40.5 "], 4),
        ("knee", None, ["val_acc<0.95", "val_acc>0.9"], 4),
    ],
)
def test_select(by, metric, where, expected):
    front = ParetoFront.of(CHOICES, ACCURACY_AND_MEMORY)
    assert front.select(by, metric=metric, where=[Limit.parse(text) for text in where]).number == expected


def test_select_names_the_nearest_when_nothing_is_within_the_limits():
    front = ParetoFront.of(CHOICES, ACCURACY_AND_MEMORY)
    with pytest.raises(
        ValueError, match=r"memory_bytes<=10; the nearest is trial 3 with memory_bytes=20, val_acc=0\.7$"
    ):
        front.select("best", where=[Limit.parse("memory_bytes<=10")])


def test_select_lists_the_metrics_it_knows():
    front = ParetoFront.of(CHOICES, ACCURACY_AND_MEMORY)
    with pytest.raises(ValueError, match="'size'; recorded are memory_bytes, val_acc"):
        front.select(where=[Limit.parse("size<=10")])


@pytest.mark.parametrize("text", ["memory_bytes", "memory_bytes=3", "<=3", "memory_bytes<=", "memory_bytes<=many", ""])
def test_limit_refuses(text):
    with pytest.raises(ValueError, match="a limit is a metric, one of <=, >=, <, >"):
        Limit.parse(text)


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match="row 1 is not"):
        nondominated_ranks([(1, 2), (np.nan, 0)], ["min", "min"])
    with pytest.raises(ValueError, match="one column per mode"):
        nondominated_ranks([(1, 2)], ["min"])
    with pytest.raises(ValueError, match="trial 3 is complete but has no val_acc"):
        ParetoFront.of([TrialResult(3, TrialState.COMPLETE, {}, {}, {})], ACCURACY_AND_MEMORY)


def test_a_large_front_is_quick():
    generator = np.random.default_rng(0)
    points = generator.random((1000, 3))
    assert nondominated_ranks(points, ["min"] * 3).min() == 0
    series = hypervolume_series(points, ["min"] * 3, [1, 1, 1])
    assert series[-1] == pytest.approx(hypervolume(points, ["min"] * 3, [1, 1, 1]))
