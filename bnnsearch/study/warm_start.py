"""What a search tries first: configurations found earlier, as far as they lie in its space."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bnnsearch.errors import InputError
from bnnsearch.export import load_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult
from bnnsearch.space import Space

logger = logging.getLogger(__name__)

MLFLOW = "mlflow:"


def starting_points(space: Space) -> list[dict[str, Any]]:
    """Parameters of every configuration that `warm_start` names, dotted name to value, each once.

    Of an earlier study those on its front count, and those outside this space are left out; a single configuration must
    lie in it.

    Raises:
        InputError: a source is not there, or its configuration lies outside the space.
    """
    points: list[dict[str, Any]] = []
    for source in space.study.warm_start:
        for params in _of_study(space, source) if _is_study(source) else [_of_file(space, Path(source))]:
            if params not in points:
                points.append(params)
    return points


def _is_study(source: str) -> bool:
    return source.startswith(MLFLOW) or Path(source).is_dir()


def _of_file(space: Space, path: Path) -> dict[str, Any]:
    config, _ = load_trial(path)
    try:
        return dict(space.trial.params_of(config.model_dump(mode="json")))
    except ValueError as error:
        raise InputError(f"{path}: warm_start must name configurations of this space: {error}") from error


def _of_study(space: Space, source: str) -> list[dict[str, Any]]:
    found = []
    results = _results(space, source)
    for result in ParetoFront.of(results, space.study.objectives).results:
        try:
            found.append(dict(space.trial.params_of(result.config)))
        except ValueError as error:
            logger.info("warm start leaves out trial %d of %s: %s", result.number, source, error)
    return found


def _results(space: Space, source: str) -> list[TrialResult]:
    if not source.startswith(MLFLOW):
        results = list(read_past(StudyFolder(Path(source))).results)
    else:
        from bnnsearch.tracking.readback import read_trials

        experiment, _, search_id = source.removeprefix(MLFLOW).rpartition("/")
        results = read_trials(experiment, search_id, uri=space.study.tracking.uri)
    if not results:
        raise InputError(f"warm_start: {source} holds no trial results")
    wanted = {objective.metric for objective in space.study.objectives}
    return [result for result in results if wanted <= result.metrics.keys()]
