"""Copies of what the record holds, for other programs: Optuna's storage and `results.jsonl`.

Nothing is read back from them but to see whether they are still true. Where one is not (cut, flipped, deleted, behind)
it is made anew when the study is next taken up, and where one cannot be written the search goes on without it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder, replace_file
from bnnsearch.results import StudyObserver, TrialResult

logger = logging.getLogger(__name__)


class OptunaCopy:
    """The trials in a storage that Optuna's dashboard and pictures open: the study's journal, or a database.

    Args:
        storage: holds the study already, with `trials` in it.
        study_id: of the study there.
        ids: of its trials there, in order.
    """

    def __init__(self, storage: BaseStorage, study_id: int, ids: list[int]) -> None:
        self._storage = storage
        self._study_id = study_id
        self._ids = ids
        self._lost = False

    @classmethod
    def of(cls, study: StudyConfig, folder: StudyFolder, trials: list[FrozenTrial]) -> OptunaCopy:
        """The copy where `study.storage` says, made to hold these trials.

        Raises:
            EnvironmentProblem: the database cannot be used.
        """
        directions = [
            StudyDirection.MAXIMIZE if each.mode == "max" else StudyDirection.MINIMIZE for each in study.objectives
        ]
        if study.storage.uri is None:
            return _in_journal(folder.journal, study.name, directions, trials)
        try:
            storage: BaseStorage = RDBStorage(study.storage.uri)
            return _in_database(storage, f"{study.name}/{folder.search_id}", directions, trials)
        except (ImportError, ValueError, SQLAlchemyError, OptunaError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise EnvironmentProblem(f"storage.uri: the database cannot be used: {reason}") from error

    def follow(self, trial: FrozenTrial) -> None:
        """Bring the copy of a trial up to date after it was enqueued, asked for, or told."""
        self._try(lambda: self._follow(trial))

    def report(self, number: int, epoch: int, value: float) -> None:
        """Copy what a running trial reported."""
        self._try(lambda: self._storage.set_trial_intermediate_value(self._ids[number], epoch, value))

    def _try(self, write: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            write()
        except Exception as error:  # whatever a database that died raises: the record has it all
            self._lost = True
            logger.warning("Optuna's copy of the study is left behind until `resume`: %s", error)

    def _follow(self, trial: FrozenTrial) -> None:
        if trial.number == len(self._ids):
            self._ids.append(self._storage.create_new_trial(self._study_id, _shown(trial)))
            return
        trial_id = self._ids[trial.number]
        if trial.state is TrialState.RUNNING:
            self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            for name, value in trial.params.items():
                distribution = trial.distributions[name]
                self._storage.set_trial_param(trial_id, name, distribution.to_internal_repr(value), distribution)
            return
        for key, value in _shown(trial).system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)


def _shown(trial: FrozenTrial) -> FrozenTrial:
    """The trial without what samplers note for themselves, which may be long."""
    attributes = {key: value for key, value in trial.system_attrs.items() if key.startswith("constraints")}
    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=trial.state,
        value=None,
        values=trial.values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=attributes,
        intermediate_values=trial.intermediate_values,
    )


def _same(copied: Iterable[FrozenTrial], trials: list[FrozenTrial]) -> bool:
    return [_essence(trial) for trial in copied] == [_essence(trial) for trial in trials]


def _essence(trial: FrozenTrial) -> tuple[Any, ...]:
    shown = trial.number, trial.state, trial.values, trial.params, trial.constraints, trial.intermediate_values
    return (*shown, trial.distributions)  # they change with the space


def _in_database(
    storage: BaseStorage, name: str, directions: list[StudyDirection], trials: list[FrozenTrial]
) -> OptunaCopy:
    """The copy in a storage, where it is true; else made anew there."""
    for known in storage.get_all_studies():
        if known.study_name == name:
            copied = storage.get_all_trials(known._study_id, deepcopy=False)
            if known.directions == directions and _same(copied, trials):
                return OptunaCopy(storage, known._study_id, [trial._trial_id for trial in copied])
            storage.delete_study(known._study_id)
    study_id = storage.create_new_study(directions, name)
    return OptunaCopy(storage, study_id, [storage.create_new_trial(study_id, _shown(trial)) for trial in trials])


def _in_journal(path: Path, name: str, directions: list[StudyDirection], trials: list[FrozenTrial]) -> OptunaCopy:
    """The copy in the study's folder, whose file holds no other."""
    try:
        storage = JournalStorage(_JournalFile(path, _logs(path)))
        (known,) = storage.get_all_studies()
        if known.study_name == name and _same(storage.get_all_trials(known._study_id, deepcopy=False), trials):
            return _in_database(storage, name, directions, trials)
    except Exception as error:  # whatever a file that is missing or damaged makes Optuna raise
        logger.info("%s is made anew: %s", path, error)
    draft = _JournalFile(path)
    copy = _in_database(JournalStorage(draft), name, directions, trials)
    draft.save()
    return copy


def _logs(path: Path) -> list[dict[str, Any]]:
    content = read_regular(path)
    if not content.endswith(b"\n"):
        raise ValueError("its last line is cut short")
    return [json.loads(line) for line in content.splitlines()]


class _JournalFile(BaseJournalBackend):
    """Optuna's journal, which this process alone writes to: no lock, and no wait for the disk, for it is a copy.

    Args:
        path: the file.
        logs: what it holds; None writes nothing before `save`.
    """

    def __init__(self, path: Path, logs: list[dict[str, Any]] | None = None) -> None:
        self._path = path
        self._unread = logs or []
        self._draft: list[str] | None = [] if logs is None else None

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # noqa: ARG002  # what was not read before
        unread, self._unread = self._unread, []
        yield from unread

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        if self._draft is not None:
            self._draft.append(text)
        else:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        self._unread += [json.loads(line) for line in text.splitlines()]

    def save(self) -> None:
        """Make the file of all logs so far, and append to it from now on."""
        try:
            replace_file(self._path, "".join(self._draft or ()))
        except OSError as error:
            logger.warning("Optuna's copy of the study is not written: %s", error)
        self._draft = None


class ResultsCopy(StudyObserver):
    """`results.jsonl`: one line of JSON per ended trial.

    Args:
        path: the file.
        results: of the trials that have ended so far.
    """

    def __init__(self, path: Path, results: Iterable[TrialResult]) -> None:
        self._path = path
        text = "".join(map(_line, results))
        self._try(lambda: None if _holds(path, text) else replace_file(path, text))

    def trial_finished(self, result: TrialResult) -> None:
        self._try(lambda: self._append(_line(result)))

    def _append(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(line)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            logger.warning("%s is left behind until `resume`: %s", self._path, error)


def _line(result: TrialResult) -> str:
    return json.dumps(asdict(result), allow_nan=False) + "\n"


def _holds(path: Path, text: str) -> bool:
    return path.read_bytes() == text.encode() if path.is_file() else not text and not path.exists()
