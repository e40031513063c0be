"""What goes wrong around a search, and that a resumed search ends as if nothing had."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from search_fixtures import TinyTrainer, ticking_clock, tiny

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import Record, held
from bnnsearch.results import StudyObserver, TrialResult, TrialState
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import StudyOutcome, earlier_study, resume_study, run_study

ONE_AT_A_TIME = ("budget.trials=6", "resources.max_concurrent=1", "sampler={name: tpe, startup_trials: 2}")
RUNNERS = ["local", pytest.param("ray", marks=pytest.mark.slow)]


def same(results: Sequence[TrialResult]) -> list[tuple[Any, ...]]:
    """What two runs of one search must agree on."""
    return [(each.number, each.state, each.params, each.metrics, each.epochs, each.reason) for each in results]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The search of ONE_AT_A_TIME when nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    space = tiny(folder, *ONE_AT_A_TIME)
    outcome = run_study(space, study_dir=folder / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert [result.state for result in outcome.results] == [TrialState.COMPLETE] * 6
    return same(outcome.results)


@contextmanager
def driver(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("search_driver.py")), str(folder), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            assert end is not None
            end.close()


def go_on(process: subprocess.Popen[str]) -> None:
    """Lets the driver go on from the epoch at which it waits."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_until(process: subprocess.Popen[str], start: str) -> str:
    """Reads the driver's events until the one that starts so; if it is an epoch's, the driver waits there."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(start):
            return line.strip()
        if line.startswith("epoch"):
            go_on(process)
    pytest.fail(f"the driver ended with {process.wait()} and never said {start!r}")


def finish(folder: Path, **extra: Any) -> StudyOutcome:
    return resume_study(folder / "study", executor=LocalExecutor(), build_trainer=TinyTrainer, **extra)


def past_of(folder: Path) -> Sequence[TrialResult]:
    return read_past(StudyFolder(folder / "study")).results


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_killed_driver_loses_nothing(tmp_path: Path, undisturbed: list[tuple[Any, ...]], runner: str) -> None:
    with driver(tmp_path, runner, "TinyTrainer", *ONE_AT_A_TIME) as process:
        read_until(process, "epoch 3 2")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    assert same(finish(tmp_path).results) == undisturbed
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study/study.journal"))
    )
    states = [trial.state.name for trial in optuna.load_study(study_name="tiny", storage=storage).trials]
    assert states == ["COMPLETE"] * 6


@pytest.mark.parametrize("runner", ["local", pytest.param("ray", marks=pytest.mark.full)])
def test_trials_that_waited_when_the_driver_was_killed_are_promoted_as_if_it_had_not(
    tmp_path: Path, runner: str
) -> None:
    halving = (*ONE_AT_A_TIME, "scheduler={name: asha, grace_epochs: 1, reduction_factor: 2}", "budget.trials=10")
    space = tiny(tmp_path / "quiet", *halving)
    quiet = run_study(space, study_dir=tmp_path / "quiet/study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    with driver(tmp_path, runner, "TinyTrainer", *halving) as process:
        read_until(process, "epoch 6 1")
        process.send_signal(signal.SIGKILL)
        process.wait()
    states = [result.state for result in quiet.results]
    assert len(past_of(tmp_path)) < 5  # most of the first six wait

    assert same(finish(tmp_path).results) == same(quiet.results)
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}


class Died(BaseException):
    """The driver is no more."""


@pytest.mark.parametrize("halving", ["promotion", "stopping"])
def test_a_driver_that_dies_between_any_two_events_of_a_halved_search_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halving: str
) -> None:
    settings = (
        *ONE_AT_A_TIME,
        f"scheduler={{name: asha, type: {halving}, grace_epochs: 1, reduction_factor: 2}}",
        "budget.trials=6",
    )
    left = sys.maxsize
    append = Record.append

    def mortal_append(record: Record, event: str, **fields: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Died
        append(record, event, **fields)

    def search(folder: Path) -> StudyOutcome:
        space = tiny(folder, *settings)
        return run_study(space, study_dir=folder / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)

    monkeypatch.setattr(Record, "append", mortal_append)
    quiet = same(search(tmp_path / "quiet").results)
    events = sys.maxsize - left
    assert {state for _, state, *_ in quiet} == {TrialState.COMPLETE, TrialState.PRUNED}
    for count in range(1, events):  # with no event at all no study has begun
        folder, left = tmp_path / str(count), count
        with pytest.raises(Died):
            search(folder)
        left = sys.maxsize
        assert same(finish(folder).results) == quiet, f"it died after {count} of {events} events"


SIGNALS = pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "number", "said"),
    [
        ("local", signal.SIGINT, "interrupted"),
        ("local", signal.SIGTERM, "terminated"),
        pytest.param("ray", signal.SIGINT, "interrupted", marks=pytest.mark.full),
        ("ray", signal.SIGTERM, "terminated"),
    ],
)
def test_a_signal_to_the_driver_ends_it_in_good_order(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], runner: str, number: signal.Signals, said: str
) -> None:
    with driver(tmp_path, runner, "TinyTrainer", *ONE_AT_A_TIME) as process:
        read_until(process, "epoch 3 2")
        process.send_signal(number)
        go_on(process)
        assert read_until(process, "stopped") == f"stopped {said} 3"
        assert process.wait() == 0

    assert same(finish(tmp_path).results) == undisturbed


class Signaller(StudyObserver):
    """Sends its own process a signal in the second epoch of trial 3."""

    def __init__(self, number: signal.Signals = signal.SIGINT) -> None:
        self.number = number

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        if (number, metrics.epoch) == (3, 2):
            os.kill(os.getpid(), self.number)


def interrupted(folder: Path, number: signal.Signals = signal.SIGINT) -> StudyOutcome:
    """The search of ONE_AT_A_TIME, stopped by a signal in trial 3."""
    return run_study(
        tiny(folder, *ONE_AT_A_TIME),
        study_dir=folder / "study",
        executor=LocalExecutor(),
        observers=[Signaller(number)],
        build_trainer=TinyTrainer,
    )


@SIGNALS
def test_a_signal_stops_the_search_and_resume_ends_it(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], number: signal.Signals, said: str
) -> None:
    before = signal.getsignal(number)
    outcome = interrupted(tmp_path, number)
    assert (outcome.stopped, same(outcome.results)) == (said, undisturbed[:3])
    assert signal.getsignal(number) is before

    assert same(finish(tmp_path).results) == undisturbed


@pytest.mark.slow
def test_a_second_signal_ends_a_driver_that_hangs(tmp_path: Path) -> None:
    with driver(tmp_path, "local", "DeafTrainer", *ONE_AT_A_TIME) as process:
        read_until(process, "hangs")
        process.send_signal(signal.SIGINT)
        read_until(process, "hangs on")
        process.send_signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT


def test_wall_time_leaves_running_trials_to_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking_clock(monkeypatch)
    space = tiny(tmp_path, "budget={trials: 50, wall_time: 2s}")
    first = run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert first.stopped == "wall_time"
    assert 0 < len(first.results) < 50
    second = finish(tmp_path)
    assert second.stopped == "wall_time"
    assert [result.number for result in second.results] == list(range(len(second.results)))
    assert len(second.results) > len(first.results)


def cut_last_line(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def garble_the_middle(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = b"\0" * 20
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("spoil", [lambda state: state.write_bytes(b""), cut_last_line, garble_the_middle])
def test_a_damaged_checkpoint_costs_a_repetition_only(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], spoil: Callable[[Path], None]
) -> None:
    interrupted(tmp_path)
    (state,) = (tmp_path / "study/checkpoints").glob("3.pt")
    spoil(state)

    assert same(finish(tmp_path).results) == undisturbed
    assert "trial 3 starts anew" in (tmp_path / "study/search.log").read_text()


def test_an_edited_space_is_refused_with_the_difference(tmp_path: Path) -> None:
    space = tiny(tmp_path, *ONE_AT_A_TIME)
    run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    file = tmp_path / "study/space.yaml"
    file.write_text(file.read_text().replace("epochs: 4", "epochs: 9"))

    told = r"only budget, confirm, tracking\.uri may be: trial\.plan\.epochs: 4 -> 9; without the file"
    with pytest.raises(InputError, match=told):
        finish(tmp_path)


def test_budget_and_store_may_be_edited(tmp_path: Path) -> None:
    space = tiny(tmp_path, *ONE_AT_A_TIME, "tracking={experiment: one, uri: 'sqlite:///a.db'}")
    run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    file = tmp_path / "study/space.yaml"
    file.write_text(file.read_text().replace("trials: 6", "trials: 7").replace("a.db", "b.db"))
    with earlier_study(tmp_path / "study") as study:
        assert (study.space.study.budget.trials, study.space.study.tracking.uri) == (7, "sqlite:///b.db")
        told = 'space.yaml: edited: budget.trials: 6 -> 7; tracking.uri: "sqlite:///a.db" -> "sqlite:///b.db"'
        assert study.notes[0].endswith(told)
    file.write_text(file.read_text().replace("experiment: one", "experiment: two"))
    with pytest.raises(InputError, match=r'may be: tracking\.experiment: "one" -> "two"'):
        finish(tmp_path)


def test_a_study_has_one_driver(tmp_path: Path) -> None:
    space = tiny(tmp_path, *ONE_AT_A_TIME)
    run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    folder = StudyFolder(tmp_path / "study")
    with held(folder), pytest.raises(InputError, match="another process is working on this study"):
        finish(tmp_path)


@pytest.mark.slow
def test_two_studies_at_once_do_not_mix(tmp_path: Path, undisturbed: list[tuple[Any, ...]]) -> None:
    with (
        driver(tmp_path / "a", "local", "TinyTrainer", *ONE_AT_A_TIME) as a,
        driver(tmp_path / "b", "local", "TinyTrainer", *ONE_AT_A_TIME, "seed=8") as b,
    ):
        for process in (a, b):
            read_until(process, "epoch 0 1")  # both are in the middle of it
        for process in (a, b):
            go_on(process)
            assert read_until(process, "stopped") == "stopped finished 6"
    results = [same(past_of(tmp_path / name)) for name in ("a", "b")]
    assert results[0] == undisturbed
    assert all(left[2] != right[2] for left, right in zip(*results, strict=True))


class FullDisk(Signaller):
    """An observer that can no longer write."""

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        if (number, metrics.epoch) == (3, 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "epochs.jsonl")


@pytest.mark.parametrize("runner", RUNNERS)
def test_what_goes_wrong_on_the_driver_is_not_taken_for_a_trial(
    tmp_path: Path, undisturbed: list[tuple[Any, ...]], runner: str, request: pytest.FixtureRequest
) -> None:
    if runner == "ray":
        request.getfixturevalue("small_ray")
    with pytest.raises(EnvironmentProblem, match=r"No space left on device: epochs\.jsonl; everything so far is saved"):
        run_study(
            tiny(tmp_path, *ONE_AT_A_TIME),
            study_dir=tmp_path / "study",
            executor=RayExecutor() if runner == "ray" else LocalExecutor(),
            observers=[FullDisk()],
            build_trainer=TinyTrainer,
        )
    assert same(finish(tmp_path).results) == undisturbed


def test_a_full_disk_ends_the_search_with_what_to_do(tmp_path: Path, undisturbed: list[tuple[Any, ...]]) -> None:
    space = tiny(tmp_path, *ONE_AT_A_TIME)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))  # as on a full disk, no file grows beyond this
    try:
        with pytest.raises(EnvironmentProblem, match=r"File too large.*everything so far is saved"):
            run_study(space, study_dir=tmp_path / "study", executor=LocalExecutor(), build_trainer=TinyTrainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert same(finish(tmp_path).results) == undisturbed
