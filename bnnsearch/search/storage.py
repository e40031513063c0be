"""The ledger's file: an Optuna journal in the study's folder, mended where a crash cut it short."""

from __future__ import annotations

import json
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


def open_storage(path: Path) -> JournalStorage:
    """The journal at `path`. Call it only while holding the folder: a lock that a dead driver left is removed.

    Raises:
        DamagedJournalError: a line of the journal cannot be read.
    """
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists():
        _cut_unfinished_line(path)
        _check(path)
    return JournalStorage(JournalFileBackend(str(path)))


class DamagedJournalError(ValueError):
    """The ledger's file was damaged."""


def _cut_unfinished_line(path: Path) -> None:
    """Drop a last line without its end: the entry a dying driver was writing, which nobody has acted on."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as journal:
            journal.truncate(whole)


def _check(path: Path) -> None:
    with path.open(encoding="utf-8") as journal:
        for place, line in enumerate(journal, start=1):
            try:
                json.loads(line)
            except ValueError as error:
                raise DamagedJournalError(f"{path}:{place}: the journal is damaged ({error})") from error
