"""`forbid:` of a space: combinations of settings that are never drawn, and what is wrong with how they are written.

    forbid:
      - {optimizer.name: sgd, optimizer.lr: {max: 0.01}}
      - {model.width: [0.5, 1.0], method.name: bop}

A rule forbids the configurations in which all its settings, by their dotted paths below `trial`, are as it says: equal
to a value, to one of a list, or within bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnnsearch.space.distribution import Choice, Number, Range
from bnnsearch.space.node import Branches, Constant, Group, Node
from bnnsearch.space.tree import Problem, Tree, did_you_mean, quoted

BOUNDS = ("min", "max")


@dataclass(frozen=True, slots=True)
class Rule:
    """Settings that never stand together.

    Attributes:
        settings: dotted path to what is forbidden beside the others: a value, a list of values, or `min` and `max`,
            both inclusive.
    """

    settings: Mapping[str, Any]

    def forbids(self, config: Mapping[str, Any]) -> bool:
        """Whether all of it holds for a resolved configuration."""
        return all(
            any(_matches(value, forbidden) for value in _found(config, path))
            for path, forbidden in self.settings.items()
        )

    def describe(self) -> str:
        """`optimizer.name is sgd, optimizer.lr within [-, 0.01]`."""
        return ", ".join(f"{path} {_described(forbidden)}" for path, forbidden in self.settings.items())


def rules_of(listed: object) -> tuple[Rule, ...]:
    """The rules of `forbid:`; what is none is left to the check of the study's settings."""
    return tuple(Rule(each) for each in listed if isinstance(each, dict)) if isinstance(listed, list) else ()


def forbid_problems(tree: Tree, root: Node, defaults: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the rules of a space: what no configuration has, defaults that are forbidden.

    Args:
        tree: the space, whose `forbid` is a list of mappings.
        root: its trial.
        defaults: the configuration of all defaults.
    """
    leaves: dict[str, list[Node]] = {}
    for path, leaf in _leaves(root):
        leaves.setdefault(path, []).append(leaf)
    listed = tree.mapping["forbid"].value if "forbid" in tree.mapping else ()
    for index, rule in enumerate(listed if isinstance(listed, tuple) else ()):
        sound = True
        for path, forbidden in rule.mapping.items():
            where, problem = f"forbid.{index}.{path}", None
            if path not in leaves:
                problem = Problem(forbidden.key, f"{where}: no setting of the trial{did_you_mean(path, list(leaves))}")
            elif (wrong := _wrong(forbidden)) is not None:
                problem = Problem(forbidden.mark, f"{where}: {wrong}")
            elif (never := _never(forbidden, leaves[path])) is not None:
                allowed = "; ".join(map(_domain, leaves[path]))
                problem = Problem(
                    never.mark, f"{where}: no configuration has {quoted(never.plain)}; allowed: {allowed}"
                )
            if problem is not None:
                sound = False
                yield problem
        if sound and rule.mapping and Rule(rule.plain).forbids(defaults):
            yield Problem(rule.mark, f"forbid.{index}: the defaults must be allowed, but this forbids them")


def _found(config: Mapping[str, Any], path: str) -> Iterator[Any]:
    """What stands at a path, if anything."""
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return
        value = value[key]
    yield value


def _matches(value: Any, forbidden: Any) -> bool:
    if isinstance(forbidden, Mapping):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and forbidden.get("min", value) <= value <= forbidden.get("max", value)
    same = value == forbidden and isinstance(value, bool) == isinstance(forbidden, bool)  # 1 is not true
    return same or (isinstance(forbidden, list) and any(_matches(value, each) for each in forbidden))


def _wrong(forbidden: Tree) -> str | None:
    """How what a rule says of a setting is badly written."""
    if not isinstance(forbidden.value, dict):
        return None
    bounds = [child.plain for child in forbidden.mapping.values()]
    if not bounds or set(forbidden.mapping) - set(BOUNDS) or not all(_is_number(each) for each in bounds):
        return f"bounds are min, max or both, numbers, but got {quoted(forbidden.plain)}"
    if len(bounds) == 2 and forbidden.mapping["min"].plain > forbidden.mapping["max"].plain:
        return f"min <= max must hold, but got {quoted(forbidden.plain)}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _never(forbidden: Tree, leaves: Sequence[Node]) -> Tree | None:
    """The first of a rule's values that none of a setting's leaves can have."""
    if any(_can_be(leaf, forbidden.plain) for leaf in leaves):
        several = forbidden.value if isinstance(forbidden.value, tuple) else ()
        if not several or any(_can_be(leaf, forbidden.plain, whole=True) for leaf in leaves):
            return None
        return next((each for each in several if not any(_can_be(leaf, each.plain) for leaf in leaves)), None)
    return forbidden


def _can_be(leaf: Node, forbidden: Any, *, whole: bool = False) -> bool:
    """Whether a leaf has a value that is forbidden; with `whole`, a list stands for itself alone."""
    if whole and isinstance(forbidden, list):
        return any(value == forbidden for value in _values(leaf))
    match leaf:
        case Number():
            low, high = leaf.bounds
            if isinstance(forbidden, Mapping):
                return bool(forbidden.get("min", low) <= high and forbidden.get("max", high) >= low)
            wanted = forbidden if isinstance(forbidden, list) else [forbidden]
            return any(_is_number(each) and low <= each <= high and leaf.on_grid(each) == each for each in wanted)
        case Range():
            return isinstance(forbidden, list)
        case _:
            return any(_matches(value, forbidden) for value in _values(leaf))


def _values(leaf: Node) -> list[Any]:
    match leaf:
        case Constant():
            return [leaf.tree.plain]
        case Choice():
            return [value.plain for value in leaf.values]
        case _:
            return []


def _domain(leaf: Node) -> str:
    return quoted(leaf.tree.plain) if isinstance(leaf, Constant) else leaf.describe()  # type: ignore[union-attr]


def _described(forbidden: Any) -> str:
    if isinstance(forbidden, Mapping):
        return f"within [{forbidden.get('min', '-')}, {forbidden.get('max', '-')}]"
    return f"in {quoted(forbidden)}" if isinstance(forbidden, list) else f"is {quoted(forbidden)}"


def _leaves(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every setting of the configurations below `node` by its dotted path, and what gives it its value."""
    match node:
        case Group():
            for key, child in node.children.items():
                yield from _leaves(child, f"{path}.{key}" if path else key)
        case Branches():
            yield f"{path}.name" if path else "name", node.names
            for group in node.branches.values():
                yield from _leaves(group, path)
        case _:
            yield path, node
