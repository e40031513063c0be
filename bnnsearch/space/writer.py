"""From a `Tree` back to YAML: a mapping that fits on a line is written on one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bnnsearch.space.reader import CONSTANTS
from bnnsearch.space.tree import Scalar, Tree

_WIDTH = 80
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def write_yaml(tree: Tree) -> str:
    """Text that `read_tree` reads to the values of `tree`, a mapping."""
    return "".join(f"{line}\n" for line in _lines(tree, ""))


def _lines(tree: Tree, indent: str) -> Iterator[str]:
    for key, child in tree.mapping.items():
        line = f"{indent}{_scalar(key)}: {_flow(child)}"
        if child.mapping and len(line) > _WIDTH:
            yield f"{indent}{_scalar(key)}:"
            yield from _lines(child, f"{indent}  ")
        else:
            yield line


def _flow(tree: Tree) -> str:
    if isinstance(tree.value, dict):
        return f"{{{', '.join(f'{_scalar(key)}: {_flow(child)}' for key, child in tree.value.items())}}}"
    if isinstance(tree.value, tuple):
        return f"[{', '.join(map(_flow, tree.value))}]"
    return _scalar(tree.value)


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
