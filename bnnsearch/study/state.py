"""How a study stands, told by its record: a search runs, was stopped, has failed, or is done.

A driver that is killed says nothing. So a study whose last session has not ended runs where the process that began it
still has its record open, as far as this machine can tell, and else was cut off: clocks are set.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import psutil

from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder
from bnnsearch.past import Past
from bnnsearch.record import SESSION, Event, Reader
from bnnsearch.results import StopReason, TrialResult


class Standing(StrEnum):
    """Where a study stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class StudyState:
    """Where a study stands, and why.

    Attributes:
        standing: in a word.
        why: the rest of the sentence; empty where the word says all.
        host: of the last driver; None where an earlier version did not tell.
        pid: its process there.
    """

    standing: Standing
    why: str = ""
    host: str | None = None
    pid: int | None = None

    def __str__(self) -> str:
        return f"{self.standing}: {self.why}" if self.why else str(self.standing)


WHY = {
    StopReason.WALL_TIME: "budget.wall_time is over",
    StopReason.GPU_HOURS: "budget.gpu_hours are spent",
    StopReason.INTERRUPTED: "by Ctrl-C",
    StopReason.TERMINATED: "by a signal, or its terminal was closed",
}


def read_state(folder: StudyFolder, results: Sequence[TrialResult]) -> StudyState:
    """The state of the study in `folder`, whose ended trials are `results`."""
    session: Event | None = None
    stopped: Event | None = None
    for event in Reader(folder.record).events((SESSION, "stopped")):
        session, stopped = (event, None) if event["event"] == SESSION else (session, event)
    driver = (session or {}).get("driver", {})
    host, pid = driver.get("host"), driver.get("pid")
    standing, why = _unended(folder, session) if stopped is None else _ended(stopped, results)
    return StudyState(standing, why, host, pid)


def _ended(stopped: Event, results: Sequence[TrialResult]) -> tuple[Standing, str]:
    reason = StopReason(stopped["reason"])
    if reason is StopReason.FAILURES:
        return Standing.FAILED, "budget.max_failed_trials was reached"
    if reason is not StopReason.FINISHED:
        return Standing.STOPPED, WHY.get(reason, reason.value)
    if not any(result.selectable for result in results):
        return Standing.FAILED, "no trial finished within the constraints"
    return Standing.DONE, ""


def _unended(folder: StudyFolder, session: Event | None) -> tuple[Standing, str]:
    driver = (session or {}).get("driver")
    if session is None or driver is None:
        return Standing.STOPPED, "nothing tells how it ended"
    since = f"{datetime.fromtimestamp(session['at'] / 1000).astimezone():%Y-%m-%d %H:%M}"
    place = f"process {driver['pid']} on {driver['host']}, since {since}"
    if driver["host"] != platform.node():
        return Standing.RUNNING, f"{place}, unless it was killed there"
    if _has_open(driver["pid"], folder.record):
        return Standing.RUNNING, place
    return Standing.STOPPED, f"it was killed, or the machine went down ({place})"


def _has_open(pid: int, path: Path) -> bool:
    """Whether the process has the file open; where it is another user's, whether it is there."""
    try:
        return any(path.samefile(file.path) for file in psutil.Process(pid).open_files())
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, OSError):
        return False


def is_settled(past: Past) -> bool:
    """Whether a resume would find nothing to do here: the search is done, its space unedited, its copies untouched.

    What is copied is written before a search ends; what is younger than that was changed, or restored, by others.
    """
    folder = past.folder
    if past.damage is not None or read_state(folder, past.results).standing is not Standing.DONE:
        return False
    try:
        ended = folder.record.stat().st_mtime_ns
        copies = [
            path.stat().st_mtime_ns
            for path in (folder.results, *([] if past.space.study.storage.uri else [folder.journal]))
        ]
        return max(copies) <= ended and read_regular(folder.space).decode() == past.text
    except (OSError, UnicodeDecodeError):
        return False
