"""The front is confirmed: within the search its configurations are trained again with other seeds, and are means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev

import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.study import Objective
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import InputError
from bnnsearch.export import Provenance, Selection, export_best, load_trial, select_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.results import StopReason, StudyObserver, TrialResult, TrialState
from bnnsearch.space import SpaceError, load_space
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import StudyOutcome, resume_study, run_study
from bnnsearch.terminal.text import trials_text
from bnnsearch.tracking.front import write_front
from bnnsearch.tracking.report import report_html
from bnnsearch.tracking.view import StudyView

SEEDS = 3
GOALS = (Objective(metric="val_acc", mode="max"), Objective(metric="memory_bytes", mode="min"))


class LuckyTrainer(TinyTrainer):
    """Its accuracy owes something to the seed, and more to it than to the learning rate."""

    def fit(self) -> Iterator[EpochMetrics]:
        luck = int(self.name) * 0x9E3779B1 % 2**32 / 2**32
        for metrics in super().fit():
            yield EpochMetrics(metrics.epoch, metrics.epochs, "train", {"val_acc": luck + 0.1 * self.x})


class Interruption(StudyObserver):
    """Stops the search after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def search(folder: Path, *overrides: str) -> StudyOutcome:
    space = tiny(folder, f"confirm.seeds={SEEDS}", *overrides)
    study = folder / "study"
    return run_study(space, study_dir=study, executor=LocalExecutor(), build_trainer=LuckyTrainer)


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyOutcome]:
    folder = tmp_path_factory.mktemp("confirmed")
    return folder / "study", search(folder, "budget.trials=12")


def told(results: tuple[TrialResult, ...]) -> list[tuple[object, ...]]:
    return [(each.number, each.state, each.confirms, each.config, each.params, each.metrics) for each in results]


def test_each_point_of_the_front_is_a_mean_without_the_seed_that_selected_it(
    confirmed: tuple[Path, StudyOutcome],
) -> None:
    _, outcome = confirmed
    searched = [each for each in outcome.results if each.confirms is None]
    assert (outcome.stopped, [each.number for each in searched]) == (StopReason.FINISHED, list(range(12)))
    front = ParetoFront.of(outcome.results, GOALS)
    for point in front.results:
        own = outcome.results[point.number]
        again = [each for each in outcome.results if each.confirms == point.number]
        assert [each.config for each in again] == [
            {**own.config, "seed": own.config["seed"] + repeat} for repeat in range(1, SEEDS)
        ]
        assert {(each.state, each.epochs) for each in again} == {(TrialState.COMPLETE, 4)}
        values = [each.metrics["val_acc"] for each in again]
        assert point.metrics["val_acc"] == pytest.approx(fmean(values))
        assert front.confirmed[point.number].seeds == SEEDS - 1
        assert front.deviation(point.number, "val_acc") == pytest.approx(stdev(values))
        assert front.deviation(point.number, "memory_bytes") is None


def test_a_point_that_only_one_seed_put_on_the_front_is_not_on_it(confirmed: tuple[Path, StudyOutcome]) -> None:
    _, outcome = confirmed
    before = ParetoFront.of([each for each in outcome.results if each.confirms is None], GOALS)
    after = ParetoFront.of(outcome.results, GOALS)
    fell = before.numbers - after.numbers
    assert fell, "the trainer's luck decides otherwise than its means"
    assert after.numbers - before.numbers, "what came onto the front in their place is confirmed too"
    assert {each.number for each in after.candidates} == set(range(12))
    assert after.numbers | fell <= set(after.confirmed)


@pytest.mark.parametrize("epochs", [12 * 4, 12 * 4 + 1, 12 * 4 + 6])
def test_interrupted_and_resumed_it_trains_the_same_trials(
    tmp_path: Path, confirmed: tuple[Path, StudyOutcome], epochs: int
) -> None:
    space = tiny(tmp_path, f"confirm.seeds={SEEDS}", "budget.trials=12")
    study = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run_study(
            space,
            study_dir=study,
            executor=LocalExecutor(),
            observers=[Interruption(epochs)],
            build_trainer=LuckyTrainer,
        )
    assert len(read_past(StudyFolder(study)).results) < len(confirmed[1].results)
    outcome = resume_study(study, executor=LocalExecutor(), build_trainer=LuckyTrainer)
    assert told(outcome.results) == told(confirmed[1].results) == told(read_past(StudyFolder(study)).results)


def test_a_search_that_goes_on_confirms_what_is_new_on_its_front(tmp_path: Path) -> None:
    first = search(tmp_path)
    study = tmp_path / "study"
    again = resume_study(study, executor=LocalExecutor(), build_trainer=LuckyTrainer)
    assert told(again.results) == told(first.results)  # nothing is lacking
    more = resume_study(study, executor=LocalExecutor(), trials=20, build_trainer=LuckyTrainer)
    assert sum(each.confirms is None for each in more.results) == 20
    front = ParetoFront.of(more.results, GOALS)
    assert {each.seeds for number, each in front.confirmed.items() if number in front.numbers} == {SEEDS - 1}
    assert front.numbers <= set(front.confirmed)


