"""`load_space`: from a space file to a `Space` that is known to be valid, or to every reason why it is not."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnnsearch.config.guests import Guest, factory_guests, offered
from bnnsearch.config.study import StudyConfig
from bnnsearch.files import read_regular
from bnnsearch.space.check import grace_problem, model_problems, source_problems, trial_problems
from bnnsearch.space.forbid import Rule, forbid_problems, rules_of
from bnnsearch.space.guests import used
from bnnsearch.space.node import Node
from bnnsearch.space.objectives import constant_objectives, objective_problems, trainers_of
from bnnsearch.space.override import fill_variables, set_values
from bnnsearch.space.parser import Parser
from bnnsearch.space.reader import MAX_BYTES, read_tree
from bnnsearch.space.search_space import SearchSpace
from bnnsearch.space.tree import Mark, Problem, SpaceError, Tree, quoted
from bnnsearch.space.writer import write_yaml


@dataclass(frozen=True, slots=True)
class Space:
    """A valid space file.

    Attributes:
        study: all of it but the `trial` tree.
        trial: what is searched.
        text: YAML that loads to this space: the file's own text, or written anew where options replaced settings.
        path: the file.
        warnings: what is allowed, but hardly meant, each `file:line:col: what`.
        guests: what it uses that is no part of this package.
    """

    study: StudyConfig
    trial: SearchSpace
    text: str
    path: Path
    warnings: tuple[str, ...] = ()
    guests: tuple[Guest, ...] = ()

    def describe(self) -> list[str]:
        """What `validate` prints: the study, the size of its space, and a line for each parameter."""
        study, parameters, size = self.study, self.trial.parameters(), self.trial.size()
        goals = ", ".join(f"{objective.metric} {objective.mode}" for objective in study.objectives)
        limits = f"{study.sampler.name} sampler, scheduler {study.scheduler.name}, {study.budget.trials} trials"
        if (confirm := study.confirm) is not None:
            limits += f", then {confirm.seeds} seeds of each on the {confirm.on}"
        extent = "continuous" if size is None else f"{size} configurations"
        lines = [
            f"{self.path}: valid",
            f"study {study.name}: {goals}; {limits}",
            f"space: {len(parameters)} parameters, {extent}",
        ]
        width = max((len(parameter.name) for parameter in parameters), default=0)
        for parameter in parameters:
            values = parameter.distribution.count()
            amount = "continuous" if math.isinf(values) else f"{int(values)} values"
            where = "".join(f", where {name} is {branch}" for name, branch in parameter.condition.items())
            lines.append(f"  {parameter.name:{width}}  {parameter.distribution.describe()}, {amount}{where}")
        lines += [f"forbidden: {rule.describe()}" for rule in self.trial.forbidden]
        lines += [f"uses {guest.entry}: {', '.join(guest.members)}" for guest in self.guests]
        return lines + [f"warning: {warning}" for warning in self.warnings]


def load_space(path: str | Path, *, overrides: Sequence[str] = (), begins: bool = False) -> Space:
    """Read and check the space file at `path`.

    Args:
        path: a YAML file.
        overrides: `dotted.path=value` settings that replace the file's, values as YAML.
        begins: whether a search begins with it, so that what `warm_start` names must be there.

    Raises:
        SpaceError: with every problem found, each as `file:line:col: rule, value, what is allowed`.
    """
    path = Path(path)
    return space_of(content(path), path, overrides=overrides, begins=begins)


def use_guests(path: Path) -> None:
    """Bring the guests of the space file at `path`, whatever else is wrong with it, into this process.

    Raises:
        SpaceError: it is no YAML, or something in its `use:` cannot be used.
    """
    used(read_tree(content(path), str(path)), path.parent)


def content(path: Path) -> bytes:
    """What stands in a space file; a `SpaceError` where it cannot be read."""
    try:
        return read_regular(path, most=MAX_BYTES)
    except (OSError, ValueError) as error:  # a ValueError where the name holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise SpaceError([Problem(Mark(str(path)), f"cannot be read: {reason}")]) from None


def space_of(
    data: bytes,
    path: Path,
    *,
    overrides: Sequence[str] = (),
    begins: bool = False,
    guests: Mapping[str, bytes] | None = None,
) -> Space:
    """Check a space, whose text is known already.

    Args:
        data: its text.
        path: the file that it came from.
        overrides: as for `load_space`.
        begins: as for `load_space`.
        guests: content of files that it uses, by name, which need not lie beside it.

    Raises:
        SpaceError: as `load_space`.
    """
    tree = read_tree(data, str(path))
    if not isinstance(tree.value, dict):
        rule = "a space is a mapping of settings"
        raise SpaceError([Problem(tree.mark, f"{rule}, but got {quoted(tree.plain)}")])
    if "trial" not in tree.mapping and {"model", "method", "plan"} <= tree.mapping.keys():
        rule = "this is the configuration of one training run, for `train`; a space has it below `trial`"
        raise SpaceError([Problem(tree.mark, rule)])
    problems: list[Problem] = []
    written = set_values(tree, overrides)
    tree = fill_variables(written, os.environ, problems)
    used_guests = used(tree, path.parent, guests)
    forbidden = rules_of(tree.mapping["forbid"].plain) if "forbid" in tree.mapping else ()
    node = _trial_node(tree, problems, forbidden)  # before the study, whose metrics may be a guest's that it names
    problems += [problem for _, problem in model_problems(StudyConfig, tree, beside=("trial",))]
    if begins:
        problems += source_problems(tree)
    if problems or node is None:
        raise SpaceError(problems)
    trainers = trainers_of(node, forbidden)
    if problems := objective_problems(tree, trainers):
        raise SpaceError(problems)
    study = StudyConfig.model_validate({key: child.plain for key, child in tree.mapping.items() if key != "trial"})
    if (problem := grace_problem(tree, node, study, forbidden)) is not None:
        raise SpaceError([problem])
    words = {word for each in tree.walk() for word in (each.value, *each.mapping) if isinstance(word, str)}
    named = (leaf.value for each in tree.walk() if "factory" in each.mapping for leaf in each.mapping["factory"].walk())
    factories = {place for place in named if isinstance(place, str) and ":" in place}
    known = {each.digest for each in used_guests}
    used_guests += tuple(each for each in (*offered(words), *factory_guests(factories)) if each.digest not in known)
    # Not `tree`: what variables hold may be secret, and differs between machines.
    text = write_yaml(written.plain) if overrides else data.decode("utf-8-sig")
    warnings = tuple(map(str, constant_objectives(tree, node, trainers)))
    return Space(study, SearchSpace(node, forbidden), text, path, warnings, used_guests)


def _trial_node(tree: Tree, problems: list[Problem], forbidden: Sequence[Rule]) -> Node | None:
    trial = tree.mapping.get("trial")
    if trial is None or not isinstance(trial.value, dict):
        mark = trial.mark if trial else tree.mark
        got = f"but got {quoted(trial.plain)}" if trial else "but it is missing"
        problems.append(Problem(mark, f"trial is a mapping of settings, {got}"))
        return None
    if "use" in trial.mapping:
        problems.append(Problem(trial.mapping["use"].key, "trial.use: stands beside trial, not in it"))
    parser = Parser()
    node = parser.node(trial)
    problems += parser.problems
    if not parser.problems:
        problems += forbid_problems(tree, node, SearchSpace(node).defaults())
    problems += trial_problems(node, broken=parser.broken, forbidden=forbidden)
    return node
