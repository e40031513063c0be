"""Carrying out a search, here or on a cluster: recorded, shown, and ended with the commands that come next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from rich.console import Console

from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import Past, read_past
from bnnsearch.record import Record
from bnnsearch.results import StudyObserver, TrialResult, TrialState, quantisation_notes
from bnnsearch.terminal.ending import front_table, print_lines
from bnnsearch.terminal.output import OutputProblem
from bnnsearch.terminal.progress import StudyProgress
from bnnsearch.terminal.views import view_for, write_event

if TYPE_CHECKING:
    from bnnsearch.study.study import StudyOutcome

OK, FAILED, INTERRUPTED, TERMINATED = 0, 1, 130, 143

STOPPED = "Ctrl-C stops it, and it can be resumed"

Search = Callable[[Sequence[StudyObserver]], "StudyOutcome"]


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
    from bnnsearch.study.session import logging_to, to_be_resumed
    from bnnsearch.tracking.tracker import Tracker

    console = Console(stderr=as_json)
    print_lines(console, [f"searching {study.name} in {folder.path}; {interrupting}"])
    progress = StudyProgress(study, list(read_past(folder).results))
    with ExitStack() as watching:
        watching.enter_context(to_be_resumed(folder.path))
        watching.enter_context(logging_to(folder.log))  # also while what is left is delivered at the end
        tracker = watching.enter_context(Tracker(study, folder, record))
        print_lines(console, [tracker.notice] if tracker.notice else [])
        view = watching.enter_context(view_for(progress, as_json=as_json, console=console))
        outcome = search([progress, tracker, view])
    try:
        if tracker.undelivered:
            late = f"{tracker.undelivered} updates did not reach MLflow yet"
            print_lines(console, [f"{late}; `bnnsearch report {shlex.quote(str(folder.path))}` sends them"])
        return _end(study, folder, outcome, console=console, as_json=as_json)
    except OutputProblem as problem:
        return _end_untold(problem, folder, outcome)


def _end_untold(problem: OutputProblem, folder: StudyFolder, outcome: StudyOutcome) -> int:
    """The exit code of a search whose end cannot be told on standard output, said on standard error."""
    from bnnsearch.study.coordinator import StopReason
    from bnnsearch.study.session import resumable

    if outcome.stopped is StopReason.FINISHED:
        raise problem
    said = resumable(str(problem), folder.path)
    code = {StopReason.INTERRUPTED: INTERRUPTED, StopReason.TERMINATED: TERMINATED}.get(outcome.stopped)
    if code is None:
        raise said from problem
    with suppress(OutputProblem):
        print_lines(Console(stderr=True), list(said.lines))
    return code


def _end(study: StudyConfig, folder: StudyFolder, outcome: StudyOutcome, *, console: Console, as_json: bool) -> int:
    from bnnsearch.study.coordinator import StopReason

    front = ParetoFront.of(outcome.results, study.objectives)
    if as_json:
        write_event("study_finished", study=str(folder.path), stopped=outcome.stopped, front=sorted(front.numbers))
    if front.results:
        console.print(front_table(front))
    print_lines(console, quantisation_notes(front.results))
    print_lines(console, _failure_lines(outcome.results))
    resuming = f"bnnsearch resume {shlex.quote(str(folder.path))}"
    match outcome.stopped:
        case StopReason.INTERRUPTED | StopReason.TERMINATED:
            print_lines(console, ["stopped; everything so far is saved. To go on:", f"  {resuming}"])
            return INTERRUPTED if outcome.stopped is StopReason.INTERRUPTED else TERMINATED
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


def _failure_lines(results: Sequence[TrialResult]) -> list[str]:
    """How many trials failed, by cause."""
    causes = Counter(result.reason or "no reason given" for result in results if result.state is TrialState.FAILED)
    lines = [f"  {count} x {reason}" for reason, count in causes.most_common(10)]
    return [f"{causes.total()} of {len(results)} trials failed:", *lines] if causes else []


def _next_steps(folder: StudyFolder) -> list[str]:
    where = shlex.quote(str(folder.path))
    return [
        f"report:  {folder.report / 'report.html'}",
        "next:",
        f"  bnnsearch ui {where}",
        f"  bnnsearch export {where} --knee -o best.yaml",
        "  bnnsearch train best.yaml",
    ]


def tell_damage(past: Past) -> None:
    """Say what is wrong with a study's record, if anything, and is not among its results."""
    if past.damage:
        print_lines(Console(stderr=True), [past.damage])


def tell_status(
    folder: StudyFolder, study: StudyConfig, results: Sequence[TrialResult], *, as_json: bool, job: str | None = None
) -> None:
    """Say where a search stands; `job` is the state of its job on a cluster."""
    front = ParetoFront.of(results, study.objectives)
    states = Counter(result.state.value for result in results)
    if as_json:
        write_event("status", study=str(folder.path), job=job, budget=study.budget.trials, states=states,
                    front=sorted(front.numbers), hypervolume=front.hypervolume)  # fmt: skip
        return
    console = Console()
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none ended yet"
    place = "" if job is None else f"{job} on its cluster, "
    print_lines(console, [f"{folder.path}: {place}{len(results)}/{study.budget.trials} trials ({counts})"])
    if front.results:
        console.print(front_table(front))
    print_lines(console, quantisation_notes(front.results))
    print_lines(console, _failure_lines(results))
