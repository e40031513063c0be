"""A study's folder: what lies where in it, and how the newest one is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.invocation import command


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The files of one study, below `path`; the folder's name identifies the study in MLflow too (`search_id`)."""

    path: Path

    @property
    def record(self) -> Path:
        """Everything that happened; the other files can be made from it."""
        return self.path / "study.record"

    @property
    def space(self) -> Path:
        """The space as it was resolved; its budget and `tracking.uri` may be edited."""
        return self.path / "space.yaml"

    @property
    def journal(self) -> Path:
        """A copy for Optuna, which optuna-dashboard opens."""
        return self.path / "study.journal"

    @property
    def results(self) -> Path:
        """A copy for other programs: one line of JSON per ended trial."""
        return self.path / "results.jsonl"

    @property
    def log(self) -> Path:
        """What the search, Optuna and Ray logged."""
        return self.path / "search.log"

    @property
    def checkpoints(self) -> Path:
        """States of running trials."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The front as JSON, CSV and pictures."""
        return self.path / "report"

    @property
    def search_id(self) -> str:
        """What tells this search from another one of the same space."""
        return self.path.resolve().name


def new_study_folder(runs: Path, name: str) -> StudyFolder:
    """The folder for a search that starts now; not made yet. Two searches that start in one second get two folders."""
    stem = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    paths = (runs / name / (stem if copy == 0 else f"{stem}-{copy}") for copy in range(1000))
    return StudyFolder(next(path for path in paths if not path.exists()))


def find_study_folder(study: Path | None, runs: Path) -> StudyFolder:
    """The folder that was named, or else the newest below `runs`.

    Raises:
        InputError: there is none.
    """
    if study is not None:
        folder = StudyFolder(study)
        if not holds_study(folder):
            raise InputError(
                f"{study}: holds no study (no {folder.record.name}); a study is a folder such as {runs}/NAME/DATE"
            )
        return folder
    folders = study_folders(runs)
    if not folders:
        raise InputError(f"{runs}: holds no study yet; `{command('run', 'SPACE')}` makes one")
    return folders[0]


def holds_study(folder: StudyFolder) -> bool:
    """Whether a study began there; one file of it may be lost."""
    return folder.space.exists() or (folder.record.exists() and folder.record.stat().st_size > 0)


def study_folders(runs: Path) -> list[StudyFolder]:
    """Every study below `runs`, the one that was taken up last first."""
    folders = [StudyFolder(path) for path in runs.glob("*/*") if holds_study(StudyFolder(path))]
    return sorted(folders, key=_taken_up, reverse=True)


def _taken_up(folder: StudyFolder) -> int:
    """When its last session began; the space is written then."""
    return (folder.space if folder.space.exists() else folder.record).stat().st_mtime_ns


def make_way(path: Path, *, unless: Callable[[Path], bool]) -> None:
    """Move what lies where a file or a folder belongs, and is none (`unless`), out of the way."""
    if unless(path) or not os.path.lexists(path):
        return
    copies = (path.with_name(f"{path.name}.aside{copy or ''}") for copy in range(1000))
    path.rename(next(copy for copy in copies if not copy.exists()))


def replace_file(path: Path, content: str | bytes) -> None:
    """Make the file anew in one step, whatever is there."""
    draft = path.with_name(f".{path.name}.draft")
    for place in (draft, path):
        make_way(place, unless=Path.is_file)
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    draft.replace(path)


TEACHERS = "teachers"
"""Folder, in the cache, of the networks that runs learn from and start from."""


def cache_folder() -> Path:
    """What studies share, such as pretrained networks: BNNSEARCH_CACHE, else below the user's cache folder.

    Raises:
        EnvironmentProblem: nothing says where that is.
    """
    if own := os.environ.get("BNNSEARCH_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnnsearch"
    except RuntimeError as error:  # as of a container's user who has a number alone
        raise EnvironmentProblem("this user has no home folder; set HOME, or BNNSEARCH_CACHE to a folder") from error
