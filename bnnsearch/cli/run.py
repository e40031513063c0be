"""`bnnsearch run`: a search from its beginning."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import OK
from bnnsearch.imports import importing
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.space import Space
    from bnnsearch.study.executor import Executors


@click.command()
@options.space
@options.overrides
@options.seed
@options.executor
@options.runs
@options.as_json
@options.cluster
@click.option(
    "--dry-run", is_flag=True, help="Print the size of the space, one configuration and a cost bound; train nothing."
)
def run(
    *,
    space: Path,
    overrides: tuple[str, ...],
    seed: int | None,
    executor: Executors,
    runs: Path,
    as_json: bool,
    cluster: Path | None,
    dry_run: bool,
) -> int:
    """Search SPACE.

    Example: bnnsearch run spaces/digits_quickstart.yaml --set budget.trials=24
    """
    at_terminal = sys.stdout is not None and sys.stdout.isatty()
    watched = at_terminal and not as_json and not dry_run  # elsewhere a mistake is one line
    if watched:
        say(f"reading {space} ...")
    from bnnsearch.space import load_space
    from bnnsearch.study.measured import check_measured

    settings = overrides if seed is None else (*overrides, f"seed={seed}")
    loaded = load_space(space, overrides=settings, begins=True)
    check_measured(loaded)
    if dry_run:
        _foretell(loaded, as_json=as_json)
        return OK
    say(*(f"warning: {warning}" for warning in loaded.warnings), err=True)
    if cluster is not None:
        from bnnsearch.cluster.files import load_cluster
        from bnnsearch.cluster.following import run_followed

        return run_followed(loaded, load_cluster(cluster), runs=runs, as_json=as_json)
    if watched:
        say("loading torch, checking the data and the trial of all defaults ...")
    with importing():
        from bnnsearch.study.executor import executor_for
        from bnnsearch.study.study import study_below
        from bnnsearch.terminal.following import follow_study

    with study_below(runs, loaded) as study:
        runner, why = executor_for(executor, loaded)
        say(*filter(None, [why]), err=as_json)
        return follow_study(study, runner, as_json=as_json)


def _foretell(space: Space, *, as_json: bool) -> None:
    """Say what a search would do: the space, one configuration, what its training costs at most."""
    from bnnsearch.config.trial import trial_of
    from bnnsearch.core.data import DataError
    from bnnsearch.terminal.text import metric_text
    from bnnsearch.trial import build_trainer, network_costs

    config, missing = trial_of({**space.trial.defaults(), "seed": space.study.seed}), []
    try:
        costs = build_trainer(config, trains=False).costs()
    except DataError as error:
        costs, missing = network_costs(config), [f"costs of training are not known without the data: {error}"]
    tree, trials = config.model_dump(mode="json"), space.study.budget.trials
    if as_json:
        write_event("dry_run", space=str(space.path), config=tree, costs=costs, trials=trials,
                    epochs=trials * config.epochs, missing=missing)  # fmt: skip
        return
    say(*space.describe(), "the trial of all defaults:")
    say(*json.dumps(tree, indent=2).splitlines(), whole=True)
    say(*(f"  {name} {metric_text(name, value)}" for name, value in costs.items()), *missing)
    confirm = space.study.confirm
    again = "" if confirm is None else f", then {confirm.seeds - 1} more of each on the {confirm.on}"
    say(f"at most {trials} trials, {trials * config.epochs} epochs of such trials{again}; nothing was trained")
