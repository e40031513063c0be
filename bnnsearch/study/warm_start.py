"""What a search takes from earlier ones: what it tries first, and good configurations near which it draws others."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnnsearch.errors import InputError
from bnnsearch.export import load_trial
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import read_past
from bnnsearch.results import TrialResult
from bnnsearch.space import Space
from bnnsearch.study.believing import BEST
from bnnsearch.study.schedulers import ranking

logger = logging.getLogger(__name__)

MLFLOW = "mlflow:"

MOST_GOOD = 32
"""Configurations of an earlier study that are good, at most."""


@dataclass(slots=True)
class Earlier:
    """Parameters, dotted name to value, that earlier searches found; each once.

    Attributes:
        first: what is tried first.
        good: the best third of what earlier studies have trained to the end.
    """

    first: list[dict[str, Any]] = field(default_factory=list)
    good: list[dict[str, Any]] = field(default_factory=list)


def earlier(space: Space) -> Earlier:
    """What the sources that `warm_start` names have found.

    Of an earlier study its front is tried first. That may have had other data or another plan: what counts is what this
    space searches, and what lies outside its bounds is left out. A single configuration must lie in the space.

    Raises:
        InputError: a source is not there, or its configuration lies outside the space.
    """
    found = Earlier()
    for source in space.study.warm_start:
        more = _of_study(space, source) if _is_study(source) else Earlier([_of_file(space, Path(source))])
        for known, own in ((found.first, more.first), (found.good, more.good)):
            known += [each for each in own if each not in known]
    return found


def _is_study(source: str) -> bool:
    return source.startswith(MLFLOW) or Path(source).is_dir()


def _of_file(space: Space, path: Path) -> dict[str, Any]:
    config, _ = load_trial(path)
    try:
        return dict(space.trial.params_of(config.model_dump(mode="json")))
    except ValueError as error:
        raise InputError(f"{path}: warm_start must name configurations of this space: {error}") from error


def _of_study(space: Space, source: str) -> Earlier:
    results = _results(space, source)
    objectives = space.study.objectives
    ended = {result.number: result for result in results if result.selectable}
    values = {number: tuple(each.metrics[goal.metric] for goal in objectives) for number, each in ended.items()}
    best = ranking(values, [each.mode for each in objectives]) if values else []
    good = [ended[number] for number in best[: min(MOST_GOOD, math.ceil(BEST * len(best)))]]
    front = ParetoFront.of(results, objectives).results
    return Earlier(*(list(_inside(space, source, each)) for each in (front, good)))


def _inside(space: Space, source: str, results: Iterable[TrialResult]) -> Iterator[dict[str, Any]]:
    for result in results:
        try:
            yield dict(space.trial.params_of(result.config, exactly=False))
        except ValueError as error:
            logger.info("warm start leaves out trial %d of %s: %s", result.number, source, error)


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
