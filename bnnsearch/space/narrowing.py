"""A space beside the one that a search goes by: whether it is the same but for what may change while the search stands.

Those are bounds, choices and branches, with the defaults and priors that follow them, `forbid`, `constraints`, and what
a study's own `space.yaml` may be edited in.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from bnnsearch.space.distribution import Choice, Number, Range
from bnnsearch.space.load import Space
from bnnsearch.space.node import Branches, Constant, Group, Node
from bnnsearch.space.reader import read_tree
from bnnsearch.space.tree import Mark, Problem, SpaceError, Tree, quoted


@dataclass(frozen=True, slots=True)
class _Difference:
    """One thing in which two spaces differ: its place in the new one, and whether it may."""

    mark: Mark
    text: str
    allowed: bool


def changes(old: Space, new: Space, *, besides: Collection[str]) -> list[str]:
    """What is otherwise in `new`, a line each.

    Args:
        old: the space so far.
        new: the one that a file gives, not yet changed by options.
        besides: parts of a space, or settings of a part, `part.setting`, that may differ too.

    Raises:
        SpaceError: they differ in something else; the first such place of the new file, and what may change.
    """
    free = {"constraints", "forbid", *besides}
    trees = [read_tree(space.text.encode(), str(space.path)) for space in (old, new)]
    settings = [Tree({k: v for k, v in each.mapping.items() if k != "trial"}, each.mark, each.key) for each in trees]
    found = [
        *_settings(settings[0], settings[1], free),
        *_nodes(old.trial.root, new.trial.root, trees[1].mapping["trial"].key, "trial"),
    ]
    refused = sorted((each.mark, each.text) for each in found if not each.allowed)
    if refused:
        mark, text = refused[0]
        allowed = f"bounds, choices and branches of the trial, {', '.join(sorted(free))}"
        raise SpaceError([Problem(mark, f"{text}; while a search stands, only these may change: {allowed}")])
    return [each.text for each in found]


def _settings(old: Tree, new: Tree, free: Collection[str], path: str = "") -> Iterator[_Difference]:
    if not (isinstance(old.value, dict) and isinstance(new.value, dict)) or path in free:
        if old.plain != new.plain:
            yield _Difference(new.mark, f"{path}: {_shown(old)} -> {_shown(new)}", path in free)
        return
    for key in dict.fromkeys([*old.mapping, *new.mapping]):
        name = f"{path}.{key}" if path else key
        before, after = (each.mapping.get(key, Tree(None, new.mark, new.mark)) for each in (old, new))
        if name not in free and any(each.startswith(f"{name}.") for each in free):  # some of its settings may differ
            before, after = (Tree({}, new.mark, new.mark) if each.value is None else each for each in (before, after))
        yield from _settings(before, after, free, name)


def _nodes(old: Node, new: Node, mark: Mark, name: str) -> Iterator[_Difference]:
    """The differences of two parts of a trial, of which the new one stands under the key at `mark`."""
    if isinstance(old, Constant) and isinstance(new, Constant):
        if json.dumps(old.tree.plain) != json.dumps(new.tree.plain):
            yield _Difference(new.tree.mark, f"{name}: {_shown(old.tree)} -> {_shown(new.tree)}", allowed=False)
    elif isinstance(old, Group) and isinstance(new, Group):
        yield from _groups(old, new, mark, name)
    elif isinstance(old, Branches) and isinstance(new, Branches):
        yield from _branches(old, new, name)
    elif isinstance(old, Choice) and isinstance(new, Choice):
        told = f"{name}: {old.describe()} -> {new.describe()}"
        if _is_text(old) != _is_text(new):  # 16 would be "16" from here on
            why = "values are drawn as text where one of them is a list, and then all must have been"
            yield _Difference(new.tree.mark, f"{told}: {why}", allowed=False)
        elif _scope(old) != _scope(new):
            yield _Difference(new.tree.mark, told, allowed=True)
    elif isinstance(old, Number | Range) and isinstance(new, Number | Range):
        same = _law(old) == _law(new)
        if not same or _scope(old) != _scope(new):
            yield _Difference(new.tree.mark, f"{name}: {old.describe()} -> {new.describe()}", allowed=same)
    else:
        yield _Difference(mark, f"{name}: {_kind(old)} -> {_kind(new)}", allowed=False)


def _groups(old: Group, new: Group, mark: Mark, name: str) -> Iterator[_Difference]:
    for key in dict.fromkeys([*old.children, *new.children]):
        if key not in new.children:
            yield _Difference(mark, f"{name}.{key} is missing", allowed=False)
        elif key not in old.children:
            yield _Difference(new.tree.mapping[key].key, f"{name}.{key} is new", allowed=False)
        else:
            yield from _nodes(old.children[key], new.children[key], new.tree.mapping[key].key, f"{name}.{key}")


def _branches(old: Branches, new: Branches, name: str) -> Iterator[_Difference]:
    if list(old.branches) != list(new.branches) or _scope(old.names) != _scope(new.names):
        told = " -> ".join(each.names.describe() for each in (old, new))
        yield _Difference(new.tree.mark, f"{name}: branches, {told}", allowed=True)
    for branch, group in new.branches.items():
        if branch in old.branches:
            yield from _nodes(old.branches[branch], group, group.tree.key, f"{name}.{branch}")


def _is_text(choice: Choice) -> bool:
    return any(isinstance(value.value, tuple | dict) for value in choice.values)


def _law(node: Number | Range) -> tuple[Any, ...]:
    """What may not change of a number."""
    bound = node if isinstance(node, Number) else node.bound
    return type(node), bound.kind, bound.step, bound.log, bound.whole


def _scope(node: Number | Range | Choice) -> Any:
    """What may change of a distribution."""
    if isinstance(node, Choice):
        return json.dumps([value.plain for value in node.values]), json.dumps(node.default.plain), node.prior
    bound = node if isinstance(node, Number) else node.bound
    return bound.bounds, json.dumps(node.default.plain), bound.prior


def _kind(node: Node) -> str:
    match node:
        case Constant():
            return _shown(node.tree)
        case Group():
            return "settings"
        case Branches():
            return f"branches {', '.join(node.branches)}"
        case _:
            return node.describe()


def _shown(tree: Tree) -> str:
    return quoted(tree.plain)
