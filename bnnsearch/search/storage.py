"""Where the ledger lies: a journal in the study's folder, mended after a crash, rebuilt when damaged; or a database."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import StudyFolder
from bnnsearch.results import TrialResult, read_results
from bnnsearch.search.ledger import Ledger
from bnnsearch.space import Space
from bnnsearch.space.reader import read_tree

logger = logging.getLogger(__name__)

SPACE_KEY = "space"
MAY_DIFFER = ("budget",)


def open_ledger(folder: StudyFolder, space: Space) -> Ledger:
    """The study's ledger. Call it only while holding the folder: a lock that a dead driver left is removed.

    `results.jsonl` is the second copy of what the ledger knows of ended trials. Where the journal is damaged or has
    lost one of them it is put aside and written anew from the results; the values at rungs and the trials that were
    running are lost then, and those trials run again.

    Raises:
        InputError: the space is not the one the study began with, or its database has lost trials.
        EnvironmentProblem: the database cannot be used.
    """
    results = read_results(folder.results)
    if space.study.storage.uri is not None:
        ledger = _ledger(_database(space.study.storage.uri), f"{space.study.name}/{folder.search_id}", space)
        if lost := _lost(ledger, results):
            raise InputError(f"storage.uri: the study in the database lacks trial {lost[0]} of {folder.results}")
        return ledger
    folder.journal.with_name(folder.journal.name + ".lock").unlink(missing_ok=True)
    damage = _damage(folder.journal)
    if damage is None:
        ledger = _ledger(_journal(folder), space.study.name, space)
        if not (lost := _lost(ledger, results)):
            return ledger
        damage = f"it lacks trial {lost[0]}"
    aside = folder.journal.with_suffix(".damaged")
    logger.warning("%s: %s; put aside as %s and rebuilt from %s", folder.journal, damage, aside, folder.results)
    folder.journal.replace(aside)
    ledger = _ledger(_journal(folder), space.study.name, space)
    ledger.restore(results)
    return ledger


def _journal(folder: StudyFolder) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder.journal)))


def _database(uri: str) -> RDBStorage:
    try:
        return RDBStorage(uri)
    except (ImportError, ValueError, SQLAlchemyError) as error:
        raise EnvironmentProblem(f"storage.uri: the database cannot be used: {str(error).splitlines()[0]}") from error


def _lost(ledger: Ledger, results: Sequence[TrialResult]) -> list[int]:
    return [result.number for result in results if not ledger.knows(result.number)]


def _ledger(storage: BaseStorage, name: str, space: Space) -> Ledger:
    ledger = Ledger(storage, name, study=space.study, space=space.trial)
    wanted = _plain(space)
    differences = _differences(ledger.remembered(SPACE_KEY, wanted), wanted)
    if differences:
        raise InputError(f"the space was edited since the study began, only the budget may: {'; '.join(differences)}")
    return ledger


def _damage(journal: Path) -> str | None:
    """What is wrong with a journal. A last line without its end is cut off: nobody has acted on it."""
    if not journal.exists():
        return None
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as file:
            file.truncate(whole)
    for place, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            json.loads(line)
        except ValueError:
            return f"line {place} is damaged"
    return None


def _plain(space: Space) -> dict[str, Any]:
    """The space's settings as plain values, without those that may change."""
    tree = json.loads(json.dumps(read_tree(space.text.encode(), str(space.path)).plain))
    return {key: value for key, value in tree.items() if key not in MAY_DIFFER}


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Each setting in which two trees differ, as `dotted.path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            line
            for key in keys
            for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]
