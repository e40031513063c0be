"""Attacks on the record: drivers killed at every write, records cut and mutated at every place."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from attacks import (
    ONE_AT_A_TIME,
    SEARCHES,
    MortalDrivers,
    build,
    counted,
    events_in,
    mortal_drivers,
    mutated,
    results_in,
    same,
    sample,
    tries,
)
from search_fixtures import TinyTrainer, tiny

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.record import Reader, held
from bnnsearch.results import TrialResult, TrialState
from bnnsearch.space import Space
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study

pytestmark = pytest.mark.attack


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each search, ended when nothing happened."""
    home = tmp_path_factory.mktemp("quiet")
    for name in SEARCHES:
        run_study(
            tiny(home / name, *SEARCHES[name]), study_dir=home / name / "study", executor=LocalExecutor(),
            build_trainer=build(name),
        )  # fmt: skip
    return {name: home / name for name in SEARCHES}


@pytest.fixture(scope="module")
def drivers() -> Iterator[MortalDrivers]:
    with mortal_drivers() as started:
        yield started


def finish(folder: Path, search: str) -> Sequence[TrialResult]:
    return resume_study(folder / "study", executor=LocalExecutor(), build_trainer=build(search)).results


@pytest.mark.parametrize("search", SEARCHES)
def test_a_driver_killed_at_any_write_loses_nothing(
    tmp_path: Path, quiet: dict[str, Path], drivers: MortalDrivers, search: str
) -> None:
    wanted = same(results_in(quiet[search]))
    assert len({state for _, state, *_ in wanted}) == (1 if search == "grid" else 2)
    writes = len(events_in(quiet[search]))
    for how in ("before", "half", "after"):
        for write in counted(sample(range(1, writes + 1), short=5)):
            folder = tmp_path / f"{how}{write}"
            died = drivers.drive(folder, SEARCHES[search], writes=[write], how=how, trainer=build(search).__name__)
            assert died == -9
            if (how, write) in {("before", 1), ("half", 1)}:
                continue  # no study has begun
            assert same(finish(folder, search)) == wanted, f"killed {how} write {write} of {writes}"
            shutil.rmtree(folder)


@pytest.mark.parametrize("search", SEARCHES)
def test_drivers_that_are_killed_over_and_over_come_to_the_same_end(
    tmp_path: Path, quiet: dict[str, Path], drivers: MortalDrivers, search: str
) -> None:
    for every in counted(sample((6, 7, 8, 9, 12), short=1)):
        folder, codes = tmp_path / str(every), []
        while not codes or codes[-1] == -9:
            codes.append(
                drivers.drive(folder, SEARCHES[search], writes=[every], how="half", trainer=build(search).__name__)
            )
            assert len(codes) < 200, "it does not get on"
        assert codes[-1] == 0
        assert len(codes) > 3
        assert same(results_in(folder)) == same(results_in(quiet[search]))


def test_what_is_to_be_tried_first_outlives_a_driver_that_has_tried_nothing(
    tmp_path: Path, quiet: dict[str, Path], drivers: MortalDrivers
) -> None:
    earlier = ParetoFront.of(results_in(quiet["promotion"]), space_of(quiet["promotion"]).study.objectives).results
    warm = (*ONE_AT_A_TIME, f"warm_start=[{quiet['promotion'] / 'study'}]")
    assert drivers.drive(tmp_path, warm, writes=[2], how="before") == -9
    tried = [dict(each.params) for each in finish(tmp_path, "grid")]
    assert tried[: len(earlier)] == [dict(each.params) for each in earlier]


