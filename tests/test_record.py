"""The record of a study: what is appended is read back, what is damaged is noticed, and one process writes it."""

from __future__ import annotations

import json
import math
import resource
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from search_fixtures import TinyTrainer, tiny

from bnnsearch.errors import EnvironmentProblem, StudyInUse
from bnnsearch.files import lock
from bnnsearch.folder import StudyFolder
from bnnsearch.past import read_past
from bnnsearch.record import COPY_OF, FORMAT, Event, Reader, decoded, encoded, held, last_session, original
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study


def plain(events: list[Event]) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "at"} for event in events]


def begun(folder: StudyFolder, *numbers: int) -> bytes:
    """A record of a session and a few events of these numbers; what is in the file."""
    with held(folder) as record:
        record.begin_session(name="tiny", seed=0, space="text")
        for number in numbers:
            record.append("costs", number=number, values={"memory_bytes": 1.5})
    return folder.record.read_bytes()


def identity_of(folder: StudyFolder) -> str:
    session = last_session(folder.record)
    assert session is not None
    return str(session["identity"])


def costs_in(folder: StudyFolder) -> list[int]:
    return [event["number"] for event in Reader(folder.record).events(("costs",)) if event["event"] == "costs"]


def test_what_is_appended_is_read_back_and_numbered_on(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    begun(folder, 3)
    with held(folder) as record:
        assert (record.empty, record.last, record.news) == (False, 2, None)
        record.append("ended", number=3, reason='"quoted"\n\u202e')
        events = list(record.events())
    assert plain(events[1:]) == [
        {"event": "costs", "number": 3, "values": {"memory_bytes": 1.5}},
        {"event": "ended", "number": 3, "reason": '"quoted"\n\u202e'},
    ]
    assert events[0]["format"] == FORMAT
    assert [line.split(b" ")[0] for line in folder.record.read_bytes().splitlines()] == [b"1", b"2", b"3"]


def crc32(data: bytes) -> int:
    """CRC-32 bit by bit: the reflected polynomial 0xEDB88320, all ones before and inverted after."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (0xEDB88320 if rest & 1 else 0)
    return rest ^ 0xFFFFFFFF


def test_a_line_is_what_the_documentation_says() -> None:
    assert crc32(b"123456789") == 0xCBF43926  # the check value that every description of it gives
    line = b"7 2 %08x {}\n" % crc32(b"7 {}")
    assert encoded(7, b"{}") == line
    assert decoded(line) == (7, b"{}")
    for spoilt in (line.upper(), b"0" + line, line[:-1], line.replace(b" ", b"  ", 1), line + b"\n", b"\n"):
        assert decoded(spoilt) is None


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    with held(folder) as record:
        record.append(
            "epoch", values={"a": 1.0, "b": math.nan}, weights=[0.5, math.inf], layers={"f": {"x": -math.inf}}
        )
        assert plain(list(record.events())) == [
            {"event": "epoch", "values": {"a": 1.0}, "weights": [0.5, None], "layers": {"f": {}}}
        ]


def test_a_record_cut_anywhere_keeps_what_is_whole_and_takes_the_next_event(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 0, 1, 2)
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        folder.record.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        with held(folder) as record:
            assert (record.last, record.news) == (whole, None)
            record.append("costs", number=9, values={})
            assert len(list(record.events())) == whole + 1
            assert record.events().__next__()["event"] == ("session" if whole else "costs")
    assert costs_in(folder) == [0, 1, 2, 9]


def test_a_flipped_bit_anywhere_is_noticed_and_costs_its_own_line_only(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 0, 1, 2, 3)
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    for place in range(len(content) - 1):  # without the last end of a line, a line is one that was cut
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        folder.record.write_bytes(bytes(damaged))
        line = sum(start <= place for start in starts)
        reader = Reader(folder.record)
        read = [event.get("number", "session") for event in reader.events()]
        lost = {line, line + 1} if content[place] == ord("\n") else {line}  # two lines have become one
        assert read == [each for n, each in enumerate(["session", 0, 1, 2, 3], start=1) if n not in lost], place
        assert line in reader.damaged
        assert f"line {line}" in str(reader.damage) or f"lines {line}" in str(reader.damage)


@pytest.mark.parametrize(
    ("change", "damaged"),
    [
        (lambda lines: lines[:2] + lines[3:], {3}),  # one is missing
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], {4}),  # one stands there twice
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], {2, 3}),  # two have changed places
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], {3}),
        (lambda lines: [b"hello\n", *lines], {1}),
    ],
)
def test_lines_that_were_lost_doubled_or_moved_are_noticed(tmp_path: Path, change: Any, damaged: set[int]) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 0, 1, 2)
    folder.record.write_bytes(b"".join(change(content.splitlines(keepends=True))))
    assert len(costs_in(folder)) == len(set(costs_in(folder)))
    with held(folder) as record:
        assert set(record.damaged) == damaged
        assert "damaged at line" in str(record.news)
        record.begin_session(name="tiny", seed=0, space="text")
    with held(folder) as record:  # it was told
        assert (record.news, set(record.damaged)) == (None, damaged)


def test_what_is_no_beginning_of_a_line_is_kept_as_damage(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 0)
    folder.record.write_bytes(content + b"\0" * 500)
    with held(folder) as record:
        assert record.damaged == [3]
        record.append("costs", number=1, values={})
    assert folder.record.read_bytes().startswith(content + b"\0" * 500 + b"\n3 ")
    assert costs_in(folder) == [0, 1]


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    begun(folder)
    folder.record.write_text("hello\n")
    with held(folder) as record, pytest.raises(EnvironmentProblem, match="no line of the study's record is whole"):
        record.append("costs", number=0, values={})
    with pytest.raises(EnvironmentProblem, match="no line of the study's record is whole"):
        read_past(folder)
    assert folder.record.read_text() == "hello\n"


def test_a_record_of_a_later_format_is_refused_by_its_version(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    session = {"event": "session", "format": FORMAT + 1, "versions": {"bnnsearch": "9.9"}, "damaged": []}
    folder.record.write_bytes(encoded(1, json.dumps(session).encode()))
    expected = f"format is {FORMAT + 1}, but this bnnsearch reads up to {FORMAT}: it was written by bnnsearch 9.9"
    with held(folder) as record, pytest.raises(EnvironmentProblem, match=expected):
        record.append("costs", number=0, values={})
    with pytest.raises(EnvironmentProblem, match=expected):
        read_past(folder)


def test_an_event_that_does_not_fit_onto_the_disk_is_not_there(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with held(folder) as record:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 20, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                record.append("costs", number=1, values={})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert folder.record.read_bytes() == content
        record.append("costs", number=2, values={})
    assert costs_in(folder) == [0, 2]


def test_one_process_holds_a_record_and_an_empty_one_is_taken_away(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    with held(folder), pytest.raises(StudyInUse, match="another process is working on this study"), held(folder):
        pass
    assert not folder.path.exists()
    begun(folder, 0)
    with held(folder) as record, held(folder, record) as same:
        assert same is record


def test_a_record_that_is_a_folder_is_an_environment_problem(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.record.mkdir(parents=True)
    with (
        pytest.raises(EnvironmentProblem, match=r"study\.record: .* cannot be written: a folder, not a file"),
        held(folder),
    ):
        pass
    with pytest.raises(EnvironmentProblem, match=r"study\.record: .* cannot be read: a folder, not a file"):
        read_past(folder)


def test_a_hole_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    whole = begun(folder, 1, 2)
    with folder.record.open("r+b") as file:
        file.truncate(2**27)
    with pytest.raises(EnvironmentProblem, match="line 4 is longer than"):
        read_past(folder)
    with held(folder) as record, pytest.raises(EnvironmentProblem, match="line 4 is longer than"):
        record.append("costs", number=3, values={})
    with folder.record.open("r+b") as file:
        file.truncate(len(whole) + 4096)  # what a file system leaves of what was not written yet
    with held(folder) as record:
        assert record.news is not None
        record.append("costs", number=3, values={})
    assert costs_in(folder) == [1, 2, 3]


@pytest.mark.parametrize("change", ["the folder moved", "checkpoints are gone"])
def test_a_record_of_trials_is_never_taken_away(tmp_path: Path, change: str) -> None:
    """By what ends a search: a new study without checkpoints is one in which no search began."""
    folder, moved = StudyFolder(tmp_path / "study"), StudyFolder(tmp_path / "moved")

    class Changes(StudyObserver):
        def trial_finished(self, result: TrialResult) -> None:
            if result.number == 1 and change == "the folder moved":
                folder.path.rename(moved.path)
            elif result.number == 1:
                shutil.rmtree(folder.checkpoints)

    with suppress(EnvironmentProblem):
        run_study(
            tiny(tmp_path), study_dir=folder.path, executor=LocalExecutor(), observers=[Changes()],
            build_trainer=TinyTrainer,
        )  # fmt: skip
    there = moved if change == "the folder moved" else folder
    past = read_past(there)
    assert past.text is not None  # by its record, not by a copy of its results
    assert len(past.results) >= 2
    outcome = resume_study(there.path, executor=LocalExecutor(), build_trainer=TinyTrainer)
    assert [result.number for result in outcome.results] == [0, 1, 2, 3]


@pytest.mark.parametrize("change", ["cut", "replaced", "moved"])
def test_what_nobody_would_read_is_not_written(tmp_path: Path, change: str) -> None:
    folder = StudyFolder(tmp_path / "study")
    content = begun(folder, 1, 2)
    with held(folder) as record:
        record.append("costs", number=3, values={})
        if change == "cut":
            folder.record.write_bytes(content)
        elif change == "replaced":
            (tmp_path / "other").write_bytes(content)
            (tmp_path / "other").replace(folder.record)
        else:
            folder.path.rename(tmp_path / "moved")
        with pytest.raises(OSError, match=r"replaced or cut by another program|No such file") as told:
            record.append("costs", number=4, values={})
        assert told.value.filename == str(folder.record)
    if change != "moved":
        assert folder.record.read_bytes() == content


def test_a_copy_is_told_from_a_study_that_moved(tmp_path: Path) -> None:
    folder, copy = StudyFolder(tmp_path / "study"), StudyFolder(tmp_path / "copy")
    begun(folder, 1)
    identity = identity_of(folder)
    shutil.copytree(folder.path, copy.path)
    (tmp_path / "link").symlink_to(folder.path)
    assert (original(folder), original(StudyFolder(tmp_path / "link"))) == (None, None)
    assert original(copy) == folder.path
    begun(copy)
    assert original(copy) is None
    assert identity_of(copy) != identity
    begun(copy)
    assert last_session(copy.record)[COPY_OF] == identity

    folder.path.rename(tmp_path / "moved")
    moved = StudyFolder(tmp_path / "moved")
    assert original(moved) is None
    begun(moved)
    assert identity_of(moved) == identity


def test_a_reader_hears_what_is_appended_later(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "study")
    begun(folder, 0)
    reader = Reader(folder.record)
    assert len(list(reader.events())) == 2
    assert list(reader.events()) == []
    begun(folder, 1)
    assert [event["event"] for event in reader.events()] == ["session", "costs"]
    assert (reader.last, reader.end) == (4, folder.record.stat().st_size)


def test_a_lock_is_waited_for_as_long_as_is_said(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("a") as first:
        lock(first)
        with path.open("a") as second:
            for wait in (0.0, 0.2):
                with pytest.raises(BlockingIOError):
                    lock(second, wait=wait)
            released = threading.Timer(0.3, first.close)
            released.start()
            lock(second, wait=600.0)
            released.join()
        with path.open("a") as third:
            lock(third)


def test_a_second_driver_touches_nothing(tmp_path: Path) -> None:
    space = tiny(tmp_path)
    folder = StudyFolder(tmp_path / "study")
    run_study(space, study_dir=folder.path, executor=LocalExecutor(), build_trainer=TinyTrainer)

    def state() -> dict[str, tuple[int, bytes]]:
        return {
            str(path.relative_to(tmp_path)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(tmp_path.rglob("*"))
            if path.is_file()
        }

    with held(folder):
        before = state()
        with pytest.raises(StudyInUse):
            resume_study(folder.path, executor=LocalExecutor(), trials=9, build_trainer=TinyTrainer)
        with pytest.raises(StudyInUse):
            run_study(space, study_dir=folder.path, executor=LocalExecutor(), build_trainer=TinyTrainer)
        assert state() == before
