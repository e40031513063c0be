"""Objectives and constraints against their space: metrics that trials would not have, or that nothing moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from bnnsearch.config.metrics import METRICS, Reporter, reporter_of
from bnnsearch.config.trial import trial_of
from bnnsearch.space.check import probes
from bnnsearch.space.forbid import Rule
from bnnsearch.space.node import Branches, Constant, Group, Node
from bnnsearch.space.tree import Mark, Problem, Tree

Trainers = Set[tuple[Reporter, bool]]
"""Who trains configurations, and whether their runs may end early."""

SHORTENED = frozenset({"train_bitops"})
"""Metrics that fall where a phase ends by its outcome, not by its length."""


def objective_problems(tree: Tree, trainers: Trainers) -> list[Problem]:
    """Objectives and constraints of a valid space file that the trainer of some configuration does not report."""
    reporters = {reporter for reporter, _ in trainers}
    problems = []
    for path, mark, metric in [*_metrics(tree, "objectives"), *_metrics(tree, "constraints")]:
        for reporter in sorted(reporters, key=lambda each: each.name):
            if metric not in reporter.metrics:
                known = ", ".join(name for name in METRICS if name in reporter.metrics and METRICS[name].objective)
                rule = f"{path}: trials by {reporter.name} do not report {metric}; they report: {known}"
                problems.append(Problem(mark, rule))
    return problems


def constant_objectives(tree: Tree, trial: Node, trainers: Trainers) -> list[Problem]:
    """Objectives that are the same for every configuration of `trial`, as far as that is certain without training."""
    moving = sorted({".".join(path) for path in _varying(trial)})
    found = []
    for path, mark, metric in _metrics(tree, "objectives"):
        if METRICS[metric].known != "before":
            continue  # it differs by each trial's own seed at least, or by the machine
        if all(metric in reporter.always for reporter, _ in trainers):
            why = "nothing changes it here"
        elif any(metric in reporter.open_costs | (SHORTENED if early else frozenset()) for reporter, early in trainers):
            continue
        elif all(_leaves(METRICS[metric].unmoved_by, setting) for setting in moving):
            why = f"it depends on none of what varies: {', '.join(moving)}" if moving else "nothing varies"
        else:
            continue
        rule = f"{path}: objective {metric} is the same for every configuration of this space"
        found.append(Problem(mark, f"{rule}: {why}"))
    return found


def _metrics(tree: Tree, section: str) -> Iterator[tuple[str, Mark, str]]:
    """Path, place and name of every metric of a section."""
    listed = tree.mapping[section].value if section in tree.mapping else ()
    assert isinstance(listed, tuple), "the space is valid"
    for index, item in enumerate(listed):
        metric = item.mapping["metric"]
        yield f"{section}.{index}.metric", metric.mark, str(metric.plain)


def trainers_of(trial: Node, forbidden: Sequence[Rule] = ()) -> Trainers:
    """Who trains the configurations of a valid `trial`, and whether their runs may end early."""
    found = set()
    for tree in probes(trial, forbidden):
        method = tree.mapping["method"].plain if "method" in tree.mapping else {}
        reporter = reporter_of(method["name"], _asked_for(tree)) if method else trial_of(tree.plain).reporter
        found.add((reporter, method.get("until_binary") is not None))
    return found


def _asked_for(tree: Tree) -> list[str]:
    """The metrics that a configuration's plan asks for, as `PlanConfig.reported` has them."""
    plan = tree.mapping["plan"].plain if "plan" in tree.mapping else {}
    listed = [*(("val_", each) for each in plan.get("metrics", ())), *(("", each) for each in plan.get("costs", ()))]
    return [prefix + (each if isinstance(each, str) else str(each["name"])) for prefix, each in listed]


def _varying(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Settings in which configurations may differ; a choice between branches is one of all below it."""
    match node:
        case Constant():
            pass
        case Group():
            for key, child in node.children.items():
                yield from _varying(child, (*path, key))
        case Branches():
            if len(node.branches) > 1:
                yield path
            for group in node.branches.values():
                yield from _varying(group, path)
        case _:
            if node.count() > 1:
                yield path


def _leaves(unmoved_by: Set[str], setting: str) -> bool:
    """Whether `setting` is one of `unmoved_by` or lies below one."""
    parts = setting.split(".")
    return any(".".join(parts[:depth]) in unmoved_by for depth in range(1, len(parts) + 1))
