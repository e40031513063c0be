"""What a trial learns or starts from is trained before it: told, once for all that need it, beyond the trial's time."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from search_fixtures import TinyTrainer, tiny

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.results import StopReason, StudyObserver, TrialState
from bnnsearch.study.executor import Executor
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study
from bnnsearch.study.worker import Assignment, Costs, Job, Preparation, Report, run_trial
from bnnsearch.trial import build_trainer, preparing

TEACHER = {"name": "twin", "optimizer": {"name": "adam", "lr": 0.01}, "plan": {"epochs": 3}}
START = {"name": "twin", "activations": "binary", "plan": {"epochs": 2}, "distill": {"teacher": TEACHER}}
CONFIG: dict[str, Any] = {
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [16]},
    "method": {"name": "ste"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "plan": {"epochs": 2},
    "distill": {"teacher": TEACHER},
    "start": START,
    "seed": 5,
}


class Watcher(StudyObserver):
    """Hears what is said; may stop the search when it hears of an epoch."""

    def __init__(self, last: str = "never") -> None:
        self.last, self.lines = last, list[str]()

    def said(self, line: str) -> None:
        if "epoch" in line:
            self.lines.append(line)
            if self.last in line:
                signal.raise_signal(signal.SIGINT)


def real(config: dict[str, Any], *, kept: Path) -> Trainer:
    return build_trainer(TrialConfig.model_validate(config), kept=kept)


def prepare(config: dict[str, Any], *, kept: Path) -> Iterator[EpochMetrics]:
    return preparing(TrialConfig.model_validate(config), kept=kept)


def reports(job: Job, number: int = 0) -> list[Report]:
    """All of a trial, without what the clock decides."""
    found: list[Report] = []
    trial = run_trial(job, Assignment(number, CONFIG), own_process=False)
    for report in trial:
        found.append(report)
        if isinstance(report, EpochMetrics):
            report.values.pop("images_per_s", None)  # type: ignore[attr-defined]  # a trainer's own dict
            if report.epoch == report.epochs:
                trial.close()
                break
    return found


def test_a_chain_is_trained_first_once_and_changes_nothing(tmp_path: Path) -> None:
    alone = reports(Job(partial(real, kept=tmp_path / "alone"), tmp_path))
    kept = tmp_path / "kept"
    job = Job(partial(real, kept=kept), tmp_path, prepare=partial(prepare, kept=kept))
    first, second = reports(job), reports(job, 1)
    prepared = [report.metrics for report in first if isinstance(report, Preparation)]
    assert [(each.phase, each.epoch) for each in prepared] == [
        *(("teacher train", epoch) for epoch in (1, 2, 3)),
        *(("start train", epoch) for epoch in (1, 2)),  # which has the same teacher
    ]
    assert isinstance(first[len(prepared)], Costs)
    assert first[len(prepared) :] == second == alone


TESTS_OWN = 36_000
"""Seconds: more than pytest's own limit, which runs on the same alarm."""


class Timed(TinyTrainer):
    """Notes whether the trial's time runs while it trains."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            assert signal.getitimer(signal.ITIMER_REAL)[0] > TESTS_OWN
            yield metrics


def test_the_trials_time_begins_after_its_preparation(tmp_path: Path) -> None:
    clocks: list[float] = []

    def untimed(config: dict[str, Any]) -> Iterator[EpochMetrics]:
        for epoch in (1, 2):
            clocks.append(signal.getitimer(signal.ITIMER_REAL)[0])
            yield EpochMetrics(epoch, 2, "teacher train", {})

    job = Job(Timed, tmp_path, prepare=untimed, time_limit=2 * TESTS_OWN)
    found = reports(job)
    assert len(clocks) == 2 and max(clocks) < TESTS_OWN
    assert [type(report) for report in found] == [Preparation, Preparation, Costs, EpochMetrics, EpochMetrics]


def test_a_search_tells_of_a_teacher_and_trains_it_once_for_all(tmp_path: Path, executor: Executor) -> None:
    space = tiny(
        tmp_path,
        "trial.distill={teacher: {name: network, model: {name: mlp, hidden: [8]}, plan: {epochs: 10}}}",
        "trial.plan.epochs=1",
        "budget.trials=3",
        "resources.trial_timeout=1h",
    )
    watcher = Watcher()
    outcome = run_study(space, study_dir=tmp_path / "study", executor=executor, observers=[watcher])
    assert [result.state for result in outcome.results] == [TrialState.COMPLETE] * 3
    told = Counter(line.partition(": ")[2] for line in watcher.lines)
    assert told == Counter(f"teacher train, epoch {epoch}/10" for epoch in range(1, 11))


def test_a_search_that_is_stopped_in_a_preparation_goes_on(tmp_path: Path) -> None:
    space = tiny(
        tmp_path,
        "trial.distill={teacher: {name: twin, plan: {epochs: 20}}}",
        "budget.trials=1",
        "trial.plan.epochs=1",
    )
    first, second = Watcher("epoch 4/"), Watcher()
    outcome = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), observers=[first])
    assert (outcome.stopped, outcome.results) == (StopReason.INTERRUPTED, ())
    assert first.lines == ["trial 0: teacher train, epoch 2/20", "trial 0: teacher train, epoch 4/20"]
    outcome = resume_study(tmp_path / "study", executor=LocalExecutor(), observers=[second])
    assert [result.state for result in outcome.results] == [TrialState.COMPLETE]
    assert second.lines[-1] == "trial 0: teacher train, epoch 20/20"


def test_where_nothing_can_be_kept_the_trial_trains_it_itself(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = tmp_path / "file" / "kept"
    job = Job(partial(real, kept=kept), tmp_path, prepare=partial(prepare, kept=kept))
    alone = reports(Job(partial(real, kept=tmp_path / "alone"), tmp_path))
    assert reports(job) == alone
