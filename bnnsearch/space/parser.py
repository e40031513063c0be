"""From a `Tree` to nodes: which mappings are groups, which are distributions, and what each distribution must hold."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

from bnnsearch.space.distribution import Choice, Distribution, Number, Range, steps_divide
from bnnsearch.space.node import Branches, Constant, Group, Node
from bnnsearch.space.prior import CONFIDENCES, Prior
from bnnsearch.space.tree import Mark, Problem, Tree, did_you_mean, quoted

NUMBERS = ("uniform", "loguniform", "randint", "lograndint")
DISTRIBUTIONS = ("choice", *NUMBERS, "range")

MAX_VALUES = 1000
"""Of one choice."""

MAX_STEPS = 10**15
MAX_WHOLE = 2**53
"""Of one number: so many that all of them, and the bounds, are still different as floating point numbers."""

_HINTS = {
    "quniform": "uniform with step",
    "qrandint": "randint with step",
    "qloguniform": "loguniform with step",
    "qlograndint": "lograndint with step",
    "categorical": "choice",
    "grid_search": "choice",
    "int": "randint",
    "float": "uniform",
}
_NUMBER_KEYS = ("type", "min", "max", "step", "default")
_CHOICE_KEYS = ("type", "values", "branches", "default", "prior")
_BRANCH_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class _DistributionError(Exception):
    """The distribution cannot be built; its problems are noted."""


@dataclass
class Parser:
    """Builds nodes, noting what is wrong.

    Attributes:
        problems: what was wrong so far.
        broken: places of distributions that could not be built; each stands as a constant None in the nodes.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: set[Mark] = field(default_factory=set)

    def node(self, tree: Tree) -> Node:
        """The node of any value in the tree of a trial."""
        if not isinstance(tree.value, dict):
            self._refuse_distributions_in_list(tree)
            return Constant(tree)
        if "type" not in tree.value:
            return self._group(tree)
        try:
            return self._distribution(tree)
        except _DistributionError:
            self.broken.add(tree.mark)
            return Constant(replace(tree, value=None))

    def _group(self, tree: Tree) -> Group:
        if tree.mapping and set(tree.mapping) <= {*_NUMBER_KEYS, *_CHOICE_KEYS}:
            self.problems.append(Problem(tree.key, f"a distribution has a type; allowed: {', '.join(DISTRIBUTIONS)}"))
            self.broken.add(tree.mark)
        return Group({key: self.node(child) for key, child in tree.mapping.items()}, tree)

    def _refuse_distributions_in_list(self, tree: Tree) -> None:
        for child in tree.walk():
            if "type" in child.mapping:
                rule = "a list is a constant and holds no distribution; write a choice whose values are lists"
                self.problems.append(Problem(child.mark, f"{rule}, but got type {quoted(child.mapping['type'].plain)}"))
                self.broken.add(child.mark)

    def _distribution(self, tree: Tree) -> Branches | Distribution:
        kind = tree.mapping["type"]
        if kind.value == "choice":
            return self._choice(tree)
        if kind.value == "range":
            return self._range(tree)
        if kind.value in NUMBERS:
            number = self._number(tree, str(kind.value))
            if (default := tree.mapping.get("default")) is not None:
                number = replace(number, default=self._number_in(default, number))
            if (prior := tree.mapping.get("prior")) is not None:
                at, believed = self._belief(prior)
                number = replace(number, prior=replace(believed, at=self._number_in(at, number, "prior").plain))
            return number
        if isinstance(kind.value, str) and kind.value in _HINTS:
            raise self._bad(kind, f"type {kind.value} is not known, write {_HINTS[kind.value]}")
        raise self._bad(kind, f"unknown distribution {quoted(kind.plain)}{did_you_mean(kind.plain, DISTRIBUTIONS)}")

    def _number(self, tree: Tree, kind: str) -> Number:
        """The number's bounds and step; its default is still the middle."""
        self._check_keys(tree, _NUMBER_KEYS if kind == "range" else (*_NUMBER_KEYS, "prior"))
        low, high = self._required(tree, "min"), self._required(tree, "max")
        step = tree.mapping.get("step")
        bounds = (low, high, step) if step else (low, high)
        whole = kind.endswith("randint") or (kind == "range" and step is not None and all(map(_is_whole, bounds)))
        for bound in bounds:
            if whole and not _is_whole(bound):
                raise self._bad(bound, f"{kind} takes whole numbers, but got {quoted(bound.plain)}")
            if whole and abs(bound.plain) > MAX_WHOLE:  # beyond, neighbours are one float64, and samplers draw floats
                raise self._bad(bound, f"{kind} takes whole numbers up to {MAX_WHOLE}, but got {quoted(bound.plain)}")
            if not _is_number(bound):
                raise self._bad(bound, f"{kind} takes numbers, but got {quoted(bound.plain)}")
        log = kind.startswith("log")
        if low.plain > high.plain:
            raise self._bad(low, f"min <= max must hold, but got min {low.plain} > max {high.plain}")
        if log and low.plain <= 0:
            raise self._bad(low, f"{kind} needs min > 0, but got {low.plain}")
        if step:
            self._check_step(step, low.plain, high.plain)
        number = Number(kind, low, high, low, step.plain if step else None, log, whole, tree)
        middle = math.sqrt(low.plain * high.plain) if log else (low.plain + high.plain) / 2
        middle = number.on_grid(round(middle) if whole else middle)
        return replace(number, default=replace(tree, value=middle))

    def _check_step(self, step: Tree, low: float, high: float) -> None:
        if step.plain <= 0:
            raise self._bad(step, f"step > 0 must hold, but got {step.plain}")
        if (high - low) / step.plain > MAX_STEPS:
            rule = f"at most {MAX_STEPS} steps lie between min and max"
            raise self._bad(step, f"{rule}, but got min {low}, max {high}, step {step.plain}")
        if not steps_divide(low, high, step.plain):
            rule = "max must be min plus a whole number of steps, as both bounds are inclusive"
            raise self._bad(step, f"{rule}, but got min {low}, max {high}, step {step.plain}")

    def _number_in(self, tree: Tree, number: Number, what: str = "default") -> Tree:
        low, high = number.bounds
        if not _is_number(tree) or not low <= tree.plain <= high:
            raise self._bad(tree, f"{what} must be in [{low}, {high}], but got {quoted(tree.plain)}")
        if (number.whole or number.step is not None) and number.on_grid(tree.plain) != tree.plain:
            raise self._bad(tree, f"{what} must be a value of {number.describe()}, but got {tree.plain}")
        return tree

    def _belief(self, tree: Tree) -> tuple[Tree, Prior]:
        """Where a prior lies, and it but for that: a value, or `at` and `confidence`."""
        if "at" not in tree.mapping:
            if isinstance(tree.value, dict):
                rule = "a prior is a value, or a mapping with at and confidence"
                raise self._bad(tree, f"{rule}, but got {quoted(tree.plain)}")
            return tree, Prior(None)
        self._check_keys(tree, ("at", "confidence"))
        confidence = tree.mapping.get("confidence")
        if confidence is None:
            return tree.mapping["at"], Prior(None)
        for known in CONFIDENCES:
            if confidence.value == known:
                return tree.mapping["at"], Prior(None, known)
        unknown = quoted(confidence.plain)
        raise self._bad(confidence, f"unknown confidence {unknown}{did_you_mean(confidence.plain, CONFIDENCES)}")

    def _range(self, tree: Tree) -> Range:
        bound = self._number(tree, "range")
        default = tree.mapping.get("default", replace(tree, value=(bound.low, bound.high)))
        pair = default.value
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise self._bad(default, f"the default of a range is a pair [lo, hi], but got {quoted(default.plain)}")
        low, high = (self._number_in(end, bound) for end in pair)
        if low.plain > high.plain:
            raise self._bad(default, f"lo <= hi must hold in a range's default, but got {quoted(default.plain)}")
        return Range(bound, default, tree)

    def _choice(self, tree: Tree) -> Choice | Branches:
        self._check_keys(tree, _CHOICE_KEYS)
        if ("values" in tree.mapping) == ("branches" in tree.mapping):
            got = "both" if "values" in tree.mapping else "neither"
            raise self._bad(tree, f"a choice has either values or branches, but got {got}", at_key=True)
        if "branches" in tree.mapping:
            return self._branches(tree)
        values = tree.mapping["values"]
        if not isinstance(values.value, tuple) or not 1 <= len(values.value) <= MAX_VALUES:
            rule = f"values must be a list of at least one value and at most {MAX_VALUES}"
            raise self._bad(values, f"{rule}, but got {quoted(values.plain)}")
        self._refuse_distributions_in_list(values)
        seen: list[object] = []
        for value in values.value:
            if value.plain in seen:
                raise self._bad(value, f"the values of a choice differ, but got {quoted(value.plain)} twice")
            seen.append(value.plain)
        return self._with_prior(Choice(values.value, self._one_of(values.value, tree), tree))

    def _branches(self, tree: Tree) -> Branches:
        branches = tree.mapping["branches"]
        if not branches.mapping:
            rule = "branches must be a mapping of at least one branch to its settings"
            raise self._bad(branches, f"{rule}, but got {quoted(branches.plain)}", at_key=True)
        groups: dict[str, Group] = {}
        for name, settings in branches.mapping.items():
            if not _BRANCH_NAME.fullmatch(name):
                rule = "a branch's name is letters, digits, _ and -, and starts with a letter"
                raise self._bad(settings, f"{rule}, but got {quoted(name)}", at_key=True)
            if not isinstance(settings.value, dict):
                rule = f"branch {name} must be a mapping of settings, {{}} for none"
                raise self._bad(settings, f"{rule}, but got {quoted(settings.plain)}", at_key=True)
            for key in ("name", "type"):
                if key in settings.value:
                    rule = "a branch holds settings, and is called by its key"
                    raise self._bad(settings.value[key], f"{rule}, but got {key!r} in it", at_key=True)
            groups[name] = self._group(settings)
        names = tuple(Tree(name, child.key, child.key) for name, child in branches.mapping.items())
        return Branches(groups, self._with_prior(Choice(names, self._one_of(names, tree), tree)), tree)

    def _with_prior(self, choice: Choice) -> Choice:
        if (prior := choice.tree.mapping.get("prior")) is None:
            return choice
        at, believed = self._belief(prior)
        category = choice.categories[choice.values.index(self._among(choice.values, at, "prior"))]
        return replace(choice, prior=replace(believed, at=category))

    def _one_of(self, values: tuple[Tree, ...], tree: Tree) -> Tree:
        default = tree.mapping.get("default")
        return values[0] if default is None else self._among(values, default, "default")

    def _among(self, values: tuple[Tree, ...], wanted: Tree, what: str) -> Tree:
        for value in values:
            if value.plain == wanted.plain and not _mixes(value, wanted):
                return value
        known = [value.plain for value in values]
        raise self._bad(wanted, f"{what} must be one of {quoted(known)}, but got {quoted(wanted.plain)}")

    def _check_keys(self, tree: Tree, known: tuple[str, ...]) -> None:
        for key, child in tree.mapping.items():
            if key not in known:
                raise self._bad(child, f"unknown key {key!r}{did_you_mean(key, known)}", at_key=True)

    def _required(self, tree: Tree, key: str) -> Tree:
        if key not in tree.mapping:
            raise self._bad(tree, f"{tree.mapping['type'].plain} needs {key}, but has none", at_key=True)
        return tree.mapping[key]

    def _bad(self, tree: Tree, message: str, *, at_key: bool = False) -> _DistributionError:
        self.problems.append(Problem(tree.key if at_key else tree.mark, message))
        return _DistributionError()


def _mixes(one: Tree, other: Tree) -> bool:
    """Whether one is true or false and the other 1 or 0, which Python takes for equal."""
    return isinstance(one.value, bool) != isinstance(other.value, bool)


def _is_whole(tree: Tree) -> bool:
    return isinstance(tree.value, int) and not isinstance(tree.value, bool)


def _is_number(tree: Tree) -> bool:
    return _is_whole(tree) or isinstance(tree.value, float)
