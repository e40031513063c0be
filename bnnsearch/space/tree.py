"""A YAML document as a tree whose every value knows its place in the file, and the errors that name such places."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bnnsearch.errors import InputError, printable

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place: line and column from 1, or a whole source (a file, a `--set` option) where `line` is 0."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Tree:
    """A value, the place where it starts, and the place of the key it stands under (its own where it has none)."""

    value: Scalar | tuple[Tree, ...] | dict[str, Tree]
    mark: Mark
    key: Mark

    @property
    def plain(self) -> Any:
        """The value without places: scalars, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: child.plain for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain for child in self.value]
        return self.value

    @property
    def mapping(self) -> dict[str, Tree]:
        """The children by key; empty where this is no mapping."""
        return self.value if isinstance(self.value, dict) else {}

    def walk(self) -> Iterator[Tree]:
        """This tree and all below it."""
        yield self
        children = self.value if isinstance(self.value, tuple) else self.mapping.values()
        for child in children:
            yield from child.walk()


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong with a space: where, and the rule, the value and what is allowed, on one line."""

    mark: Mark
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.message}"


class SpaceError(InputError):
    """A space that cannot be used; `problems` is what is wrong, in file order, and `str()` one line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(self.lines))

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(printable(str(problem)) for problem in self.problems)


_USER_IN_URI = re.compile(r"(?<=://)[^/?#\s]*@")
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}


def holds_credentials(text: str) -> bool:
    """Whether `text` has a URI with a user or password in it."""
    return _USER_IN_URI.search(text) is not None


def without_credentials(text: str) -> str:
    """`text` with the user and password of any URI in it replaced by `***`."""
    return _USER_IN_URI.sub("***@", text)


def quoted(value: object) -> str:
    """`value` as an error shows it: as in YAML, on one line, shortened to 60 characters, without credentials."""
    text = without_credentials(_CONSTANTS.get(repr(value), repr(value)))
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` where one of `known` resembles `word`; and what is known in any case."""
    close = difflib.get_close_matches(str(word), known, n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    return f"{hint} allowed: {', '.join(known)}"
