"""What each command does, from its arguments to its exit code. `cli.py` declares the arguments."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from bnnsearch.cluster.placement import is_remote
from bnnsearch.config.study import StudyConfig
from bnnsearch.folder import StudyFolder, find_study_folder, new_study_folder
from bnnsearch.pareto import ParetoFront
from bnnsearch.results import StudyObserver, TrialResult, TrialState, read_results
from bnnsearch.space import load_space
from bnnsearch.terminal.ending import front_table, print_lines
from bnnsearch.terminal.progress import StudyProgress
from bnnsearch.terminal.text import metric_text
from bnnsearch.terminal.training import epochs_shown
from bnnsearch.terminal.views import view_for, write_event

if TYPE_CHECKING:
    from bnnsearch.export import Provenance, Selection
    from bnnsearch.search.executor import Executor
    from bnnsearch.search.study import StudyOutcome
    from bnnsearch.train import Trained

OK, FAILED, INTERRUPTED, TERMINATED = 0, 1, 130, 143

STOPPED = "Ctrl-C stops it, and it can be resumed"

Search = Callable[[Sequence[StudyObserver]], "StudyOutcome"]


def run(space_path: Path, overrides: Sequence[str], *, executor: str, runs: Path, as_json: bool) -> int:
    """Search a space in a new folder below `runs`."""
    space = load_space(space_path, overrides=overrides)
    from bnnsearch.config.trial import TrialConfig
    from bnnsearch.core.data import check_data
    from bnnsearch.search.study import run_study

    check_data(TrialConfig.model_validate(space.trial.defaults()).data)
    folder = new_study_folder(runs, space.study.name)
    search = partial(run_study, space, study_dir=folder.path, executor=_executor(executor))
    return follow_search(space.study, folder, lambda observers: search(observers=observers), as_json=as_json)


def resume(
    study: Path | None, *, runs: Path, trials: int | None, executor: str, cluster: Path | None, as_json: bool
) -> int:
    """Go on with a stopped search."""
    folder = find_study_folder(study, runs)
    if cluster is not None or is_remote(folder):
        from bnnsearch import commands_cluster

        return commands_cluster.resume(folder, trials=trials, cluster_path=cluster, as_json=as_json)
    config = load_space(folder.space, overrides=() if trials is None else (f"budget.trials={trials}",)).study
    from bnnsearch.search.study import resume_study

    search = partial(resume_study, folder.path, executor=_executor(executor), trials=trials)
    return follow_search(config, folder, lambda observers: search(observers=observers), as_json=as_json)


def _executor(name: str) -> Executor:
    if name == "local":
        from bnnsearch.search.local import LocalExecutor

        return LocalExecutor()
    from bnnsearch.search.ray import RayExecutor

    return RayExecutor()


def follow_search(
    study: StudyConfig, folder: StudyFolder, search: Search, *, as_json: bool, interrupting: str = STOPPED
) -> int:
    """Carry out a search, recorded and shown, to its exit code; `interrupting` says what Ctrl-C does to it."""
    from bnnsearch.tracking.tracker import Tracker

    console = Console(stderr=as_json)
    print_lines(console, [f"searching {study.name} in {folder.path}; {interrupting}"])
    progress = StudyProgress(study, read_results(folder.results))
    with ExitStack() as watching:
        tracker = watching.enter_context(Tracker(study, folder))
        view = watching.enter_context(view_for(progress, as_json=as_json, console=console))
        outcome = search([progress, tracker, view])
    return _end(study, folder, outcome, console=console, as_json=as_json)


def _end(study: StudyConfig, folder: StudyFolder, outcome: StudyOutcome, *, console: Console, as_json: bool) -> int:
    from bnnsearch.search.coordinator import StopReason

    front = ParetoFront.of(outcome.results, study.objectives)
    if as_json:
        write_event("study_finished", study=str(folder.path), stopped=outcome.stopped, front=sorted(front.numbers))
    if front.results:
        console.print(front_table(front))
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


def dry_run(space_path: Path, overrides: Sequence[str]) -> int:
    """Say what a search would do: the space, one configuration, what its training costs at most."""
    space = load_space(space_path, overrides=overrides)
    from bnnsearch.config.trial import TrialConfig
    from bnnsearch.trial import build_trainer

    config = TrialConfig.model_validate({**space.trial.defaults(), "seed": space.study.seed})
    costs = build_trainer(config).costs()
    console = Console()
    print_lines(console, space.describe())
    print_lines(console, ["the trial of all defaults:", json.dumps(config.model_dump(mode="json"), indent=2)])
    print_lines(console, [f"  {name} {metric_text(name, value)}" for name, value in costs.items()])
    epochs = space.study.budget.trials * config.plan.epochs
    print_lines(
        console, [f"at most {space.study.budget.trials} trials, {epochs} epochs of such trials; nothing was trained"]
    )
    return OK


def status(study: Path | None, *, runs: Path, as_json: bool) -> int:
    """Say where a search stands."""
    folder = find_study_folder(study, runs)
    if is_remote(folder):
        from bnnsearch import commands_cluster

        return commands_cluster.status(folder, as_json=as_json)
    config, results = load_space(folder.space).study, read_results(folder.results)
    front = ParetoFront.of(results, config.objectives)
    states = Counter(result.state.value for result in results)
    if as_json:
        write_event("status", study=str(folder.path), budget=config.budget.trials, states=states,
                    front=sorted(front.numbers), hypervolume=front.hypervolume)  # fmt: skip
        return OK
    console = Console()
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none ended yet"
    print_lines(console, [f"{folder.path}: {len(results)}/{config.budget.trials} trials ({counts})"])
    if front.results:
        console.print(front_table(front))
    print_lines(console, _failure_lines(results))
    return OK


def report(study: Path | None, *, runs: Path) -> int:
    """Write a search's report anew, from what is in its folder."""
    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.report import write_report

    write_report(folder, load_space(folder.space).study)
    print_lines(Console(), [str(folder.report / "report.html")])
    return OK


