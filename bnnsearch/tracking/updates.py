"""Updates of MLflow's runs, and how those of one run become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

REPORT = "report"


@dataclass(frozen=True, slots=True)
class Update:
    """What is new about one run. Delivering an update twice changes nothing.

    Attributes:
        run: `report`, or the number of a trial as text.
        started: when the run began or went on, milliseconds since 1970.
        ended: MLflow's status and when, milliseconds since 1970.
        metrics: (name, value, step, milliseconds since 1970).
        params: recorded when the run is made.
        dataset: name, digest, source type and source of the data, recorded when the run is made.
        tags: of the run.
        artifacts: files and folders to upload.
    """

    run: str
    started: int | None = None
    ended: tuple[str, int] | None = None
    metrics: tuple[tuple[str, float, int, int], ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    dataset: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()

    def then(self, later: Update) -> Update:
        """Both updates in one."""
        return Update(
            run=self.run,
            started=self.started if later.started is None else later.started,
            ended=later.ended if later.ended or later.started is not None else self.ended,
            metrics=self.metrics + later.metrics,
            params={**self.params, **later.params},
            dataset={**self.dataset, **later.dataset},
            tags={**self.tags, **later.tags},
            artifacts=tuple(dict.fromkeys(self.artifacts + later.artifacts)),
        )


def merged(updates: Iterable[Update]) -> list[Update]:
    """One update per run, the runs in order of their first update."""
    runs: dict[str, Update] = {}
    for update in updates:
        runs[update.run] = runs[update.run].then(update) if update.run in runs else update
    return list(runs.values())
