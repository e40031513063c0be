"""A study of the format before there was a record, made into a record when it is taken up again.

What ended is in `results.jsonl`, what ran or waited in Optuna's journal, the epochs in `epochs.jsonl`. A trial that was
being drawn when its driver was killed has only some of its parameters; it is left out, and drawn anew under the same
number with the same seed. Where the journal is damaged the results alone are taken, and what else ran runs again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder
from bnnsearch.past import EARLIER_EPOCHS, begin_session, earlier_epochs, earlier_results
from bnnsearch.record import SESSION, Event, Record
from bnnsearch.space import Space
from bnnsearch.study.ledger import config_of
from bnnsearch.tracking.ids import known_identity

logger = logging.getLogger(__name__)

_RUNG, _WENT_ON, _STANDING, _RETRY_OF, _BATCH_SIZE = "rung:", "went_on", "standing", "retry_of", "batch_size"


def needs_migration(record: Record, folder: StudyFolder) -> bool:
    """Whether the folder holds a study of the earlier format that is not wholly in the record yet."""
    if not record.empty:
        first = next(record.events((SESSION,)), None)
        return first is not None and record.last <= first.get("migrated", 0)
    return any(path.exists() for path in (folder.results, folder.journal, folder.path / EARLIER_EPOCHS))


def migrate(record: Record, folder: StudyFolder, space: Space) -> None:
    """Fill the record with what the earlier format's files hold; they stay as they are, but for the copies.

    Args:
        record: of the study; what an earlier try left in it is forgotten.
        folder: the study's.
        space: of the study.

    Raises:
        EnvironmentProblem: the results are damaged, or the trials are in a database.
    """
    if space.study.storage.uri is not None:
        raise EnvironmentProblem(
            f"{folder.path}: a study of the format before study.record whose trials are in a database (storage.uri) "
            "cannot be gone on with; finish it with bnnsearch 0.1.0, or start another with warm_start"
        )
    events = list(_events(folder, space))
    identity = known_identity(folder)
    known = {} if identity is None else {"identity": identity}
    record.clear()
    begin_session(record, space, migrated=len(events) + 1, **known)
    for event in events:
        record.append(event.pop("event"), **event)
    record.append("stopped", reason="migrated")
    record.sync()


def _events(folder: StudyFolder, space: Space) -> Iterator[Event]:
    results = {result.number: result for result in earlier_results(folder)}
    trials, noted = _trials(folder.journal)
    for trial in trials:
        for event in _asked(trial, space):
            yield {**event, "study": noted} if event["event"] == "asked" else event
            noted = {}
    for number, metrics in earlier_epochs(folder):
        yield {"event": "epoch", "number": number, **asdict(metrics)}
    for trial in trials:
        yield from _rungs(trial)
    for result in results.values():
        yield {"event": "ended", **asdict(result)}


def _asked(trial: FrozenTrial, space: Space) -> Iterator[Event]:
    retry = {_RETRY_OF: trial.user_attrs.get(_RETRY_OF)}
    batch_size, queued = trial.user_attrs.get(_BATCH_SIZE), trial.system_attrs.get("fixed_params")
    config = config_of(space, trial.params, trial.number, batch_size)
    if trial.state is not TrialState.WAITING and config is not None:
        drawn = {"params": trial.params, "config": config, "attributes": trial.system_attrs}
        yield {"event": "asked", "number": trial.number, **drawn, **retry}
    elif queued is not None:
        yield {"event": "queued", "number": trial.number, "params": queued, "batch_size": batch_size, **retry}


def _rungs(trial: FrozenTrial) -> Iterator[Event]:
    promoted = trial.user_attrs.get(_WENT_ON, -1)
    for epoch in sorted(int(key.removeprefix(_RUNG)) for key in trial.user_attrs if key.startswith(_RUNG)):
        yield {
            "event": "rung",
            "number": trial.number,
            "epoch": epoch,
            "values": trial.user_attrs[f"{_RUNG}{epoch}"],
            "standing": trial.user_attrs.get(_STANDING),
        }
        if epoch <= promoted:
            yield {"event": "promoted", "number": trial.number, "epoch": epoch}


def _trials(journal: Path) -> tuple[list[FrozenTrial], dict[str, Any]]:
    """The trials in Optuna's journal, and what samplers noted of the study; none where it is damaged.

    A last line without its end is no damage.
    """
    try:
        lines = read_regular(journal).splitlines(keepends=True)
        storage = JournalStorage(_Logs([json.loads(line) for line in lines if line.endswith(b"\n")]))
        (study,) = storage.get_all_studies()
        trials = storage.get_all_trials(study._study_id)
        for trial in trials:
            list(_rungs(trial))
        return trials, study.system_attrs
    except Exception as error:  # whatever Optuna makes of a damaged file
        logger.warning("%s is damaged or missing, the results alone are taken: %s", journal, error)
        return [], {}


class _Logs(BaseJournalBackend):
    """A journal that was read already."""

    def __init__(self, logs: list[dict[str, Any]]) -> None:
        self._logs = logs

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise AssertionError(f"a journal of the earlier format is not written to: {logs}")
