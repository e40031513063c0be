"""Searches in which a process is killed while the driver writes its record, for the attack tests.

Reads a JSON order from each line of standard input and answers with the exit code of the child that is forked for it.
The child starts or resumes the study in `folder`; at each of the `writes`, the numbers of events as it counts them from
1, the `victim` is killed by SIGKILL: before the event, with `half` of it written, or after it. Packages are imported
once, so that thousands of drivers can die. What the driver has to say at its end is in `folder/said`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import search_fixtures
from search_fixtures import tiny

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.record import Record
from bnnsearch.study.executor import Executor
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study


def kill(victim: str) -> None:
    """End the driver, or a process of Ray's: those of a Ray of its own, or workers of the one that the tests share."""
    if victim == "driver":
        os.kill(os.getpid(), signal.SIGKILL)
    if victim == "worker":
        tests = psutil.Process(os.getppid()).parent()
        assert tests is not None
        found = [each for each in tests.children(recursive=True) if each.name().startswith("ray::TrialActor"[:15])]
    else:
        found = [each for each in psutil.Process().children() if each.name() == victim]
        assert found, f"there is no {victim} to kill"
    for each in found:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    if victim == "worker":
        psutil.wait_procs(
            found
        )  # Ray's own processes are the driver's children, and it is the one to hear of their end


def arm(writes: Collection[int], how: str, victim: str) -> None:
    """Have the victim killed at some events of this process."""
    whole, count = Record._write, 0

    def mortal(record: Record, line: bytes) -> None:
        nonlocal count
        count += 1
        if count not in writes:
            whole(record, line)
            return
        if how == "half":
            os.pwrite(record._file, line[: len(line) // 2], record._end)
        elif how == "after":
            whole(record, line)
        kill(victim)
        if how != "after":
            whole(record, line)  # the driver lives on

    Record._write = mortal  # type: ignore[method-assign]


def executor(name: str) -> Executor:
    if name == "local":
        return LocalExecutor()
    from ray._private import ray_constants

    from bnnsearch.study.ray import RayExecutor

    if name == "own":
        return RayExecutor(num_cpus=1)
    ray_constants.ENABLE_RAY_CLUSTER = False  # as in own_ray: else a loopback address is turned into another
    return RayExecutor(name)


def drive(folder: Path, overrides: list[str], trainer: str, runner: str) -> None:
    build: Any = getattr(search_fixtures, trainer)
    if (folder / "study/study.record").exists():
        resume_study(folder / "study", executor=executor(runner), build_trainer=build)
    else:
        run_study(tiny(folder, *overrides), study_dir=folder / "study", executor=executor(runner), build_trainer=build)


def child(order: dict[str, Any]) -> int:
    folder = Path(order["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), sys.stderr.fileno())
    arm(order["writes"], order["how"], order["victim"])
    try:
        drive(folder, order["overrides"], order["trainer"], order["runner"])
    except EnvironmentProblem as problem:
        sys.stderr.write("".join(f"{line}\n" for line in problem.lines))
        return 3
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.raiseExceptions = False
    for line in sys.stdin:
        order = json.loads(line)
        if order["runner"] != "local":
            pass  # once, before the fork
        pid = os.fork()
        if not pid:
            code = child(order)
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


if __name__ == "__main__":
    main()
