"""What MLflow has not got yet: updates of runs, on disk until they are delivered, so that no crash loses any."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock

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

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({key: value for key, value in asdict(self).items() if value})

    @classmethod
    def from_json(cls, line: str) -> Update:
        """The update that `to_json` wrote."""
        fields = json.loads(line)
        ended = fields.get("ended")
        return cls(
            **{
                **fields,
                "ended": (ended[0], ended[1]) if ended else None,
                "metrics": tuple((name, value, step, at) for name, value, step, at in fields.get("metrics", ())),
                "artifacts": tuple(fields.get("artifacts", ())),
            }
        )


def merged(updates: Iterable[Update]) -> list[Update]:
    """One update per run, the runs in order of their first update."""
    runs: dict[str, Update] = {}
    for update in updates:
        runs[update.run] = runs[update.run].then(update) if update.run in runs else update
    return list(runs.values())


class Spool:
    """Undelivered updates, oldest first, in memory and in the file at `path`, whose content is taken up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._updates: list[Update] = _read(path)
        if path.exists():
            self._rewrite()  # without a last line that a crash cut short: the next would be written onto it

    def __len__(self) -> int:
        return len(self._updates)

    def append(self, update: Update) -> None:
        """Add an update; it is on disk when this returns."""
        with self._lock:
            self._updates.append(update)
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(update.to_json() + "\n")

    def pending(self) -> list[Update]:
        """All updates, oldest first."""
        with self._lock:
            return list(self._updates)

    def drop(self, count: int) -> None:
        """Forget the oldest `count` updates: they are delivered."""
        with self._lock:
            del self._updates[:count]
            self._rewrite()

    def _rewrite(self) -> None:
        if not self._updates:
            self._path.unlink(missing_ok=True)
            return
        draft = self._path.with_suffix(".draft")
        draft.write_text("".join(update.to_json() + "\n" for update in self._updates), encoding="utf-8")
        draft.replace(self._path)


def _read(path: Path) -> list[Update]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    updates: list[Update] = []
    for place, line in enumerate(lines, start=1):
        try:
            updates.append(Update.from_json(line))
        except (ValueError, TypeError, KeyError):
            if place < len(lines):
                raise ValueError(f"{path}:{place}: the spool is damaged; move it away to go on without it") from None
    return updates
