"""Drivers that are killed while they write their record, for the attack tests.

Reads a JSON order from each line of standard input and answers with one: a child is forked that starts or resumes the
study in `folder` and is killed by SIGKILL at its `write`-th event, counted from 1: before it, with `half` of it
written, or after it. Packages are imported once, so that thousands of drivers can die.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import optuna
import search_fixtures
from search_fixtures import tiny

from bnnsearch.record import Record
from bnnsearch.search.local import LocalExecutor
from bnnsearch.search.study import resume_study, run_study


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was survived")


def arm(write: int, how: str) -> None:
    """Have this process killed at its `write`-th event."""
    whole, count = Record._write, 0

    def mortal(record: Record, line: bytes) -> None:
        nonlocal count
        count += 1
        if count != write:
            whole(record, line)
            return
        if how == "half":
            os.pwrite(record._file, line[: len(line) // 2], record._end)
        elif how == "after":
            whole(record, line)
        die()

    Record._write = mortal  # type: ignore[method-assign]


def drive(folder: str, overrides: list[str], trainer: str, write: int, how: str) -> None:
    arm(write, how)
    path = Path(folder)
    build: Any = getattr(search_fixtures, trainer)
    if (path / "study/study.record").exists():
        resume_study(path / "study", executor=LocalExecutor(), build_trainer=build)
    else:
        run_study(tiny(path, *overrides), study_dir=path / "study", executor=LocalExecutor(), build_trainer=build)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.raiseExceptions = False
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            try:
                drive(**order)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    main()
