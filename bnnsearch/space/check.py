"""Holds a space against the settings it must resolve to, and says where in the file each error stands."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bnnsearch.config.families import Family
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import kind_of, trial_of
from bnnsearch.files import check_regular
from bnnsearch.space.distribution import Distribution
from bnnsearch.space.forbid import Rule
from bnnsearch.space.node import Node, Pick, parameters, resolve
from bnnsearch.space.tree import Mark, Problem, Tree, did_you_mean, quoted

MAX_PROBLEMS = 50
"""So many problems are enough for one go."""

CORNERS = 128
"""Configurations with every parameter at some extreme that are tried, to meet rules that join several settings."""

_SETTING = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+)*")


def trial_problems(root: Node, *, broken: Set[Mark], forbidden: Sequence[Rule] = ()) -> list[Problem]:
    """What is wrong with the configurations that `root` resolves to, as far as `probes` tell.

    Args:
        root: the tree of the trial.
        broken: places whose problems are known already.
        forbidden: rules for what is never drawn.
    """
    problems: dict[tuple[Mark, str], Problem] = {}
    rules: dict[str, Mark | None] = {}
    for tree in probes(root, forbidden):
        if "trainer" not in tree.mapping:
            rule, mark = _kept(tree)
            rules.setdefault(rule, mark)
        for kind, problem in model_problems(kind_of(tree.mapping), tree, prefix="trial", broken=broken):
            # The same rule broken by another value of the same setting is not worth another line.
            problems.setdefault((problem.mark, problem.message if kind == "missing" else kind), problem)
            if len(problems) >= MAX_PROBLEMS:
                return list(problems.values())
    return [*problems.values(), *_unlike(rules)]


def _kept(tree: Tree) -> tuple[str, Mark | None]:
    """By which rule a configuration's network is exported, and where that is said; None if it is the default."""
    plan = tree.mapping.get("plan")
    keep = plan.mapping.get("keep") if plan else None
    if keep is None:
        return str(PlanConfig.model_fields["keep"].default), None
    return str(keep.value), keep.mark


def _unlike(rules: dict[str, Mark | None]) -> Iterator[Problem]:
    """One search compares like with like: never the best of many looks where another trial shows its last one."""
    if len(rules) > 1 and rules.keys() <= {"last", "best"}:
        said = sorted((mark, rule) for rule, mark in rules.items() if mark)
        here, rule = said[-1]
        (other,) = rules.keys() - {rule}
        where = f"at {said[0][0]}" if len(said) > 1 else "where it is not set"
        yield Problem(here, f"trial.plan.keep: must be the same for all trials, but got {rule!r} and {other!r} {where}")


def source_problems(tree: Tree) -> Iterator[Problem]:
    """What `warm_start` names and is not there: neither a study's folder, nor a file."""
    named = tree.mapping.get("warm_start")
    for index, source in enumerate(named.value if named is not None and isinstance(named.value, tuple) else ()):
        if isinstance(source.value, str) and not source.value.startswith("mlflow:") and not Path(source.value).is_dir():
            try:
                check_regular(source.value)
            except (OSError, ValueError) as error:
                rule = f"warm_start.{index}: must name a configuration or a study's folder"
                reason = getattr(error, "strerror", None) or error
                yield Problem(source.mark, f"{rule}, but got {quoted(source.value)} ({reason})")


def grace_problem(tree: Tree, root: Node, study: StudyConfig, forbidden: Sequence[Rule] = ()) -> Problem | None:
    """A grace that is longer than every trial: its scheduler would compare nothing and stop nothing."""
    if not study.scheduler.compares:
        return None
    longest, grace = 0, study.scheduler.grace
    for each in probes(root, forbidden):
        longest = max(longest, trial_of(each.plain).epochs)
        if longest >= grace:
            return None
    at = tree.mapping["scheduler"].mapping.get("grace_epochs", tree.mapping["scheduler"])
    rule = "scheduler.grace_epochs: must be at most the epochs of the longest trial"
    return Problem(at.mark, f"{rule}, {longest}, or no trial is ever compared, but got {grace}")


def probes(root: Node, forbidden: Sequence[Rule] = ()) -> Iterator[Tree]:
    """The defaults, every extreme of every parameter with the others at their defaults, and `CORNERS` joint extremes.

    Every branch is taken at least once. What is forbidden is left out, unless it is the defaults.
    """
    yield resolve(root, _with({}))
    yield from (tree for tree in _extremes(root) if not any(rule.forbids(tree.plain) for rule in forbidden))


def _extremes(root: Node) -> Iterator[Tree]:
    for parameter in parameters(root):
        for extreme in parameter.distribution.extremes():
            yield resolve(root, _with({**parameter.condition, parameter.name: extreme}))
    generator = random.Random(0)
    for _ in range(CORNERS):
        yield resolve(root, lambda _, distribution: generator.choice(distribution.extremes()))


def _with(fixed: dict[str, Tree | str]) -> Pick:
    """Defaults, but for the parameters in `fixed`; a branch may be given by its name alone."""

    def pick(name: str, distribution: Distribution) -> Tree:
        value = fixed.get(name, distribution.default)
        return value if isinstance(value, Tree) else next(one for one in distribution.extremes() if one.value == value)

    return pick