def copied(quiet: Path, folder: Path, record: bytes) -> Path:
    """A copy of an ended study with another record, and without the states that the search is past."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(quiet, folder)
    (folder / "study/study.record").write_bytes(record)
    return folder


@pytest.mark.parametrize("search", SEARCHES)
def test_a_record_cut_at_any_byte_resumes_to_the_same_end(tmp_path: Path, quiet: dict[str, Path], search: str) -> None:
    record = (quiet[search] / "study/study.record").read_bytes()
    for cut in counted(sample(range(1, len(record)), short=6, full=250)):
        folder = copied(quiet[search], tmp_path / "cut", record[:cut])
        assert same(finish(folder, search)) == same(results_in(quiet[search])), f"cut to {cut} of {len(record)} bytes"


def opened(folder: StudyFolder, space: Space) -> Ledger:
    with held(folder) as record:
        return Ledger(record, study=space.study, space=space.trial)


def space_of(quiet: Path) -> Space:
    return read_past(StudyFolder(quiet / "study")).space


def written(folder: StudyFolder, content: bytes) -> None:
    folder.path.mkdir(exist_ok=True)  # it is taken away with a record that is empty
    folder.record.write_bytes(content)


@pytest.mark.parametrize("search", ["promotion", "retries"])
def test_a_record_cut_at_any_byte_is_a_ledger(tmp_path: Path, quiet: dict[str, Path], search: str) -> None:
    record, space = (quiet[search] / "study/study.record").read_bytes(), space_of(quiet[search])
    results = {each.number: each for each in results_in(quiet[search])}
    folder = StudyFolder(tmp_path / "study")
    for cut in counted(sample(range(len(record)), short=30)):
        written(folder, record[:cut])
        ledger = opened(folder, space)
        whole = record[: record[:cut].rfind(b"\n") + 1]
        assert len(ledger.results) == whole.count(b'{"event": "ended"')
        assert ledger.results == {number: results[number] for number in ledger.results}


@pytest.mark.parametrize("search", ["promotion", "retries"])
def test_a_mutated_record_tells_nothing_that_did_not_happen(
    tmp_path: Path, quiet: dict[str, Path], search: str
) -> None:
    record, space = (quiet[search] / "study/study.record").read_bytes(), space_of(quiet[search])
    happened = {event["n"]: event for event in numbered(quiet[search] / "study/study.record")}
    folder, chance = StudyFolder(tmp_path / "study"), random.Random(14)
    for _ in tries(100):
        written(folder, mutated(record, chance))
        read = list(numbered(folder.record))
        assert [event["n"] for event in read] == sorted({event["n"] for event in read})
        assert all(event == happened[event["n"]] for event in read)
        try:
            ledger = opened(folder, space)
        except EnvironmentProblem as problem:
            assert "no line of the study's record is whole" in str(problem)
            continue
        assert sorted(ledger.results) == sorted(event["number"] for event in read if event["event"] == "ended")
        assert read_past(folder).results == tuple(each for _, each in sorted(ledger.results.items()))


def numbered(path: Path) -> Iterator[dict[str, Any]]:
    reader = Reader(path)
    for event in reader.events():
        yield {**event, "n": reader.last}


def test_a_trial_whose_draw_is_lost_begins_anew(tmp_path: Path, quiet: dict[str, Path]) -> None:
    lines = (quiet["promotion"] / "study/study.record").read_bytes().splitlines(keepends=True)
    lines[36], lines[46] = lines[46], lines[36]  # what lies between them counts for nothing, ends among it
    moved = b"".join(
        lines[11:] + lines[:11]
    )  # so do the first trials' draws, but not the rung that one of them reached
    results = finish(copied(quiet["promotion"], tmp_path / "moved", moved), "promotion")
    assert [each.number for each in results] == list(range(6))


@pytest.mark.parametrize("search", SEARCHES)
def test_a_mutated_record_resumes_to_every_trial_once(tmp_path: Path, quiet: dict[str, Path], search: str) -> None:
    record, chance = (quiet[search] / "study/study.record").read_bytes(), random.Random(41)
    for _ in tries(8, full=2500):
        folder = copied(quiet[search], tmp_path / "mutated", mutated(record, chance))
        try:
            results = finish(folder, search)
        except EnvironmentProblem as problem:
            assert "no line of the study's record is whole" in str(problem)
            continue
        assert [each.number for each in results] == list(range(len(results)))
        repeated = len(results_in(quiet[search])) - 6  # one whose events are lost may no longer be known as such
        assert 0 <= sum(each.retry_of is None for each in results) - 6 <= repeated
        for each in results:  # what the trainer gives, not what some other line said
            if each.state is TrialState.COMPLETE:
                trainer = TinyTrainer(dict(each.config))
                *_, last = trainer.fit()
                assert each.metrics["val_acc"] == last.values["val_acc"]