def export(study: Path | None, *, runs: Path, selection: Selection, out: Path) -> int:
    """Write one configuration of the front."""
    folder = find_study_folder(study, runs)
    config, results = load_space(folder.space).study, read_results(folder.results)
    from bnnsearch.export import Provenance, export_best

    provenance = Provenance(study=config.name, search_id=folder.search_id, trial=0)
    chosen = export_best(results, config.objectives, selection=selection, provenance=provenance, path=out)
    metrics = ", ".join(f"{name} {metric_text(name, value)}" for name, value in chosen.metrics.items()
                        if name in {objective.metric for objective in config.objectives})  # fmt: skip
    told = f"trial {chosen.number} of {folder.path}, {selection.describe(config.objectives)}: {metrics}"
    print_lines(Console(), [told, f"wrote {out}; train it with: bnnsearch train {shlex.quote(str(out))}"])
    return OK


def train(config_path: Path, *, out: Path, device: str | None, as_json: bool) -> int:
    """Train one configuration to its end, and read the test set once."""
    from bnnsearch.export import load_trial

    config, provenance = load_trial(config_path)
    from bnnsearch.train import RESULT, best_device, train

    console = Console(stderr=as_json)
    finished = (out / RESULT).exists()
    if finished:
        print_lines(console, [f"{out} holds a finished run already; its result:"])
    else:
        told = f"training {config_path} for {config.plan.epochs} epochs in {out}"
        print_lines(console, [f"{told}; Ctrl-C stops it, the same command goes on"])
    with epochs_shown(console, as_json=as_json) as on_epoch:
        trained = train(config, out, device=device or best_device(), on_epoch=on_epoch)
    if as_json:
        write_event("trained", out=str(out), metrics=trained.metrics, costs=trained.costs, test=trained.test)
    print_lines(console, _trained_lines(trained, provenance) + ([] if finished else [f"wrote {out}"]))
    return OK


def _trained_lines(trained: Trained, provenance: Provenance | None) -> list[str]:
    expected = provenance.expected.get("val_acc") if provenance else None
    told = f" (the search measured {metric_text('val_acc', expected)})" if expected is not None else ""
    return [
        f"{trained.epochs} epochs: val_acc {metric_text('val_acc', trained.metrics['val_acc'])}{told}",
        "test set, read once: "
        + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained.test.items()),
        "costs: " + ", ".join(f"{name} {metric_text(name, value)}" for name, value in trained.costs.items()),
    ]


def pack(run: Path, *, out: Path, edges: Literal["float32", "int8"]) -> int:
    """Pack a trained network."""
    from bnnsearch.deploy import pack_run

    packed = pack_run(run, out, edges=edges)
    told = f"; same labels as the trained network on {packed.checked} validation images" if packed.checked else ""
    print_lines(Console(), [f"wrote {out}: {packed.bytes} bytes{told}"])
    return OK


def predict(model: Path, images: Sequence[Path]) -> int:
    """Print the label of each image file."""
    from bnnsearch.deploy import predict_files
    from bnnsearch.packed.model import PackedModel

    labels = predict_files(PackedModel.load(model), images)
    print_lines(Console(), [f"{image}: {label}" for image, label in zip(images, labels, strict=True)])
    return OK


def bench(model: Path, *, batch: int, threads: int) -> int:
    """Measure a packed network's latency."""
    from bnnsearch.packed.latency import measure_latency
    from bnnsearch.packed.model import PackedModel

    latency = measure_latency(PackedModel.load(model), batch=batch, threads=threads)
    told = f"{latency.median_ms:.4f} ms per call of {batch} images on {threads} threads"
    print_lines(Console(), [f"{told}, spread {latency.spread:.0%} between rounds"])
    return OK


def ui(study: Path | None, *, runs: Path, host: str, port: int) -> int:
    """Serve MLflow's UI on the store that holds a search, until it is stopped."""
    folder = find_study_folder(study, runs)
    from bnnsearch.tracking.ui import serve

    serve(load_space(folder.space).study, host=host, port=port)
    return OK