def model_problems(
    model: type[BaseModel], tree: Tree, *, prefix: str = "", broken: Set[Mark] = frozenset(), beside: Sequence[str] = ()
) -> Iterator[tuple[str, Problem]]:
    """Every error of validating `tree` as `model`, with pydantic's name for the rule.

    Args:
        model: the settings class.
        tree: its values with their places.
        prefix: dotted path of `tree` in the file.
        broken: places whose problems are known already.
        beside: keys that `tree` may have besides the model's.
    """
    try:
        model.model_validate({key: child.plain for key, child in tree.mapping.items() if key not in beside})
    except ValidationError as failed:
        errors = failed.errors(include_url=False)
        # Pydantic finds a list with a wrong item also too short: only the innermost error tells something.
        enclosing = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
        for error in errors:
            trail, path = _follow(tree, error["loc"])
            if error["loc"] not in enclosing and not any(step.mark in broken for step in trail):
                known = _known_at(model, error, tree, beside)
                yield error["type"], _problem(error, trail, ".".join(filter(None, [prefix, *path])), known)


def _follow(tree: Tree, loc: Sequence[int | str]) -> tuple[list[Tree], list[str]]:
    """The trees on the way to `loc`, and their keys; what pydantic adds, the tag of a union, is no step."""
    trail = [tree]
    path: list[str] = []
    for part in loc:
        value = trail[-1].value
        if isinstance(value, dict) and part in value:
            trail.append(value[str(part)])
        elif isinstance(value, tuple) and isinstance(part, int) and part < len(value):
            trail.append(value[part])
        else:
            continue
        path.append(str(part))
    return trail, path


def _problem(error: ErrorDetails, trail: list[Tree], path: str, known: Sequence[str]) -> Problem:
    """The error in our words: where, rule, value, and what is `known` in its place."""
    last, context, at = error["loc"][-1:], error.get("ctx", {}), trail[-1]
    match error["type"]:
        case "extra_forbidden":
            return Problem(at.key, f"{path}: unknown key{did_you_mean(last[0], known)}")
        case "missing":
            return Problem(at.key, f"{path}{'.' if path else ''}{last[0]}: required, but missing")
        case "union_tag_not_found":
            return Problem(at.key, f"{path}.name: required, but missing; allowed: {', '.join(known)}")
        case "union_tag_invalid":
            tag = at.mapping.get("name", at)
            return Problem(tag.mark, f"{path}: unknown name {quoted(tag.plain)}{did_you_mean(tag.plain, known)}")
        case "guest":
            return Problem(at.mapping.get("name", at).mark, f"{path}: {context['problem']}")
        case "literal_error":
            words = _words(context["expected"])
            return Problem(at.mark, f"{path}: unknown value {quoted(at.plain)}{did_you_mean(at.plain, words)}")
        case "value_error":
            message = str(context["error"])
            return Problem(_named_place(at, message) or at.mark, f"{path}: {message}" if path else message)
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(at.mark, f"{path}: must be a mapping of settings, but got {quoted(at.plain)}")
        case "tuple_type":
            return Problem(at.mark, f"{path}: must be a list, but got {quoted(at.plain)}")
        case _:
            # Pydantic's "Input should be a valid integer, unable to parse ..." without subject and afterthought.
            rule = re.sub(r"^\w+ should", "must", re.sub(r", .*| after validation", "", error["msg"]))
            return Problem(at.mark, f"{path}: {rule}, but got {quoted(at.plain)}")


def _words(expected: str) -> list[str]:
    """The alternatives in pydantic's text `'a', 'b' or 'c'`."""
    return [word.strip("' ") for word in re.split(r",| or ", expected)]


def _named_place(tree: Tree, message: str) -> Mark | None:
    """Where the first setting below `tree` stands that a rule names, by its dotted path."""
    for found in _SETTING.finditer(message):
        parts = [int(part) if part.isdecimal() else part for part in found[0].split(".")]
        trail, path = _follow(tree, parts)
        if len(path) == len(parts):
            return trail[-1].mark
    return None


def _known_at(model: type[BaseModel], error: ErrorDetails, tree: Tree, beside: Sequence[str]) -> list[str]:
    """The keys an unknown one may have meant, or the names of the members of a union."""
    if error["type"] == "extra_forbidden":
        known = [key for owner in _models_at(model, error["loc"][:-1], tree) for key in owner.model_fields]
        return [*known, *beside] if len(error["loc"]) == 1 else known
    if error["type"].startswith("union_tag"):
        return [str(owner.model_fields["name"].default) for owner in _models_at(model, error["loc"], None)]
    return []


def _models_at(model: type[BaseModel], loc: Sequence[int | str], tree: Tree | None) -> list[type[BaseModel]]:
    """The settings classes that may stand at pydantic's `loc` in `model`; with its `tree`, those it names."""
    models = [model]
    for part in loc:
        tagged = [one for one in models if _name_of(one) == part]
        if tagged:
            models = tagged
            continue
        value = None if tree is None else tree.value
        tree = value[part] if isinstance(value, dict | tuple) else None  # type: ignore[index]
        if isinstance(part, str):
            fields = [one.model_fields[part] for one in models if part in one.model_fields]
            models = [inner for field in fields for inner in _models_in(field.annotation, *field.metadata)]
        if isinstance(tree, Tree) and "name" in tree.mapping:
            models = [one for one in models if _name_of(one) in (None, tree.mapping["name"].value)] or models
    return models


def _name_of(model: type[BaseModel]) -> str | None:
    return model.model_fields["name"].default if "name" in model.model_fields else None


def _models_in(*annotations: Any) -> Iterator[type[BaseModel]]:
    families = [each for each in annotations if isinstance(each, Family)]
    for annotation in annotations:
        if isinstance(annotation, Family):
            yield from annotation.all()
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and not families:
            yield annotation
        else:
            yield from _models_in(*get_args(annotation))
