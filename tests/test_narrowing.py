"""`resume --space`: what may differ, which trials leave the front, and that everything that tells of a study agrees."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState as OptunaState
from search_fixtures import TinyTrainer, tiny

from bnnsearch.api import Study
from bnnsearch.cli import main
from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import InputError
from bnnsearch.export import Selection, select_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.record import Reader, held
from bnnsearch.results import StopReason, TrialResult, TrialState
from bnnsearch.space import SpaceError
from bnnsearch.study import study as studies
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import StudyOutcome, earlier_study, resume_study, run_study
from bnnsearch.study.worker import Assignment, Job, Report, run_trial
from bnnsearch.tracking.describe import Describer
from bnnsearch.tracking.fold import RunFold

LR = "lr: {type: uniform, min: 0.001, max: 1.0}"
NARROW = (LR, "lr: {type: uniform, min: 0.001, max: 0.4}")
ALONE = "resources={per_trial: {cpu: 1}, max_concurrent: 1}"


class Stopping:
    """Four trials at a time, in turn; a search is interrupted after so many reports."""

    def __init__(self, reports: int) -> None:
        self.reports = reports

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:
        running: deque[tuple[Assignment, Iterator[Report]]] = deque()
        for _ in range(self.reports):
            while len(running) < 4 and (assignment := coordinator.next_trial()) is not None:
                running.append((assignment, run_trial(job, assignment, own_process=False)))
            if not running:
                return
            assignment, reports = running.popleft()
            if coordinator.receive(assignment.number, next(reports)):
                running.append((assignment, reports))
        coordinator.stop(StopReason.INTERRUPTED)


def begin(folder: Path, *overrides: str, executor: Any = None) -> StudyOutcome:
    space = tiny(folder, *overrides)
    executor = executor or LocalExecutor()
    return run_study(space, study_dir=folder / "study", executor=executor, build_trainer=TinyTrainer)


def other(folder: Path, *replacements: tuple[str, str]) -> Path:
    """The study's space with some of its text replaced, as another file."""
    text = (folder / "study/space.yaml").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = folder / "other.yaml"
    path.write_text(text)
    return path


def go_on(folder: Path, space: Path | None = None, *, trials: int | None = None) -> StudyOutcome:
    return resume_study(
        folder / "study", executor=LocalExecutor(), trials=trials, space=space, build_trainer=TinyTrainer
    )


def lr(result: TrialResult) -> float:
    return float(result.params["optimizer.lr"])


def agreed(folder: Path) -> ParetoFront:
    """The study's front, once its record, its copy, the API, MLflow's runs and `export` have the same."""
    study = StudyFolder(folder / "study")
    past = read_past(study)
    front = ParetoFront.of(past.results, past.space.study.objectives)
    assert Study(study.path).pareto.numbers == front.numbers
    copied = [json.loads(line) for line in study.results.read_text().splitlines()]
    assert {each["number"]: each["violations"] for each in copied} == {
        each.number: dict(each.violations) for each in past.results
    }
    fold = RunFold(past.space.study, Describer(past.space.study, "search"))
    tags: dict[str, dict[str, str]] = {}
    for event in Reader(study.record).events():
        for update in fold.updates(event):
            tags.setdefault(update.run, {}).update(update.tags)
    assert fold.front.numbers == front.numbers
    assert {int(run) for run, own in tags.items() if own.get("pareto") == "true"} == front.numbers
    for result in past.results:
        assert tags[str(result.number)]["feasible"] == ("true" if result.feasible else "false")
        if result.state is TrialState.COMPLETE and not result.feasible:
            selection = Selection("trial", number=result.number)
            with pytest.raises(InputError, match="space by 1"):
                select_trial(past.results, past.space.study.objectives, selection)
    return front


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((LR, "lr: {type: loguniform, min: 0.001, max: 1.0}"), r"trial\.optimizer\.lr: uniform .* -> loguniform"),
        ((LR, "lr: 0.1"), r"trial\.optimizer\.lr: uniform \[0\.001, 1\.0\] -> 0\.1"),
        (("epochs: 4", "epochs: 5"), r"trial\.plan\.epochs: 4 -> 5"),
        (("name: adam", "name: sgd"), r"trial\.optimizer\.name: 'adam' -> 'sgd'"),
        (("epochs: 4", "epochs: 4, warmup_epochs: 2"), r"trial\.plan\.warmup_epochs is new"),
        (("[[1], [2], [3]]", "[[1], [2], [3]], default: [2]"), None),
        (("seed: 7", "seed: 8"), r"seed: 7 -> 8"),
        (("{name: random}", "{name: tpe}"), r"sampler\.name: 'random' -> 'tpe'"),
        (("metric: memory_bytes, mode: min", "metric: train_bitops, mode: min"), r"objectives: "),
    ],
)
def test_what_may_not_change_is_refused_with_its_place(
    tmp_path: Path, change: tuple[str, str], told: str | None
) -> None:
    begin(tmp_path, "budget={trials: 1}", ALONE)
    path, before = other(tmp_path, change), (tmp_path / "study/study.record").read_bytes()
    if told is None:
        go_on(tmp_path, path)
        return
    changed = change[1].split("[")[0].split(",")[-1].split(":")[-1]
    with pytest.raises(SpaceError, match=told) as refused:
        go_on(tmp_path, path)
    (line,) = refused.value.lines
    source, number, *_ = line.split(":")
    assert source == str(path)
    assert changed in path.read_text().splitlines()[int(number) - 1]
    assert "only these may change: bounds, choices and branches" in line
    assert (tmp_path / "study/study.record").read_bytes() == before
    assert (tmp_path / "study/space.yaml").read_text() != path.read_text()


