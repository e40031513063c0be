"""From MLflow back to results: a client recomputes the front from the runs alone."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient

from bnnsearch.results import TrialResult, TrialState
from bnnsearch.tracking.describe import VIOLATION


def read_trials(experiment: str, search_id: str, *, uri: str | None = None) -> list[TrialResult]:
    """The ended trials of one search, from their runs' parameters, metrics and tags, by number.

    `config` holds the parameters as they were flattened, as text; `params` is empty, for MLflow does not tell what was
    sampled from what was fixed.

    Args:
        experiment: name of the experiment: the study's, unless `tracking.experiment` says otherwise.
        search_id: the search's folder name, a tag of its runs.
        uri: tracking URI; None is MLflow's own choice.

    Raises:
        ValueError: there is no such experiment.
    """
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        raise ValueError(f"there is no experiment {experiment!r}")
    wanted = f"tags.search_id = '{search_id}' and tags.kind = 'trial'"
    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs([found.experiment_id], wanted, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    results = [_result(run) for run in runs if run.data.tags["state"] in set(TrialState)]
    return sorted(results, key=lambda result: result.number)


def _result(run: Any) -> TrialResult:
    tags, metrics = run.data.tags, run.data.metrics
    return TrialResult(
        number=int(tags["trial"]),
        state=TrialState(tags["state"]),
        config=run.data.params,
        params={},
        metrics={
            name: value for name, value in metrics.items() if not name.startswith(VIOLATION) and name != "seconds"
        },
        violations={
            name.removeprefix(VIOLATION): value for name, value in metrics.items() if name.startswith(VIOLATION)
        },
        seconds=metrics.get("seconds", 0.0),
        reason=tags.get("reason"),
        retry_of=int(tags["retry_of"]) if "retry_of" in tags else None,
        confirms=int(tags["confirms"]) if "confirms" in tags else None,
    )
