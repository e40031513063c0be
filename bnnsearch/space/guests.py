"""`use:` of a file: its guests, and where in the file it stands that one cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bnnsearch.config.families import PLACES
from bnnsearch.config.guests import Guest, GuestError, use
from bnnsearch.space.tree import Problem, SpaceError, Tree


def used(tree: Tree, folder: Path, recorded: Mapping[str, bytes] | None = None) -> tuple[Guest, ...]:
    """Bring what a configuration uses into this process; an entry that is no text is left to the check of its settings.

    Args:
        tree: the configuration.
        folder: where it lies.
        recorded: content of files that need not lie there, by name.

    Raises:
        SpaceError: something cannot be used.
    """
    entries = tree.mapping["use"].value if "use" in tree.mapping else ()
    if not isinstance(entries, tuple) or not all(isinstance(each.value, str) for each in entries):
        return ()
    try:
        guests = use([str(each.value) for each in entries], folder, recorded)
    except GuestError as error:
        raise SpaceError([Problem(entries[error.place].mark, str(error))]) from error
    for place, (entry, guest) in enumerate(zip(entries, guests, strict=True)):
        PLACES[guest.module] = f"{entry.mark}: use.{place}: {entry.value}"
    return guests
