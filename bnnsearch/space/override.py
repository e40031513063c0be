"""What is put into a space from outside the file: `--set` options and environment variables in paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bnnsearch.space.reader import misplaced_characters, read_tree
from bnnsearch.space.tree import Mark, Problem, SpaceError, Tree, holds_credentials, quoted, without_credentials

PATH_KEYS = frozenset({"root", "uri", "cache", "path"})
"""Keys whose text may hold `${VAR}` or `${VAR:-default}`."""

_WIDTH = 160
_LETTER = "\ue000"
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>[^}]*))?\}")


def set_values(tree: Tree, overrides: Sequence[str]) -> Tree:
    """`tree` with each `dotted.path=value` set, the value read as YAML; missing groups on the way are made.

    Below a choice with branches, a branch's name may follow directly: `trial.method.bnew.finetune_epochs=5`.

    Raises:
        SpaceError: an override has no path, its value is not YAML, or the path leads through what is no mapping.
    """
    for override in overrides:
        mark = Mark(_shown(override))
        path, equals, text = override.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise SpaceError([Problem(mark, f"write --set dotted.path=value, but got {quoted(override)}")])
        if (wrong := misplaced_characters(override)) is not None:
            raise SpaceError([Problem(mark, wrong)])
        if _has_comment(text):
            rule = "a # at the start or after a space begins a comment in YAML; write the value in quotes"
            raise SpaceError([Problem(mark, f"{rule}, such as {path}='\"a #b\"', but got {quoted(text)}")])
        value = read_tree(text.encode(), mark.source) if text.strip() else Tree(None, mark, mark)
        tree = _set(tree, keys, _moved(value, mark))
    return tree


def _shown(override: str) -> str:
    """The option as a place; a long value is shortened."""
    text = without_credentials(override)
    return f"--set {text if len(text) <= _WIDTH else f'{text[: _WIDTH - 3]}...'}"


def _has_comment(text: str) -> bool:
    """Whether a part of `text` is no part of its value: with a letter in the place of each # it would be."""
    if "#" not in text:
        return False
    try:
        whole = json.dumps(read_tree(text.replace("#", _LETTER).encode(), "").plain)
    except SpaceError:
        return False  # it is wrong in another way as well, which is told
    try:
        return whole.replace(json.dumps(_LETTER)[1:-1], "#") != json.dumps(read_tree(text.encode(), "").plain)
    except SpaceError:
        return True


def _set(tree: Tree, keys: Sequence[str], value: Tree) -> Tree:
    if not keys:
        return value
    if not isinstance(tree.value, dict):
        raise SpaceError(
            [Problem(value.mark, f"the path leads through mappings, but {keys[0]!r} would stand in a value")]
        )
    key, *rest = keys
    if key not in tree.value and rest and key in (branches := tree.mapping.get("branches", tree)).mapping:
        return replace(tree, value={**tree.value, "branches": _set(branches, keys, value)})
    inner = tree.value.get(key) or Tree({}, value.mark, value.mark)
    return replace(tree, value={**tree.value, key: _set(inner, rest, value)})


def _moved(tree: Tree, mark: Mark) -> Tree:
    """`tree` with every place replaced by `mark`: an option has no lines to point at."""
    value = tree.value
    if isinstance(value, tuple):
        value = tuple(_moved(child, mark) for child in value)
    elif isinstance(value, dict):
        value = {key: _moved(child, mark) for key, child in value.items()}
    return Tree(value, mark, mark)


def fill_variables(tree: Tree, environment: Mapping[str, str], problems: list[Problem], key: str = "") -> Tree:
    """`tree` with the environment's variables put into paths; what is wrong is added to `problems`.

    A URI in the file that names a user is refused: credentials come from the environment, never from a file.
    """
    value = tree.value
    if isinstance(value, tuple):
        return replace(tree, value=tuple(fill_variables(child, environment, problems, key) for child in value))
    if isinstance(value, dict):
        filled = {name: fill_variables(child, environment, problems, name) for name, child in value.items()}
        return replace(tree, value=filled)
    if not isinstance(value, str):
        return tree
    if holds_credentials(value):
        rule = "a URI in a file holds no credentials, they come from environment variables"
        problems.append(Problem(tree.mark, f"{rule}, but got {quoted(value)}"))
    if "${" not in value:
        return tree
    return replace(tree, value=_filled(tree, value, environment, problems, key))


def _filled(tree: Tree, text: str, environment: Mapping[str, str], problems: list[Problem], key: str) -> str:
    if key not in PATH_KEYS:
        allowed = ", ".join(sorted(PATH_KEYS))
        problems.append(
            Problem(tree.mark, f"${{...}} stands only in paths, but got {quoted(text)}; allowed: {allowed}")
        )
        return text
    if "${" in _VARIABLE.sub("", text):
        problems.append(Problem(tree.mark, f"a variable is ${{VAR}} or ${{VAR:-default}}, but got {quoted(text)}"))
        return text

    def fill(found: re.Match[str]) -> str:
        if found["name"] not in environment and found["default"] is None:
            hint = f"set it, or write ${{{found['name']}:-default}}"
            problems.append(Problem(tree.mark, f"the environment has no variable {found['name']}; {hint}"))
        # As in a shell, an empty variable takes the default too.
        value = environment.get(found["name"]) or found["default"] or ""
        if (wrong := misplaced_characters(value)) is not None:
            problems.append(Problem(tree.mark, f"{found['name']}: {wrong}"))
        return value

    return _VARIABLE.sub(fill, text)
