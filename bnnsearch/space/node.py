"""The tree of a `TrialConfig` in which any leaf may be a distribution: its nodes, and how they resolve."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bnnsearch.space.distribution import Choice, Distribution, Suggest
from bnnsearch.space.tree import Scalar, Tree, quoted

ROOT = "trial"
"""Name of the parameter that is drawn where the root itself has branches."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is not searched."""

    tree: Tree


@dataclass(frozen=True, slots=True)
class Group:
    """Settings by name."""

    children: Mapping[str, Node]
    tree: Tree


@dataclass(frozen=True, slots=True)
class Branches:
    """A choice whose branches have their own settings; resolves to `{name: <branch>, ...its settings}`."""

    branches: Mapping[str, Group]
    names: Choice
    tree: Tree


Node = Constant | Group | Branches | Distribution
Pick = Callable[[str, Distribution], Tree]
"""What gives the parameter of a name its value."""


def resolve(node: Node, pick: Pick, name: str = "") -> Tree:
    """The tree below `node`, each distribution replaced by what `pick` gives it; only taken branches are asked for."""
    match node:
        case Constant():
            return node.tree
        case Group():
            children = {key: resolve(child, pick, _below(name, key)) for key, child in node.children.items()}
            return Tree(children, node.tree.mark, node.tree.key)
        case Branches():
            chosen = pick(name or ROOT, node.names)
            branch = str(chosen.value)
            settings = resolve(node.branches[branch], pick, _below(name, branch))
            return Tree({"name": chosen, **settings.mapping}, node.tree.mark, node.tree.key)
        case _:
            picked = pick(name, node)
            return Tree(picked.value, picked.mark, node.tree.key)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that is drawn.

    Attributes:
        name: dotted path; below a branch, the branch's name is part of it.
        distribution: what it is drawn from; the names of the branches for a choice of branches.
        condition: the branches under which it exists: parameter name to branch.
    """

    name: str
    distribution: Distribution
    condition: Mapping[str, str]


def parameters(node: Node, name: str = "", condition: Mapping[str, str] = MappingProxyType({})) -> Iterator[Parameter]:
    """Every parameter below `node`, those of all branches, in file order."""
    match node:
        case Constant():
            pass
        case Group():
            for key, child in node.children.items():
                yield from parameters(child, _below(name, key), condition)
        case Branches():
            yield Parameter(name or ROOT, node.names, condition)
            for branch, group in node.branches.items():
                yield from parameters(group, _below(name, branch), {**condition, name or ROOT: branch})
        case _:
            yield Parameter(name, node, condition)


def count(node: Node) -> float:
    """How many distinct configurations `node` resolves to; infinite where a number is dense."""
    match node:
        case Constant():
            return 1
        case Group():
            counts = [count(child) for child in node.children.values()]
            # not left to the product: a whole number can be too large to be multiplied with a float
            return math.inf if math.inf in counts else math.prod(counts)
        case Branches():
            counts = [count(group) for group in node.branches.values()]
            return math.inf if math.inf in counts else sum(counts)
        case _:
            return node.count()


Path = tuple[str, ...]
"""Keys from the root of a configuration."""


def read_back(
    node: Node, value: Any, fits: Callable[[Path, Any], bool], *, name: str = "", path: Path = ()
) -> dict[str, Scalar]:
    """The parameters with which `node` resolves to `value`; constants are not compared.

    Args:
        node: part of a space.
        value: what stands in its place in a configuration.
        fits: whether the configuration stays the same with another value at a path.
        name: of `node` among the parameters.
        path: of `value` in the configuration.

    Raises:
        ValueError: a value that no draw gives.
    """
    match node:
        case Constant():
            return {}
        case Group():
            found: dict[str, Scalar] = {}
            for key, child in node.children.items():
                if not isinstance(value, Mapping) or key not in value:
                    raise ValueError(f"{_below(name, key)} is missing")
                found |= read_back(child, value[key], fits, name=_below(name, key), path=(*path, key))
            return found
        case Branches():
            branch = str(value.get("name")) if isinstance(value, Mapping) else ""
            if branch not in node.branches:
                known = ", ".join(node.branches)
                raise ValueError(f"{_below(name, 'name')} must be one of {known}, but got {quoted(branch)}")
            inner = read_back(node.branches[branch], value, fits, name=_below(name, branch), path=path)
            return {name or ROOT: branch, **inner}
        case Choice():
            for category, candidate in zip(node.categories, node.values, strict=True):
                if fits(path, candidate.plain):
                    return {name: category}
            raise ValueError(f"{name} must be in {node.describe()}, but got {quoted(value)}")
        case _:
            return node.parameters(name, value)


def draw_with(suggest: Suggest) -> Pick:
    """Draws every parameter with `suggest`."""
    return lambda name, distribution: distribution.draw(suggest, name)


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