def test_what_confirms_is_neither_stopped_at_a_rung_nor_spared_its_training(tmp_path: Path) -> None:
    halving = "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}"
    outcome = search(tmp_path, halving, "budget.trials=12", "skip=dominated")
    again = [each for each in outcome.results if each.confirms is not None]
    assert {(each.state, each.epochs) for each in again} == {(TrialState.COMPLETE, 4)}
    assert any(each.state is TrialState.PRUNED for each in outcome.results)


def test_a_failed_repetition_is_counted_and_not_tried_for_ever(tmp_path: Path) -> None:
    space = tiny(tmp_path, f"confirm.seeds={SEEDS}", "retries=0")
    known: set[str] = set()

    class Failing(LuckyTrainer):
        def fit(self) -> Iterator[EpochMetrics]:
            if len(known | {self.name}) > 4:
                raise ValueError("only the search's own seeds train")
            known.add(self.name)
            yield from super().fit()

    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=Failing)
    alone, front = ParetoFront.of(outcome.results[:4], GOALS), ParetoFront.of(outcome.results, GOALS)
    assert (front.results, dict(front.confirmed)) == (alone.results, {})
    assert [each.state for each in outcome.results[4:]] == [TrialState.FAILED] * (2 * len(alone.results))


def test_the_export_says_the_mean_and_its_deviation(confirmed: tuple[Path, StudyOutcome], tmp_path: Path) -> None:
    _, outcome = confirmed
    front, path = ParetoFront.of(outcome.results, GOALS), tmp_path / "best.yaml"
    best = front.results[0]
    origin = Provenance(study="tiny", search_id="tiny-1", trial=0)
    export_best(outcome.results, GOALS, selection=Selection("best"), provenance=origin, path=path)
    _, found = load_trial(path)
    assert found is not None
    assert (found.trial, found.repeats) == (best.number, SEEDS - 1)
    assert found.expected["val_acc"] == pytest.approx(best.metrics["val_acc"])
    assert found.deviation["val_acc"] == pytest.approx(front.deviation(best.number, "val_acc"))
    chosen = select_trial(outcome.results, GOALS, Selection("trial", number=best.number))
    assert chosen.metrics == best.metrics
    repeat = next(each for each in outcome.results if each.confirms is not None)
    with pytest.raises(InputError, match=f"trial {repeat.number} repeats trial {repeat.confirms} with another seed"):
        select_trial(outcome.results, GOALS, Selection("trial", number=repeat.number))


def test_the_report_and_the_counts_tell_them_apart(confirmed: tuple[Path, StudyOutcome], tmp_path: Path) -> None:
    _, outcome = confirmed
    repeats = len(outcome.results) - 12
    assert trials_text(outcome.results, 12) == f"12/12 trials and {repeats} that confirm the front"
    view = StudyView(outcome.study, outcome.results, {})
    assert {each.number for group in view.groups.values() for each in group} == set(range(12))
    text = report_html(view, "tiny-1")
    best = view.front.results[0]
    deviation = view.front.deviation(best.number, "val_acc")
    assert "confirm the front" in text
    assert f"{best.metrics['val_acc']:.4f} ± {deviation:.4f}" in text
    write_front(view.front, tmp_path)
    front = json.loads((tmp_path / "front.json").read_text())
    assert {point["seeds"] for point in front["trials"]} == {SEEDS - 1}
    assert all(point["deviation"]["val_acc"] > 0 for point in front["trials"])


@pytest.mark.parametrize(
    ("confirm", "message"),
    [
        ("{seeds: 1}", "confirm.seeds: must be greater than or equal to 2, but got 1"),
        ("{seeds: 3, on: all}", "confirm.on: unknown value 'all'; allowed: front"),
        ("{}", "confirm.seeds"),
    ],
)
def test_a_bad_setting_is_refused_where_it_stands(tmp_path: Path, confirm: str, message: str) -> None:
    path = tiny(tmp_path).path
    text = path.read_text() + f"confirm: {confirm}\n"
    path.write_text(text)
    line = text.count("\n")
    with pytest.raises(SpaceError, match=rf"tiny\.yaml:{line}:\d+: {re.escape(message)}"):
        load_space(path)


def run_of(number: int, val_acc: float, memory_bytes: float, *, confirms: int | None = None) -> TrialResult:
    metrics = {"val_acc": val_acc, "memory_bytes": memory_bytes}
    return TrialResult(number, TrialState.COMPLETE, config={}, params={}, metrics=metrics, confirms=confirms)


@pytest.mark.parametrize(("spread", "named"), [(0.02, True), (0.001, False)])
def test_a_point_that_noise_alone_puts_on_the_front_is_named(spread: float, named: bool) -> None:
    """Trial 1 is .01 more accurate in the mean; with deviations of .02 * sqrt(2) the error of that is .028."""
    means = {0: (0.90, 100.0), 1: (0.91, 200.0), 2: (0.5, 50.0)}
    results = [run_of(number, *point) for number, point in means.items()]
    for number, (accuracy, memory) in means.items():
        for side in (-spread, spread):
            results.append(run_of(len(results), accuracy + side, memory, confirms=number))
    front = ParetoFront.of(results, GOALS)
    assert front.numbers == {0, 1, 2}
    told = "trial 1 is on the front by noise alone: within 2 standard errors nothing speaks for it against trial 0"
    assert front.noise == ((told,) if named else ())
    assert ParetoFront.of(results[:3], GOALS).noise == ()  # one seed each: nobody knows
    assert ParetoFront.of(results[:4], GOALS).noise == ()
