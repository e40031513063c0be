"""Attacks on a search on Ray: its driver, its worker, its GCS and its raylet, killed at any write of the record.

There is one worker, so each search must come to the end that it has without Ray and without a fault.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from attacks import FULL, SEARCHES, MortalDrivers, build, counted, events_in, mortal_drivers, results_in, same, sample
from search_fixtures import tiny

from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.own_ray import VITAL
from bnnsearch.study.study import run_study

pytestmark = [pytest.mark.attack, pytest.mark.slow]

SEARCH = SEARCHES["promotion"]
PATIENT = (*SEARCH, "retries=100")
"""The worker may die as often as it likes."""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the search, ended when nothing happened."""
    home = tmp_path_factory.mktemp("quiet")
    run_study(tiny(home, *SEARCH), study_dir=home / "study", executor=LocalExecutor(), build_trainer=build("promotion"))
    return home


@pytest.fixture(scope="module")
def drivers(small_ray: None) -> Iterator[MortalDrivers]:
    """Of which most share a Ray that outlives them, which saves them a start of their own."""
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    with mortal_drivers(f"127.0.0.1:{port}") as started:
        yield started


@pytest.fixture
def writes(quiet: Path) -> range:
    """Numbers of the events but the first, with which the study begins."""
    return range(2, len(events_in(quiet)) + 1)


def check(folder: Path, quiet: Path, what: str) -> None:
    """The study is whole, ended as the quiet one did, and no trial ended twice; it is taken away."""
    assert same(results_in(folder)) == same(results_in(quiet)), what
    ended = Counter(event["number"] for event in events_in(folder) if event["event"] == "ended")
    assert set(ended.values()) == {1}, what
    shutil.rmtree(folder)


def test_a_driver_killed_at_any_write_loses_nothing(
    tmp_path: Path, quiet: Path, drivers: MortalDrivers, writes: range
) -> None:
    for how in sample(("half", "before", "after"), short=1):
        for write in counted(sample(writes, short=2)):
            folder, what = tmp_path / f"{how}{write}", f"killed {how} write {write}"
            assert drivers.drive(folder, SEARCH, writes=[write], how=how, runner="shared") == -9, what
            assert drivers.drive(folder, SEARCH, runner="shared") == 0, what
            check(folder, quiet, what)


def test_drivers_that_are_killed_over_and_over_come_to_the_same_end(
    tmp_path: Path, quiet: Path, drivers: MortalDrivers, writes: range
) -> None:
    for every in (5, 6, 7, 9, 12, 18) if FULL else (len(writes) // 2,):
        folder = tmp_path / str(every)
        for _ in counted(range(200)):  # until it is done
            code = drivers.drive(folder, SEARCH, writes=[every], how="half", runner="shared")
            if code != -9:
                break
        assert code == 0, said(folder)
        check(folder, quiet, f"killed at every write {every}")


def test_a_search_whose_worker_is_killed_at_any_write_goes_on(
    tmp_path: Path, quiet: Path, drivers: MortalDrivers, writes: range
) -> None:
    strides = {1: [writes[0]], 2: [2, 3], 5: range(2, 7)} if FULL else {len(writes) // 3: [5]}
    for stride, firsts in strides.items():
        for first in firsts:
            killed = list(counted(list(writes)[first - 2 :: stride]))
            folder = tmp_path / f"{first}-{stride}"
            code = drivers.drive(folder, PATIENT, writes=killed, victim="worker", runner="shared")
            assert code == 0, said(folder)
            check(folder, quiet, f"worker killed at writes {killed}")


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().splitlines()


@pytest.mark.parametrize("name", VITAL)
def test_a_search_whose_ray_is_killed_at_any_write_is_resumed(
    tmp_path: Path, quiet: Path, drivers: MortalDrivers, writes: range, name: str
) -> None:
    middle = list(writes[len(writes) // 2 :][:1])
    for write in counted(writes[:-1] if FULL else middle):  # with the last the search is over, and Ray is gone
        folder, what = tmp_path / str(write), f"{name} killed at write {write}"
        code = drivers.drive(folder, SEARCH, writes=[write], victim=name, runner="own")
        if code == 3:
            *_, problem, resume = said(folder)
            assert problem.startswith(f"bnnsearch: Ray has died: its {name} ended with SIGKILL; everything so far"), (
                what
            )
            assert resume == f"  bnnsearch resume {folder / 'study'}", what
            code = drivers.drive(folder, SEARCH, runner="shared")
        else:
            assert write >= len(writes) - 2, f"{what}: {said(folder)}"  # it had ended before it could notice
        assert code == 0, what
        check(folder, quiet, what)
