"""Decisions that are kept up with each result are those that reading all results would make."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.metrics import Mode
from bnnsearch.config.scheduler import AshaConfig
from bnnsearch.config.study import Objective, StudyConfig
from bnnsearch.pareto import (
    GrowingFront,
    GrowingVolume,
    ParetoFront,
    crowding_distance,
    dominates,
    hypervolume_series,
    nondominated_ranks,
    reference_point,
)
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.promotion import Promotion
from bnnsearch.study.schedulers import ranking
from bnnsearch.study.study import run_study
from bnnsearch.study.worker import Assignment, Job, Report, run_trial

MODES: list[Mode] = ["max", "min", "min"]
METRICS = ["val_acc", "memory_bytes", "train_bitops"]

histories = st.integers(1, 3).flatmap(
    lambda width: st.tuples(
        st.lists(
            st.tuples(*[st.integers(0, 6) | st.integers(-2000, 2000).map(lambda each: each / 1000)] * width),
            min_size=1,
            max_size=40,
        ),
        st.randoms(use_true_random=False),
    )
)


@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_the_volume_is_that_of_all_results_in_the_order_of_their_numbers(
    history: tuple[list[Sequence[float]], random.Random],
) -> None:
    rows, chance = history
    modes = MODES[: len(rows[0])]
    growing, so_far = GrowingVolume(modes), dict[int, Sequence[float]]()
    for number in chance.sample(range(len(rows)), len(rows)):
        growing.add(number, rows[number])
        so_far[number] = rows[number]
        table = np.array([so_far[each] for each in sorted(so_far)], dtype=float)
        origin = reference_point(table[:10], modes)
        sides = np.abs(origin - [table[:10, at].max() if mode == "max" else table[:10, at].min()
                                 for at, mode in enumerate(modes)])  # fmt: skip
        series = hypervolume_series(table, modes, origin) / float(np.prod(sides))
        assert [growing.after(each) for each in range(1, len(growing) + 1)] == series.tolist()


@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_what_any_result_dominates_a_result_on_the_front_dominates(
    history: tuple[list[Sequence[float]], random.Random],
) -> None:
    rows, chance = history
    modes = MODES[: len(rows[0])]
    front = GrowingFront(modes)
    for number, row in enumerate(rows):
        front.add(number, row)
        wanted = [chance.choice(rows)[at] for at in range(len(modes))]
        dominators = [each for each in range(number + 1) if dominates(rows[each], wanted, modes)]
        found = front.dominator(wanted)
        assert found in dominators if dominators else found is None
        columns = zip(*rows[: number + 1], strict=True)
        assert front.best == [max(c) if mode == "max" else min(c) for c, mode in zip(columns, modes, strict=True)]


@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_a_ranking_is_that_of_each_rank_by_itself(history: tuple[list[Sequence[float]], random.Random]) -> None:
    rows, _ = history
    modes = MODES[: len(rows[0])]
    values = np.array(rows, dtype=float)
    ranks = nondominated_ranks(values, modes)
    spread = np.zeros(len(rows))
    for rank in np.unique(ranks):
        spread[ranks == rank] = spread_of(values[ranks == rank])
    assert crowding_distance(values, ranks).tolist() == spread.tolist()
    first = -values[:, 0]
    assert ranking(dict(enumerate(rows)), modes) == sorted(
        range(len(rows)), key=lambda each: (ranks[each], -spread[each], first[each], each)
    )


@given(history=histories)
@settings(max_examples=100, deadline=None)
def test_a_front_that_grows_is_that_of_all_results(history: tuple[list[Sequence[float]], random.Random]) -> None:
    rows, chance = history
    objectives = [Objective(metric=metric, mode=mode) for metric, mode in zip(METRICS, MODES, strict=True)][
        : len(rows[0])
    ]
    results: list[TrialResult] = []
    front = ParetoFront.of(results, objectives)
    for number in chance.sample(range(len(rows)), len(rows)):
        metrics = dict(zip(METRICS, rows[number], strict=False))
        violations = {"val_loss": chance.choice([-1.0, 0.0, 0.5])}
        results.append(TrialResult(number, TrialState.COMPLETE, {}, {}, metrics, violations))
        front = front.grown(results[-1])
        whole = ParetoFront.of(results, objectives)
        assert front == whole
        assert front.hypervolume == whole.hypervolume


@given(history=histories, factor=st.integers(2, 4))
@settings(max_examples=200, deadline=None)
def test_who_goes_on_and_who_is_lost_is_that_of_a_rung_ranked_anew(
    history: tuple[list[Sequence[float]], random.Random], factor: int
) -> None:
    rows, chance = history
    modes = MODES[: len(rows[0])]
    rungs: dict[int, dict[int, Sequence[float]]] = {1: {}, 3: {}}
    released: dict[int, set[int]] = {1: set(), 3: set()}
    waiting: dict[int, int] = {}
    promotion = Promotion(AshaConfig(reduction_factor=factor), modes, rungs, released)

    def order(epoch: int) -> list[int]:
        return ranking({each: v for each, v in rungs[epoch].items() if each not in released[epoch]}, modes)

    def share(epoch: int, coming: int) -> float:
        return (len(rungs[epoch]) + coming) / factor

    for number, row in enumerate(rows):
        rungs[1][number], waiting[number] = row, 1
        if waiting and chance.random() < 0.3:  # one comes to the next rung
            higher = chance.choice([each for each in rungs[1] if each not in released[1] | rungs[3].keys()])
            rungs[3][higher], waiting[higher] = chance.choice(rows), 3
        coming = chance.choice([0, 1, 5])
        expected = [
            each
            for epoch in sorted(set(waiting.values()), reverse=True)
            for each in order(epoch)[: (math.floor if coming else math.ceil)(share(epoch, 0))]
            if waiting.get(each) == epoch
        ]
        chosen = promotion.next(waiting, lambda *_, coming=coming: coming)
        assert chosen == (expected[0] if expected else None)
        if chosen is not None and chance.random() < 0.7:
            del waiting[chosen]
        lost = promotion.lost(waiting, lambda *_, coming=coming: coming)
        assert lost == [
            each
            for epoch in sorted(set(waiting.values()))
            for each in order(epoch)[math.ceil(share(epoch, coming)) :]
            if waiting.get(each) == epoch
        ]
        for each in lost if chance.random() < 0.7 else ():
            released[waiting.pop(each)].add(each)


def spread_of(table: np.ndarray) -> np.ndarray:
    """The crowding distance as Deb et al. write it."""
    distance = np.zeros(len(table))
    for column in table.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        if span > 0:
            distance[order[[0, -1]]] = np.inf
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


class Shuffled:
    """Trials that report in turns of chance, eight at a time."""

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:
        chance = random.Random(study.seed)
        running: deque[tuple[Assignment, Iterator[Report]]] = deque()
        while True:
            while len(running) < 8 and (assignment := coordinator.next_trial()) is not None:
                running.append((assignment, run_trial(job, assignment, own_process=False)))
            if not running:
                return
            running.rotate(chance.randrange(8))
            assignment, reports = running.popleft()
            if coordinator.receive(assignment.number, next(reports)):
                running.append((assignment, reports))


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_a_search_decides_as_if_it_read_all_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    """Trials to come, stagnation and the waiting ones are counted anew at each decision, as they once were."""
    to_come, stagnant = Coordinator._to_come, Coordinator._stagnant
    counted, judged = [], []

    def counts(self: Coordinator, own_epoch: int, bracket: int) -> int:
        reached, of = self._ledger.rungs[own_epoch], self._study.scheduler.bracket
        begun = (*(each.number for each in self._unfinished), *self._running, *self._waiting)
        new = 0 if self._budget_spent() else max(0, self._study.budget.trials - len(self._ledger))
        counted.append(new + sum(each not in reached and of(each) == bracket for each in begun))
        assert to_come(self, own_epoch, bracket) == counted[-1]
        assert self._waiting_at == {number: trial.own_epoch for number, trial in self._waiting.items()}
        assert self._waiting_seconds == pytest.approx(sum(trial.seconds for trial in self._waiting.values()))
        return counted[-1]

    def stagnates(self: Coordinator) -> bool:
        wanted = self._study.budget.stagnation
        assert wanted is not None
        series = ParetoFront.of(list(self.results.values()), self._study.objectives).hypervolume_series()
        before = len(series) - 1 - wanted.trials
        judged.append(before >= 0 and bool(series[-1] - series[before] <= wanted.gain * series[-1]))
        assert stagnant(self) == judged[-1]
        return judged[-1]

    monkeypatch.setattr(Coordinator, "_to_come", counts)
    monkeypatch.setattr(Coordinator, "_stagnant", stagnates)
    space = tiny(
        tmp_path,
        "budget={trials: 400, stagnation: {trials: 8, gain: 0.01}}",
        f"scheduler={{name: {scheduler}, reduction_factor: 2}}",
        "skip=dominated",
    )
    outcome = run_study(space, study_dir=tmp_path / "study", executor=Shuffled(), build_trainer=TinyTrainer)
    reasons = [each.reason or "" for each in outcome.results if each.state is TrialState.PRUNED]
    assert any(reason.startswith("not trained") for reason in reasons)
    assert any(reason.startswith("stopped at") for reason in reasons)
    assert any(judged)
    assert any(counted)
    assert len(outcome.results) < 400
