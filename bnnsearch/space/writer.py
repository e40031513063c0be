"""From values to YAML: a mapping that fits on a line is written on one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bnnsearch.space.reader import CONSTANTS
from bnnsearch.space.tree import Scalar

_WIDTH = 80
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def write_yaml(values: Mapping[str, Any]) -> str:
    """Text that `read_tree` reads to `values`: mappings, lists and scalars."""
    return "".join(f"{line}\n" for line in _lines(values, ""))


def _lines(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, child in values.items():
        line = f"{indent}{_scalar(key)}: {_flow(child)}"
        if isinstance(child, Mapping) and child and len(line) > _WIDTH:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(child, f"{indent}  ")
        else:
            yield line


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_scalar(key)}: {_flow(child)}' for key, child in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    return _scalar(value)


def _scalar(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value not in CONSTANTS:
        return value
    return f'"{"".join(map(_quoted_character, value))}"'


def _quoted_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
