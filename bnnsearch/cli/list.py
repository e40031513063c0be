"""`bnnsearch list`: the studies there are."""

from __future__ import annotations

from pathlib import Path

import click

from bnnsearch.cli import options
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.folder import study_folders
from bnnsearch.terminal.output import say, write_event


@click.command()
@options.runs
@options.as_json
def list(*, runs: Path, as_json: bool) -> None:  # noqa: A001  # commands are found by their names
    """List the studies below a folder, the one that was taken up last first.

    Example: bnnsearch list
    """
    from bnnsearch.cluster.placement import is_remote
    from bnnsearch.pareto import ParetoFront
    from bnnsearch.past import read_past
    from bnnsearch.study.state import read_state
    from bnnsearch.terminal.text import metric_text, trials_text

    folders = study_folders(runs)
    if not folders and not as_json:
        say(f"{runs}: holds no study yet")
    for folder in folders:
        try:
            past = read_past(folder)
            study = past.space.study
        except (EnvironmentProblem, InputError) as problem:
            say(f"{folder.path}: cannot be read: {problem}", err=True)
            continue
        front = ParetoFront.of(past.results, study.objectives)
        state = "on a cluster" if is_remote(folder) else str(read_state(folder, past.results).standing)
        goal = study.objectives[0]
        values = front.values[:, 0]
        best = None if not len(values) else float(values.max() if goal.mode == "max" else values.min())
        if as_json:
            write_event("study", study=str(folder.path), state=state, trials=len(past.results),
                        budget=study.budget.trials, front=len(front.results), best={goal.metric: best})  # fmt: skip
        else:
            found = "" if best is None else f"  best {goal.metric} {metric_text(goal.metric, best)}"
            told = f"{trials_text(past.results, study.budget.trials):14}  front {len(front.results):3}{found}"
            say(f"{folder.path!s:48}  {state:12}  {told}")
