"""What happens to the trials of a search, a line each, for `search.log`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bnnsearch.config.study import StudyConfig
from bnnsearch.results import StudyObserver, TrialResult

logger = logging.getLogger(__name__)


class Story(StudyObserver):
    """Logs every trial's beginning, waiting and end; epochs are in the record."""

    def __init__(self, study: StudyConfig) -> None:
        self._objectives = [objective.metric for objective in study.objectives]

    def stage_started(self, stage: str) -> None:
        logger.info("%s", stage)

    def said(self, line: str) -> None:
        logger.info("%s", line)

    def trial_started(self, number: int, config: Mapping[str, Any], params: Mapping[str, Any]) -> None:  # noqa: ARG002
        logger.info("trial %d starts: %s", number, _pairs(params))

    def trial_waits(self, number: int) -> None:
        logger.info("trial %d waits at a rung", number)

    def trial_finished(self, result: TrialResult) -> None:
        found = {name: result.metrics[name] for name in self._objectives if name in result.metrics}
        why = f": {result.reason}" if result.reason else ""
        logger.info("trial %d is %s after %d epochs, %.1f s%s; %s",
                    result.number, result.state, result.epochs, result.seconds, why, _pairs(found))  # fmt: skip


def _pairs(values: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items()
    )
