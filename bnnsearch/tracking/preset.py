"""How MLflow's page shows one search: its trials, what matters of them as columns, and charts of the objectives.

MLflow keeps a view that a person shares as a tag of the experiment, whose name the link has; this is one more, in the
form of MLflow 3.17.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from bnnsearch.config.metrics import tabled
from bnnsearch.config.study import StudyConfig
from bnnsearch.results import TrialResult
from bnnsearch.tracking.describe import flattened

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECTION = "bnnsearch"
MOST_SETTINGS = 8
"""Most settings of trials that have a column and an axis."""


def tag_of(search_id: str) -> str:
    """The tag of an experiment that holds the view of a search."""
    return f"mlflow.sharedViewState.{search_id}"


def share_view(client: MlflowClient, experiment_id: str, view: Mapping[str, Any]) -> str:
    """Leave a view of `view_of` in the store; the words of a link that opens it.

    Where the store does not take it, those of one that shows the runs alone.
    """
    from mlflow.exceptions import MlflowException

    search_id = view["search_id"]
    packed = b64encode(zlib.compress(json.dumps(view).encode(), 9)).decode()
    try:
        client.set_experiment_tag(experiment_id, tag_of(search_id), f"deflate;{packed}")
    except MlflowException:
        which = {name: str(view[name]) for name in ("searchFilter", "orderByKey", "orderByAsc")}
        return urlencode({**which, "orderByAsc": which["orderByAsc"].lower()}, quote_via=quote)
    return f"viewStateShareKey={search_id}"


def view_of(search_id: str, study: StudyConfig, results: Sequence[TrialResult]) -> dict[str, Any]:
    """A search's ended trials, the best of the first objective on top.

    Columns are the objectives, the metrics that limits are on, and the settings in which the trials differ; charts are
    the first objective over each other one, all trials by settings and objectives, and the accuracy by epoch.
    """
    first, *others = objectives = [each.metric for each in study.objectives]
    limited = [each.metric for each in study.constraints]
    metrics = list(dict.fromkeys([*tabled(objectives, [result.metrics for result in results]), *limited]))
    differing, common = _settings(results)
    charts: list[dict[str, Any]] = [
        {"type": "SCATTER", "xaxis": _axis(each), "yaxis": _axis(first), "runsCountToCompare": 1000} for each in others
    ]
    if common:
        axes = {"selectedParams": common, "selectedMetrics": objectives}
        charts.append({"type": "PARALLEL", "showAllRuns": True, **axes})
    charts.append({"type": "LINE", "metricKey": "val_acc", "displayName": "val_acc"})
    drawn = [
        {"uuid": f"{SECTION}{place}", "metricSectionId": SECTION, "deleted": False, "isGenerated": False, **chart}
        for place, chart in enumerate(charts)
    ]
    section = {"uuid": SECTION, "name": f"Search {study.name}", "display": True, "isReordered": False}
    return {
        "search_id": search_id,
        "searchFilter": f"tags.search_id = '{search_id}' and tags.kind = 'trial'",
        "orderByKey": f"metrics.`{first}`",
        "orderByAsc": study.objectives[0].mode == "min",
        "selectedColumns": [*(f"metrics.`{name}`" for name in metrics), *(f"params.`{name}`" for name in differing)],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": drawn,
        "compareRunSections": [section | {"deleted": False, "isGenerated": False}],
        "isAccordionReordered": True,  # else MLflow puts it below its own
    }


def _axis(metric: str) -> dict[str, str]:
    return {"key": metric, "type": "METRIC"}


def _settings(results: Sequence[TrialResult]) -> tuple[list[str], list[str]]:
    """The settings in which trials differ, and those of them that every trial has: MLflow draws only such trials."""
    configs = [flattened({name: part for name, part in result.config.items() if name != "seed"}) for result in results]
    names = dict.fromkeys(name for config in configs for name in config)
    differing = [name for name in names if len({config.get(name) for config in configs}) > 1]
    common = [name for name in differing if all(name in config for config in configs)]
    return sorted(differing, key=lambda name: name not in common)[:MOST_SETTINGS], common[:MOST_SETTINGS]