def test_trials_outside_leave_the_front_and_come_back_with_the_space(tmp_path: Path) -> None:
    first = begin(tmp_path, "budget={trials: 8}", ALONE)
    out = {each.number for each in first.results if lr(each) > 0.4}
    front = agreed(tmp_path)
    assert out & front.numbers
    assert len(out) < 8

    narrowed = go_on(tmp_path, other(tmp_path, NARROW), trials=12)
    assert len(narrowed.results) == 12
    assert all(lr(each) <= 0.4 for each in narrowed.results[8:])
    assert {each.number for each in narrowed.results if "space" in each.violations} == out
    assert [each.metrics for each in narrowed.results[:8]] == [each.metrics for each in first.results]
    assert not out & agreed(tmp_path).numbers
    assert "max: 0.4" in (tmp_path / "study/space.yaml").read_text()

    again = go_on(tmp_path, trials=13)  # a plain one goes by the latest space
    assert lr(again.results[12]) <= 0.4
    assert {each.number for each in again.results if "space" in each.violations} == out
    assert not out & agreed(tmp_path).numbers

    widened = other(tmp_path, ("max: 0.4", "max: 1.0"))
    assert not any(each.violations for each in go_on(tmp_path, widened).results)
    assert out & front.numbers <= agreed(tmp_path).numbers


@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        "tpe, startup_trials: 3",
        "auto, startup_trials: 3",
        "nsga2, population: 4",
        "nsga3, population: 4",
        "cmaes, startup_trials: 2",
    ],
)
def test_every_sampler_goes_on_within_and_as_if_it_had_not_been_interrupted(tmp_path: Path, sampler: str) -> None:
    def searched(folder: Path, *stops: int) -> list[TrialResult]:
        one = ["objectives=[{metric: val_acc, mode: max}]"] if sampler.startswith("cmaes") else []
        begin(folder, f"sampler={{name: {sampler}}}", "budget={trials: 13}", ALONE, *one)
        outcome = go_on(folder, other(folder, NARROW, ("[[1], [2], [3]]", "[[3], [1]]")), trials=stops[0])
        for stop in stops[1:]:
            outcome = go_on(folder, trials=stop)
        return list(outcome.results)

    whole = searched(tmp_path / "whole", 24)
    within = [each for each in whole if lr(each) <= 0.4 and each.params["model.hidden"] != "[2]"]
    assert {each.number for each in whole if each.feasible} == {each.number for each in within}
    assert {each.number for each in within} >= set(range(13, 24))
    assert len(within) < 24
    parts = searched(tmp_path / "parts", 16, 19, 24)
    assert [each.params for each in parts] == [each.params for each in whole]

    study = StudyFolder(tmp_path / "whole/study")
    past = read_past(study)
    with held(study) as record:
        trials = Ledger(record, study=past.space.study, space=past.space.trial).trials
    failed = {each.number for each in trials if each.state is OptunaState.FAIL and not each.params}
    assert failed == {each.number for each in whole} - {each.number for each in within}


def test_a_grid_tries_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    grid = "trial.optimizer.lr={type: uniform, min: 0.2, max: 0.6, step: 0.2}"
    begin(tmp_path, "sampler={name: grid}", "budget={trials: 5}", ALONE, grid)
    wider = other(tmp_path, ("max: 0.6", "max: 0.8"), ("[[1], [2], [3]]", "[[2], [3], [4]]"))
    results = go_on(tmp_path, wider, trials=100).results
    tried = [(each.params["model.hidden"], round(lr(each), 1)) for each in results]
    assert len(set(tried)) == len(tried)
    within = {place for place, each in zip(tried, results, strict=True) if each.feasible}
    assert within == {(f"[{width}]", step) for width in (2, 3, 4) for step in (0.2, 0.4, 0.6, 0.8)}
    assert len(go_on(tmp_path, trials=101).results) == len(results)


