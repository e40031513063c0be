"""The front and all trials as files that other programs read."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnnsearch.pareto import ParetoFront
from bnnsearch.results import TrialResult

if TYPE_CHECKING:
    import pandas

JSON, CSV = "front.json", "front.csv"
TRIALS_CSV, TRIALS_PARQUET = "trials.csv", "trials.parquet"


def write_front(front: ParetoFront, directory: Path) -> None:
    """Write both files into `directory`."""
    knee = front.knee.number if front.results else None
    content = {
        "objectives": [objective.model_dump() for objective in front.objectives],
        "hypervolume": front.hypervolume,
        "knee": knee,
        "trials": [
            {
                "trial": result.number,
                "metrics": dict(result.metrics),
                **_confirmed(front, result.number),
                "params": dict(result.params),
                "config": dict(result.config),
            }
            for result in front.results
        ],
    }
    (directory / JSON).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    metrics = _columns(front, "metrics", first=[objective.metric for objective in front.objectives])
    params = _columns(front, "params", first=[])
    with (directory / CSV).open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file)
        table.writerow(["trial", "knee", *metrics, *(f"param.{name}" for name in params)])
        for result in front.results:
            values = [
                *(result.metrics.get(name, "") for name in metrics),
                *(result.params.get(name, "") for name in params),
            ]
            table.writerow([result.number, result.number == knee, *values])


def trials_table(results: Sequence[TrialResult]) -> pandas.DataFrame:
    """A row for each ended trial: state, metrics, `params.` and what was sampled, reason, epochs, seconds."""
    import pandas

    rows = [
        {
            "trial": each.number,
            "state": each.state.value,
            **each.metrics,
            **{f"params.{_text(name)}": _scalar(value) for name, value in each.params.items()},
            "reason": each.reason and _text(each.reason),
            "epochs": each.epochs,
            "seconds": each.seconds,
        }
        for each in results
    ]
    columns = ["trial", "state", "reason", "epochs", "seconds"]
    return pandas.DataFrame(rows, columns=None if rows else columns).set_index("trial")


def _scalar(value: Any) -> Any:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value)
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """As UTF-8 can be: a name of a file that is none may stand in it, and tables hold nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()


def write_trials(results: Sequence[TrialResult], directory: Path) -> None:
    """Write `trials.csv` and `trials.parquet` into `directory`; a column that is not of numbers alone is text."""
    import pandas

    table = trials_table(results).reset_index()
    for name in table.select_dtypes(exclude=["number", "bool"]):  # a choice may be of numbers and of words
        table[name] = [None if pandas.isna(value) else str(value) for value in table[name]]
    table.to_csv(directory / TRIALS_CSV, index=False)
    table.to_parquet(directory / TRIALS_PARQUET, index=False)


def _confirmed(front: ParetoFront, number: int) -> dict[str, Any]:
    """Over how many other seeds the metrics are means, and their deviation, where they are."""
    confirmed = front.confirmed.get(number)
    return {} if confirmed is None else {"seeds": confirmed.seeds, "deviation": dict(confirmed.deviation)}


def _columns(front: ParetoFront, kind: str, *, first: list[str]) -> list[str]:
    """All names in the results' `metrics` or `params`, those in `first` ahead."""
    return list(dict.fromkeys([*first, *(name for result in front.results for name in getattr(result, kind))]))
