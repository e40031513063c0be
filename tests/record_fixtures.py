"""Records written by hand, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder
from bnnsearch.record import held
from bnnsearch.results import TrialResult

SPACE = """
version: 1
name: tiny
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
budget: {trials: 7}
trial: {data: {name: digits}, model: {name: mlp, hidden: [8]}, method: {name: ste}}
"""


def record_past(
    folder: StudyFolder,
    results: Iterable[TrialResult] = (),
    history: Mapping[int, Sequence[EpochMetrics]] | None = None,
    *,
    space: str = SPACE,
) -> None:
    """Append to the study's record what a search would have."""
    with held(folder) as record:
        if record.empty:
            record.begin_session(name="tiny", seed=0, space=space)
        for number, epochs in (history or {}).items():
            for metrics in epochs:
                record.append("epoch", number=number, **asdict(metrics))
        for result in results:
            record.append("ended", **asdict(result))
