"""The worker process on Ray; apart from the driver's modules, so that a worker loads neither them nor Optuna."""

from __future__ import annotations

from typing import Any

from ray import tune

from bnnsearch.search.worker import Assignment, Job, run_trial

REPORT = "report"


class TrialActor(tune.Trainable):
    """Runs one trial after the other, so that torch is loaded once."""

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]  # with_parameters adds `job`
        self._job = job
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {REPORT: next(self._reports)}

    def _begin(self, config: dict[str, Any]) -> None:
        self._reports = run_trial(self._job, Assignment(**config), own_process=True)
