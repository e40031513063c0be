"""The worker process on Ray; apart from the driver's modules, so that a worker loads neither them nor Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray import cloudpickle, tune

from bnnsearch.config.guests import Guest, install
from bnnsearch.study.worker import Assignment, Job, run_trial

REPORT = "report"


class TrialActor(tune.Trainable):
    """Runs one trial after the other, so that torch is loaded once."""

    def setup(self, config: dict[str, Any], guests: Sequence[Guest], job: bytes) -> None:  # type: ignore[override]
        """Prepare for any trial; `with_parameters` adds `guests` and, pickled, the `Job`, which may hold some."""
        install(guests)
        self._job: Job = cloudpickle.loads(job)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {REPORT: next(self._reports)}

    def _begin(self, config: dict[str, Any]) -> None:
        self._reports = run_trial(self._job, Assignment(**config), own_process=True)
