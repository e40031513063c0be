"""From bytes to a `Tree`: YAML 1.2 (core schema, no tags), read under limits that no file can use to exhaust memory."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from bnnsearch.space.tree import Mark, Problem, Scalar, SpaceError, Tree, quoted

MAX_BYTES = 2**20
MAX_DEPTH = 32
MAX_VALUES = 20_000

CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 40


def read_tree(data: bytes, source: str) -> Tree:
    """The one YAML document in `data`; `source` is what its places are called.

    Raises:
        SpaceError: not YAML 1.2 in UTF-8, over a limit, or with a tag, a duplicate key or a number that is not finite.
    """
    text = _decode(data, source)
    document = _Document(source)
    try:
        tree = document.read(YAML(typ="safe", pure=True).parse(text))
    except YAMLError as error:
        raise SpaceError([*document.problems, _syntax_problem(error, text, source)]) from None
    if document.problems:
        raise SpaceError(document.problems)
    return tree


def misplaced_characters(text: str) -> str | None:
    """What no text may hold, and yet can, by escapes in quotes or as bytes of an option that are no UTF-8."""
    for each in text:
        if "\ud800" <= each <= "\udfff":
            return f"text holds no lone surrogates, nor bytes that are not UTF-8, but got {quoted(text)}"
        if each == "\0":
            return f"text holds no NUL, but got {quoted(text)}"
    return None


def _decode(data: bytes, source: str) -> str:
    if len(data) > MAX_BYTES:
        raise SpaceError([Problem(Mark(source), f"at most {MAX_BYTES} bytes are read, but got {len(data)}")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _mark_at(data[: error.start].decode("utf-8"), error.start, source)
        raise SpaceError([Problem(mark, f"the text must be UTF-8, but got byte 0x{data[error.start]:02x}")]) from None
    if "\0" in text:
        raise SpaceError([Problem(_mark_at(text, text.index("\0"), source), "text holds no NUL, but got one")])
    return text


def _mark_at(text: str, position: int, source: str) -> Mark:
    before = text[:position]
    return Mark(source, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax_problem(error: YAMLError, text: str, source: str) -> Problem:
    if isinstance(error, ReaderError):
        mark = _mark_at(text, error.position, source)
        return Problem(mark, f"text holds no control characters, but got {text[error.position]!r}")
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Problem(Mark(source), f"not YAML: {' '.join(str(error).split())}")
    mark = Mark(source, error.problem_mark.line + 1, error.problem_mark.column + 1)
    lines = text.splitlines()
    if mark.line <= len(lines) and lines[mark.line - 1][mark.column - 1 : mark.column] == "\t":
        return Problem(mark, "indent with spaces, but got a tab")
    context = f"{error.context}: " if error.context else ""
    return Problem(mark, f"not YAML: {context}{' '.join(str(error.problem).split())}")


@dataclass(frozen=True, slots=True)
class _Measured:
    """A tree, its height (a scalar's is 0) and how many values it holds with aliases written out."""

    tree: Tree
    height: int
    values: int


class _Document:
    """Builds the tree of one document from parser events; what can be skipped over is gathered in `problems`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._anchors: dict[str, _Measured] = {}
        self._values = 0
        self._open = 0

    def read(self, events: Iterator[Event]) -> Tree:
        """The document's tree.

        Raises:
            SpaceError: no document, several, or one over a limit.
            YAMLError: not YAML.
        """
        tree: Tree | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if tree is not None:
                    raise self._refuse(event, "a space is one YAML document, but got a second")
                tree = self._node(next(events), events).tree
        if tree is None:
            raise SpaceError(
                [Problem(Mark(self.source, 1, 1), "a space is a mapping of settings, but the file is empty")]
            )
        return tree

    def _node(self, event: Event, events: Iterator[Event]) -> _Measured:
        measured = self._alias(event) if isinstance(event, AliasEvent) else self._fresh(event, events)
        self._values += measured.values if isinstance(event, AliasEvent) else 1
        if self._values > MAX_VALUES:
            raise self._refuse(event, f"at most {MAX_VALUES} values are read, aliases written out, but got more")
        if self._open + measured.height > MAX_DEPTH:
            raise self._refuse(event, f"at most {MAX_DEPTH} levels may nest, but got more")
        return measured

    def _alias(self, event: AliasEvent) -> _Measured:
        if event.anchor not in self._anchors:
            raise self._refuse(event, f"an alias repeats an anchored value that is complete, but got *{event.anchor}")
        return self._anchors[event.anchor]

    def _fresh(self, event: Event, events: Iterator[Event]) -> _Measured:
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        mark = self._mark(event)
        if event.tag is not None:
            self.problems.append(Problem(mark, f"tags are refused, but got {quoted(str(event.tag))}"))
        if isinstance(event, ScalarEvent):
            measured = _Measured(Tree(self._scalar(event), mark, mark), 0, 1)
        else:
            measured = self._collection(event, events, mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = measured
        return measured

    def _collection(self, event: Event, events: Iterator[Event], mark: Mark) -> _Measured:
        self._open += 1
        if self._open > MAX_DEPTH:
            raise self._refuse(event, f"at most {MAX_DEPTH} levels may nest, but got more")
        if isinstance(event, SequenceStartEvent):
            items = list(self._items(events))
            value: tuple[Tree, ...] | dict[str, Tree] = tuple(item.tree for item in items)
        else:
            assert isinstance(event, MappingStartEvent)
            entries = self._entries(events)
            items = list(entries.values())
            value = {key: entry.tree for key, entry in entries.items()}
        self._open -= 1
        height = 1 + max((item.height for item in items), default=0)
        return _Measured(Tree(value, mark, mark), height, 1 + sum(item.values for item in items))

    def _items(self, events: Iterator[Event]) -> Iterator[_Measured]:
        while not isinstance(event := next(events), SequenceEndEvent):
            yield self._node(event, events)

    def _entries(self, events: Iterator[Event]) -> dict[str, _Measured]:
        entries: dict[str, _Measured] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            key = self._node(event, events).tree
            value = next(events)
            entry = self._node(value, events)
            if not isinstance(key.value, str):
                self.problems.append(Problem(key.mark, f"a key is text, but got {quoted(key.plain)}"))
            elif key.value in entries:
                first = entries[key.value].tree.key.line
                self.problems.append(Problem(key.mark, f"duplicate key {key.value!r}, first in line {first}"))
            else:
                # The parser finds a value that is left out only at the next token, which may be lines below.
                left_out = isinstance(value, ScalarEvent) and value.start_mark.index == value.end_mark.index
                mark = key.mark if left_out else entry.tree.mark
                entries[key.value] = replace(entry, tree=replace(entry.tree, mark=mark, key=key.mark))
        return entries

    def _scalar(self, event: ScalarEvent) -> Scalar:
        """The value of a scalar by YAML 1.2's core schema (chapter 10.3); a quoted one is text."""
        text: str = event.value
        if (wrong := misplaced_characters(text)) is not None:
            self.problems.append(Problem(self._mark(event), wrong))
            return ""
        if event.style is not None and event.style != "":
            return text
        if text in CONSTANTS:
            return CONSTANTS[text]
        whole = _INTEGER.fullmatch(text)
        if not whole and not _FLOAT.fullmatch(text):
            return text
        if whole and len(text) <= _MAX_DIGITS:
            return int(text, 10 if text.lstrip("+-").isdecimal() else 0)
        number = math.nan if whole else float(re.sub(r"\.(?=[a-zA-Z])", "", text))
        if not math.isfinite(number):
            rule = f"a number is finite and has at most {_MAX_DIGITS} digits"
            self.problems.append(Problem(self._mark(event), f"{rule}, but got {quoted(text)}"))
        return number

    def _mark(self, event: Event) -> Mark:
        return Mark(self.source, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, event: Event, message: str) -> SpaceError:
        return SpaceError([*self.problems, Problem(self._mark(event), message)])
