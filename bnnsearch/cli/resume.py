"""`bnnsearch resume`: a search from where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.folder import find_study_folder
from bnnsearch.imports import importing
from bnnsearch.terminal.output import say

if TYPE_CHECKING:
    from bnnsearch.study.executor import Executors


@click.command()
@options.study
@click.option("--trials", type=options.AT_LEAST_ONE, help="Raise the budget to so many trials.")
@click.option("--space", type=options.FILE, metavar="FILE", help="Go on in this narrower or wider space.")
@click.option("--changed-guests", is_flag=True, help="Go on though code that the space uses has changed.")
@options.executor
@options.runs
@options.as_json
@options.cluster
def resume(
    *,
    study: Path | None,
    trials: int | None,
    space: Path | None,
    changed_guests: bool,
    executor: Executors,
    runs: Path,
    as_json: bool,
    cluster: Path | None,
) -> int:
    """Go on with a stopped search: STUDY is its folder, by default the newest. One that is done says so at once.

    With --space bounds, choices, branches, forbid, constraints, budget and confirm may differ from what was searched;
    trials outside it leave the front. A search on a cluster keeps its space.

    Example: bnnsearch resume runs/digits_quickstart/20260101-120000 --trials 48
    """
    from bnnsearch.cluster.placement import is_remote

    folder = find_study_folder(study, runs)
    if cluster is not None or is_remote(folder):
        from bnnsearch.cluster.following import resume_followed

        if space is not None:
            raise click.UsageError("--space is for searches on this machine; one on a cluster keeps its space")
        return resume_followed(folder, trials=trials, cluster_path=cluster, as_json=as_json)
    from bnnsearch.past import read_past
    from bnnsearch.study.state import is_settled
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.tracker import is_complete

    past = read_past(folder)
    nothing_new = space is None and is_settled(past) and (trials or 0) <= past.space.study.budget.trials
    if nothing_new and is_complete(folder, study_store(past.space.study, folder)):
        from bnnsearch.terminal.following import tell_done

        return tell_done(past, as_json=as_json)
    with importing():
        from bnnsearch.study.executor import executor_for
        from bnnsearch.study.study import earlier_study
        from bnnsearch.terminal.following import follow_study

    with earlier_study(folder.path, trials=trials, space=space, changed_guests=changed_guests) as held:
        runner, why = executor_for(executor, held.space)
        say(*held.notes, err=True)
        say(*filter(None, [why]), err=as_json)
        return follow_study(held, runner, as_json=as_json)
