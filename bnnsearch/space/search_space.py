"""`SearchSpace`: what is searched, sampled with anything that suggests values; knows no Optuna and no Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bnnsearch.config.trial import trial_of
from bnnsearch.space.distribution import Suggest
from bnnsearch.space.forbid import Rule
from bnnsearch.space.node import Node, Parameter, Path, count, draw_with, parameters, read_back, resolve
from bnnsearch.space.tree import Scalar, quoted


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The tree of a `TrialConfig` in which any leaf may be a distribution.

    Attributes:
        root: the tree.
        forbidden: rules by which some of its configurations are never drawn.
    """

    root: Node
    forbidden: tuple[Rule, ...] = ()

    def sample(self, suggest: Suggest) -> dict[str, Any]:
        """A `TrialConfig` tree, each parameter drawn by its dotted name with `suggest`, such as an `optuna.Trial`."""
        tree: dict[str, Any] = resolve(self.root, draw_with(suggest)).plain
        return tree

    def allows(self, config: Mapping[str, Any]) -> bool:
        """Whether no rule forbids a resolved configuration."""
        return not any(rule.forbids(config) for rule in self.forbidden)

    def defaults(self) -> dict[str, Any]:
        """The tree of defaults: as given, else the first value of a choice and the middle of a number."""
        tree: dict[str, Any] = resolve(self.root, lambda _, distribution: distribution.default).plain
        return tree

    def parameters(self) -> tuple[Parameter, ...]:
        """What is drawn, the parameters of all branches, in file order."""
        return tuple(parameters(self.root))

    def size(self) -> int | None:
        """How many distinct configurations there are, forbidden ones too; None where a parameter is continuous."""
        configurations = count(self.root)
        return None if configurations == math.inf else int(configurations)

    def config_of(self, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """The tree that draws of `params`, dotted name to value, give.

        Raises:
            ValueError: a parameter is missing.
        """
        return self.sample(_Recorded(params))

    def params_of(self, config: Mapping[str, Any], *, exactly: bool = True) -> dict[str, Scalar]:
        """The draws that give the tree `config`, as found in `best.yaml`: the inverse of `sample`.

        Args:
            config: of a trial.
            exactly: whether what is not searched must be alike too, such as the data set.

        Raises:
            ValueError: no draws give it; pydantic's ValidationError, one of these, where it is no configuration at all.
        """
        wanted = trial_of(config).model_copy(update={"use": ()})  # which the space says
        written = wanted.model_dump(mode="json")

        def fits(path: Path, value: Any) -> bool:
            try:
                return trial_of(_with_value(written, path, value)) == wanted
            except ValidationError:
                return False

        params = read_back(self.root, written, fits)
        found = trial_of(self.config_of(params))
        # What the space leaves open is filled in for each trial, not drawn.
        if found.seed is None:
            found = found.model_copy(update={"seed": wanted.seed})
        if found.name is None:
            found = found.model_copy(update={"name": wanted.name})
        if exactly and found != wanted:
            raise ValueError(_first_difference(written, found.model_dump(mode="json")))
        for rule in self.forbidden:
            if rule.forbids(self.config_of(params)):
                raise ValueError(f"the space forbids it: {rule.describe()}")
        return params


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Suggests values that are known already."""

    params: Mapping[str, Scalar]

    # ruff: disable[ARG002]
    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value: Any = self._value(name)
        return float(value)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value: Any = self._value(name)
        return int(value)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        return self._value(name)

    # ruff: enable[ARG002]
    def _value(self, name: str) -> Scalar:
        if name not in self.params:
            raise ValueError(f"parameter {name} is missing")
        return self.params[name]


def _with_value(tree: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    key, *rest = path
    return {**tree, key: _with_value(tree[key], tuple(rest), value) if rest else value}


def _first_difference(wanted: Any, space: Any, path: str = "") -> str:
    """The first setting in which a configuration differs from what the space fixes."""
    if isinstance(wanted, dict) and isinstance(space, dict):
        for key in {**wanted, **space}:
            if wanted.get(key) != space.get(key):
                return _first_difference(wanted.get(key), space.get(key), f"{path}.{key}" if path else key)
    return f"{path} is {quoted(space)} in the space, but got {quoted(wanted)}"
