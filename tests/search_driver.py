"""A driver process for the fault tests: starts or resumes the study in FOLDER, a line per event on standard output.

After every epoch it waits for a line on standard input, or for its end: a test holds it where it wants to.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import search_fixtures
from search_fixtures import tiny

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.results import StudyObserver, TrialResult
from bnnsearch.study.executor import Executor
from bnnsearch.study.local import LocalExecutor
from bnnsearch.study.study import resume_study, run_study


class Lines(StudyObserver):
    def trial_started(self, number: int, config: Any, params: Any) -> None:
        print("started", number, flush=True)

    def epoch_finished(self, number: int, metrics: EpochMetrics) -> None:
        print("epoch", number, metrics.epoch, flush=True)
        sys.stdin.readline()

    def trial_finished(self, result: TrialResult) -> None:
        print("finished", result.number, result.state.value, flush=True)


def executor(name: str) -> Executor:
    if name == "local":
        return LocalExecutor()
    from bnnsearch.study.ray import RayExecutor

    return RayExecutor(num_cpus=2)


def main(folder: Path, executor_name: str, trainer: str, *overrides: str) -> None:
    build = getattr(search_fixtures, trainer)
    study_dir = folder / "study"
    if study_dir.exists():
        search = partial(resume_study, study_dir)
    else:
        search = partial(run_study, tiny(folder, *overrides), study_dir=study_dir)
    print("ready", flush=True)
    outcome = search(executor=executor(executor_name), observers=[Lines()], build_trainer=build)
    print("stopped", outcome.stopped.value, len(outcome.results), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