def test_a_step_counts_from_the_new_bound(tmp_path: Path) -> None:
    """No value is moved to the nearest one that is allowed."""
    grid = "trial.optimizer.lr={type: uniform, min: 0.1, max: 0.9, step: 0.2}"
    begin(tmp_path, "budget={trials: 5}", ALONE, grid)
    results = go_on(tmp_path, other(tmp_path, ("min: 0.1", "min: 0.2"), ("max: 0.9", "max: 0.8")), trials=8).results
    assert [each.feasible for each in results] == [False] * 5 + [True] * 3


def test_who_waits_or_runs_outside_ends_and_takes_nobodys_place(tmp_path: Path) -> None:
    scheduler = "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}"
    begin(tmp_path, scheduler, "budget={trials: 30}", "seed=3", "checkpoint.interval=60", executor=Stopping(60))
    study = StudyFolder(tmp_path / "study")
    before = list(Reader(study.record).events())
    asked = {each["number"]: each["params"]["optimizer.lr"] for each in before if each["event"] == "asked"}
    left = asked.keys() - {each["number"] for each in before if each["event"] == "ended"}
    paused = {each["number"] for each in before if each["event"] == "paused"}
    out = {number for number in left if asked[number] > 0.4}
    assert out & paused
    assert out - paused

    outcome = go_on(tmp_path, other(tmp_path, NARROW))
    after = list(Reader(study.record).events())[len(before) :]
    told = {
        kind: {each["number"] for each in after if each["event"] == kind} for kind in ("promoted", "epoch", "ended")
    }
    assert not out & (told["promoted"] | told["epoch"])
    assert out <= told["ended"]
    results = {each.number: each for each in outcome.results}
    for number in out:
        assert results[number].state is TrialState.PRUNED
        assert results[number].reason == "it lies outside the space, which was changed"
        assert results[number].epochs > 0
        assert not results[number].feasible
    within = sorted((each for each in outcome.results if lr(each) <= 0.4), key=lr)
    # the halves are those of the trials within: had the others counted, nobody below .4 would have come this far
    assert sum(each.state is TrialState.COMPLETE for each in within) >= len(within) // 4
    agreed(tmp_path)


def test_branches_forbid_and_constraints_judge_what_has_ended(tmp_path: Path) -> None:
    choice = "trial.method={type: choice, branches: {ste: {}, bop: {}}}"
    begin(tmp_path, "budget={trials: 10}", ALONE, choice, "sampler={name: random}")
    new = other(tmp_path, ("branches: {ste: {}, bop: {}}", "branches: {ste: {}, irnet: {}}"))
    new.write_text(
        new.read_text()
        + "constraints: [{metric: val_acc, min: 0.3}]\nforbid: [{model.hidden: [2], optimizer.lr: {min: 0.5}}]\n"
    )
    results = go_on(tmp_path, new, trials=20).results
    for each in results[:10]:
        forbidden = each.params["model.hidden"] == "[2]" and lr(each) >= 0.5
        assert ("space" in each.violations) == (each.params["method"] == "bop" or forbidden)
        assert each.violations["val_acc"] == pytest.approx(0.3 - each.metrics["val_acc"])
    assert {each.params["method"] for each in results[10:]} == {"ste", "irnet"}
    assert len({each.selectable for each in results[:10]}) == 2


def test_a_constraint_that_ended_trials_cannot_tell_of_is_refused(tmp_path: Path) -> None:
    begin(tmp_path, "budget={trials: 1}", ALONE)
    new = other(tmp_path)
    new.write_text(new.read_text() + "constraints: [{metric: params, max: 10}]\n")
    with pytest.raises(InputError, match="trial 0 has no params; it has: memory_bytes"):
        go_on(tmp_path, new)


def test_a_driver_killed_before_it_wrote_the_file_has_changed_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path, "budget={trials: 4}", ALONE)
    with monkeypatch.context() as patch:
        patch.setattr(studies, "write_space", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path, other(tmp_path, NARROW))
    assert "max: 0.4" not in (tmp_path / "study/space.yaml").read_text()
    with earlier_study(tmp_path / "study") as study:
        assert study.notes[0].endswith("is of before the space was changed; made anew from the study's record")
        assert "max: 0.4" in study.folder.space.read_text()
        assert study.space.trial.parameters()[-1].distribution.describe() == "uniform [0.001, 0.4]"


def test_the_command_says_what_changes_and_what_cannot(tmp_path: Path) -> None:
    begin(tmp_path, "budget={trials: 2}", ALONE)
    call = ["resume", str(tmp_path / "study"), "--space", str(other(tmp_path, ("seed: 7", "seed: 8")))]
    refused = CliRunner().invoke(main, call)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(str(tmp_path / "other.yaml"))
    assert len(refused.stderr.splitlines()) == 1
