"""Carrying out a search, here or on a cluster: recorded, shown, and ended with the commands that come next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from bnnsearch.config.study import StudyConfig
from bnnsearch.errors import FAILED, INTERRUPTED, OK, TERMINATED
from bnnsearch.folder import StudyFolder
from bnnsearch.invocation import command
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import Past, read_past
from bnnsearch.record import Record
from bnnsearch.results import StopReason, StudyObserver, TrialResult, quantisation_notes
from bnnsearch.study.session import logging_to, resumable, to_be_resumed
from bnnsearch.terminal.ending import failure_lines, front_lines, print_lines
from bnnsearch.terminal.output import OutputProblem, write_event
from bnnsearch.terminal.progress import StudyProgress
from bnnsearch.terminal.text import trials_text
from bnnsearch.terminal.views import view_for
from bnnsearch.tracking.tracker import Tracker

if TYPE_CHECKING:  # they load torch, which is not wanted to tell that a search is done
    from bnnsearch.study.executor import Executor
    from bnnsearch.study.study import HeldStudy, StudyOutcome

STOPPED = "Ctrl-C stops it, and it can be resumed"

Search = Callable[[Sequence[StudyObserver]], "StudyOutcome"]


def follow_study(study: HeldStudy, executor: Executor, *, as_json: bool = False) -> int:
    """Carry out a search in this process or with its own Ray; see `follow_search`."""
    search = partial(study.search, executor)
    return follow_search(study.space.study, study.folder, search, as_json=as_json, record=study.record)


def follow_search(
    study: StudyConfig,
    folder: StudyFolder,
    search: Search,
    *,
    as_json: bool,
    interrupting: str = STOPPED,
    record: Record | None = None,
) -> int:
    """Carry out a search, recorded and shown, to its exit code.

    Args:
        study: its settings.
        folder: its folder, which this process holds.
        search: carries it out.
        as_json: show it as lines of JSON.
        interrupting: what Ctrl-C does to it.
        record: the study's, where the search is this process's own.
    """
    console = Console(stderr=as_json)
    print_lines(console, [f"searching {study.name} in {folder.path}; {interrupting}"])
    progress = StudyProgress(study, list(read_past(folder).results))
    with ExitStack() as watching:
        watching.enter_context(to_be_resumed(folder.path))
        watching.enter_context(logging_to(folder.log))  # also while what is left is delivered at the end
        view = watching.enter_context(view_for(progress, as_json=as_json, console=console))
        watchers = [progress, view]
        _begin_stage(watchers, "opening MLflow's store")
        tracker = watching.enter_context(Tracker(study, folder, record))
        print_lines(console, [tracker.notice] if tracker.notice else [])
        _begin_stage(watchers, "")
        outcome = search([progress, tracker, view])
        _begin_stage(watchers, "delivering to MLflow, drawing the report")
    try:
        if tracker.undelivered:
            late = f"{tracker.undelivered} updates did not reach MLflow yet"
            print_lines(console, [f"{late}; `{command('report', folder.path)}` sends them"])
        return _end(study, folder, outcome.results, outcome.stopped, console=console, as_json=as_json)
    except OutputProblem as problem:
        return _end_untold(problem, folder, outcome)


def _begin_stage(watchers: Sequence[StudyObserver], stage: str) -> None:
    for each in watchers:
        each.stage_started(stage)


def _end_untold(problem: OutputProblem, folder: StudyFolder, outcome: StudyOutcome) -> int:
    """The exit code of a search whose end cannot be told on standard output, said on standard error."""
    if outcome.stopped is StopReason.FINISHED:
        raise problem
    said = resumable(str(problem), folder.path)
    code = {StopReason.INTERRUPTED: INTERRUPTED, StopReason.TERMINATED: TERMINATED}.get(outcome.stopped)
    if code is None:
        raise said from problem
    with suppress(OutputProblem):
        print_lines(Console(stderr=True), list(said.lines))
    return code


def _end(
    study: StudyConfig,
    folder: StudyFolder,
    results: Sequence[TrialResult],
    stopped: StopReason,
    *,
    console: Console,
    as_json: bool,
) -> int:
    front = ParetoFront.of(results, study.objectives)
    if as_json:
        write_event("study_finished", study=str(folder.path), stopped=stopped, front=sorted(front.numbers))
    if front.results:
        console.print(*front_lines(front, console.width), sep="\n", soft_wrap=True)
    print_lines(console, [*front.noise, *quantisation_notes(front.results)])
    print_lines(console, failure_lines(results))
    resuming = command("resume", folder.path)
    match stopped:
        case StopReason.INTERRUPTED | StopReason.TERMINATED:
            print_lines(console, ["stopped; everything so far is saved. To go on:", f"  {resuming}"])
            return INTERRUPTED if stopped is StopReason.INTERRUPTED else TERMINATED
        case StopReason.DETACHED:
            print_lines(console, ["the search goes on without this terminal. To watch it again:", f"  {resuming}"])
            return INTERRUPTED
        case StopReason.FAILURES:
            print_lines(
                console, ["the search failed: budget.max_failed_trials was reached. To go on:", f"  {resuming}"]
            )
            return FAILED
        case StopReason.WALL_TIME:
            print_lines(
                console, ["budget.wall_time is over; trials that were running can be gone on with:", f"  {resuming}"]
            )
        case StopReason.GPU_HOURS:
            print_lines(
                console, ["budget.gpu_hours are spent; with more of them in its space.yaml, to go on:", f"  {resuming}"]
            )
        case StopReason.FINISHED:
            pass
    if not front.results:
        print_lines(console, ["the search failed: no trial finished within the constraints"])
        return FAILED
    print_lines(console, _next_steps(folder))
    return OK


def tell_done(past: Past, *, as_json: bool) -> int:
    """Say of a search that is done what its end said, and how to search further; the exit code."""
    folder, study = past.folder, past.space.study
    more = command("resume", folder.path, "--trials", study.budget.trials * 2)
    console = Console(stderr=as_json)
    counted = trials_text(past.results, study.budget.trials)
    print_lines(console, [f"{folder.path}: done, {counted}; to search further:", f"  {more}"])
    return _end(study, folder, past.results, StopReason.FINISHED, console=console, as_json=as_json)


def _next_steps(folder: StudyFolder) -> list[str]:
    best = "best.yaml"
    return [
        f"report:  {folder.report / 'report.html'}",
        "next:",
        f"  {command('ui', folder.path)}",
        f"  {command('export', folder.path, '--knee', '-o', best)}",
        f"  {command('train', best)}",
    ]
