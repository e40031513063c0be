"""`space.yaml` in a study's folder, and the files it uses: what may be edited, what not; mended from the record."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bnnsearch.config.guests import files_told
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.files import read_regular
from bnnsearch.folder import StudyFolder, replace_file
from bnnsearch.past import GUESTS
from bnnsearch.record import SESSION, Event, Record
from bnnsearch.space import Space, SpaceError, load, space_of
from bnnsearch.space.narrowing import changes
from bnnsearch.space.reader import read_tree
from bnnsearch.verdict import CHANGED

MAY_DIFFER = ("budget", "confirm", "tracking.uri")
"""A part of the space, or one setting of a part."""


def resumed_space(
    folder: StudyFolder, record: Record | None, *, trials: int | None, changed_guests: bool = False
) -> tuple[Space, list[str]]:
    """The space to go on with, and a line for each thing that the user should know about its files.

    Args:
        folder: the study's.
        record: of the study; None where it does not tell.
        trials: a new `budget.trials`.
        changed_guests: whether guests may be others than they were.

    Raises:
        InputError: a file was edited in more than may differ, or a guest has changed.
        EnvironmentProblem: neither the record nor the file holds a space.
    """
    overrides = _overrides(trials)
    session: Event | None = None
    texts: set[str] = set()
    replaced: set[str] = set()
    for session in () if record is None else record.events((SESSION,)):
        if CHANGED in session:
            replaced |= texts - {session["space"]}
        texts.add(session["space"])
    told = [] if session is None else session.get(GUESTS, [])
    guests, changes = _guest_files(folder, files_told(told), changed=changed_guests)
    text, notes = _edited(folder.space, None if session is None else session["space"], guests, replaced)
    space = space_of(text, folder.space, overrides=overrides, guests=guests)
    before = {each["entry"]: each["digest"] for each in told}
    for guest in space.guests:
        if not guest.is_file and guest.digest != before.get(guest.entry, guest.digest):
            changes.append(_changed(f"{guest.entry}: its package", accepted=changed_guests))
    return space, notes + changes


def other_space(space: Space, given: Path | Space, *, trials: int | None) -> tuple[Space, list[str]]:
    """The space of a file in the place of a study's, and a line for each thing in which it is another one.

    Args:
        space: the study's so far.
        given: the new one; what it uses is what the study does.
        trials: a new `budget.trials`.

    Raises:
        SpaceError: it is none, or differs in more than may while a search stands.
    """
    path = given if isinstance(given, Path) else given.path
    text = load.content(given) if isinstance(given, Path) else given.text.encode()
    guests = {guest.entry: guest.files[guest.entry] for guest in space.guests if guest.is_file}
    told = changes(space, space_of(text, path, guests=guests), besides=MAY_DIFFER)
    return space_of(text, path, overrides=_overrides(trials), guests=guests), told


def _overrides(trials: int | None) -> tuple[str, ...]:
    return () if trials is None else (f"budget.trials={trials}",)


def write_space(folder: StudyFolder, space: Space) -> None:
    """Write the space and the files that it uses into a study's folder."""
    replace_file(folder.space, space.text)
    for guest in space.guests:
        if guest.is_file:
            replace_file(folder.path / guest.entry, guest.files[guest.entry])


def _guest_files(
    folder: StudyFolder, recorded: Mapping[str, bytes], *, changed: bool
) -> tuple[dict[str, bytes], list[str]]:
    """The files to go on with, and a line for each that is not as it was."""
    guests, notes = dict(recorded), []
    for name, content in recorded.items():
        path = folder.path / name
        try:
            guests[name] = read_regular(path)
        except OSError as error:
            replace_file(path, content)
            notes.append(f"{path}: {error.strerror}; made anew from the study's record")
        if guests[name] != content:
            notes.append(_changed(str(path), accepted=changed))
    return guests, notes


def _changed(what: str, *, accepted: bool) -> str:
    said = f"{what} has changed since the study began"
    if not accepted:
        raise InputError(f"{said}; bring it back as it was, or go on with `--changed-guests`")
    return f"{said}; the trials from here on are of another kind"


def _edited(
    path: Path, recorded: str | None, guests: Mapping[str, bytes], replaced: Collection[str]
) -> tuple[bytes, list[str]]:
    """The text to go on with; `replaced` are those of before the space was changed, which may still stand there."""
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
    if found in {text.encode() for text in replaced}:
        return recorded.encode(), [f"{path}: is of before the space was changed; made anew from the study's record"]
    if recorded.encode().startswith(found):
        return recorded.encode(), [f"{path}: cut short; made anew from the study's record"]
    try:
        edited = _plain(space_of(found, path, guests=guests))
    except SpaceError as error:
        aside = path.with_name(f"{path.name}.unreadable")
        path.replace(aside)
        reason = str(error).splitlines()[0]
        return recorded.encode(), [f"{reason}; the study goes on with the space of its record, this is now {aside}"]
    before = _plain(space_of(recorded.encode(), path, guests=guests))
    if differences := _differences(_fixed(before), _fixed(edited)):
        raise InputError(
            f"{path}: the space was edited since the study began, only {', '.join(MAY_DIFFER)} may be: "
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
