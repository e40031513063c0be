"""`space.yaml` in a study's folder: what may be edited there, and what may not; mended from the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder
from bnnsearch.space import Space, SpaceError, space_of
from bnnsearch.space.reader import read_tree

MAY_DIFFER = ("budget", "tracking.uri")
"""A part of the space, or one setting of a part."""


def resumed_space(folder: StudyFolder, recorded: str | None, *, trials: int | None) -> tuple[Space, list[str]]:
    """The space to go on with, and a line for each thing that the user should know about the file.

    Args:
        folder: the study's.
        recorded: the space of the last session; None where the record does not tell.
        trials: a new `budget.trials`.

    Raises:
        InputError: the file was edited in more than may differ.
        EnvironmentProblem: neither the record nor the file holds a space.
    """
    overrides = () if trials is None else (f"budget.trials={trials}",)
    text, notes = _edited(folder.space, recorded)
    return space_of(text, folder.space, overrides=overrides), notes


def _edited(path: Path, recorded: str | None) -> tuple[bytes, list[str]]:
    try:
        found = read_regular(path)
    except OSError as error:
        if recorded is None:
            raise EnvironmentProblem(
                f"{path}: cannot be read ({error.strerror}), and the study's record does not hold its space"
            ) from error
        return recorded.encode(), [f"{path}: {error.strerror}; made anew from the study's record"]
    if recorded is None or found == recorded.encode():
        return found, []
    if recorded.encode().startswith(found):
        return recorded.encode(), [f"{path}: cut short; made anew from the study's record"]
    try:
        edited = _plain(space_of(found, path))
    except SpaceError as error:
        aside = path.with_name(f"{path.name}.unreadable")
        path.replace(aside)
        reason = str(error).splitlines()[0]
        return recorded.encode(), [f"{reason}; the study goes on with the space of its record, this is now {aside}"]
    before = _plain(space_of(recorded.encode(), path))
    if differences := _differences(_fixed(before), _fixed(edited)):
        raise InputError(
            f"{path}: the space was edited since the study began, only {' and '.join(MAY_DIFFER)} may be: "
            f"{'; '.join(differences)}; "
            "without the file the study goes on as it began"
        )
    changes = _differences(before, edited)
    return found, [f"{path}: edited: {'; '.join(changes)}"] if changes else []


def _plain(space: Space) -> dict[str, Any]:
    """The space's settings as plain values."""
    tree: dict[str, Any] = json.loads(json.dumps(read_tree(space.text.encode(), str(space.path)).plain))
    return tree


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    """The settings without those that may change."""
    fixed = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for part, _, setting in (name.partition(".") for name in MAY_DIFFER):
        if not setting:
            fixed.pop(part, None)
        elif isinstance(fixed.get(part), dict):
            fixed[part].pop(setting, None)
            if not fixed[part]:
                del fixed[part]
    return fixed


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
