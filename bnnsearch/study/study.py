"""`run_study` and `resume_study`: a space and an executor in, the results of a search out.

A study's folder holds `study.record` (all that happened, and the lock of the search that writes it), `space.yaml` (the
space as it was resolved), `search.log`, and `checkpoints/` (states of running trials only). `study.journal` (for
optuna-dashboard) and `results.jsonl` (one line per ended trial) are copies for other programs.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from optuna.samplers import BaseSampler

from bnnsearch import native
from bnnsearch.config.metrics import EVOLUTION
from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import TrialConfig, trial_of
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.errors import InputError
from bnnsearch.folder import TEACHERS, StudyFolder, cache_folder, find_study_folder, make_way, new_study_folder
from bnnsearch.invocation import command
from bnnsearch.past import begin_session
from bnnsearch.record import Record, held
from bnnsearch.results import StopReason, StudyObserver, TrialResult
from bnnsearch.space import Space
from bnnsearch.space.objectives import trainers_of
from bnnsearch.study.change import outside
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.copies import OptunaCopy, ResultsCopy
from bnnsearch.study.executor import Executor
from bnnsearch.study.ledger import Ledger
from bnnsearch.study.migration import migrate, needs_migration
from bnnsearch.study.samplers import make_sampler
from bnnsearch.study.session import logging_guests, logging_to, stop_signals, to_be_resumed
from bnnsearch.study.space_file import other_space, resumed_space, write_space
from bnnsearch.study.story import Story
from bnnsearch.study.warm_start import earlier
from bnnsearch.study.worker import BuildTrainer, Job
from bnnsearch.verdict import change

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """The outcome of a search.

    Attributes:
        study: its settings.
        results: every ended trial, by number, those of earlier sessions included.
        stopped: why it ended.
    """

    study: StudyConfig
    results: tuple[TrialResult, ...]
    stopped: StopReason


def run_study(
    space: Space,
    *,
    study_dir: Path,
    executor: Executor,
    observers: Sequence[StudyObserver] = (),
    build_trainer: BuildTrainer | None = None,
) -> StudyOutcome:
    """Search `space` in the new folder `study_dir`, until the budget is spent or a signal comes.

    On the first SIGINT or SIGTERM running trials stop at their checkpoint and the outcome so far is returned; a second
    signal ends the process. Signals are heard only when called from the main thread.

    Args:
        space: what to search.
        study_dir: made where missing.
        executor: runs the trials.
        observers: told about trials as they go.
        build_trainer: makes a trial's trainer; None is `bnnsearch.trial.build_trainer`.

    Raises:
        InputError: the folder holds a study already.
    """
    with new_study(space, study_dir) as study:
        return study.search(executor, observers, build_trainer)


def resume_study(
    study_dir: Path,
    *,
    executor: Executor,
    trials: int | None = None,
    space: Path | Space | None = None,
    observers: Sequence[StudyObserver] = (),
    build_trainer: BuildTrainer | None = None,
) -> StudyOutcome:
    """Go on with the study in `study_dir`: first the trials that were cut off, from their checkpoints, then new ones.

    Args:
        study_dir: a folder that `run_study` made.
        executor: runs the trials.
        trials: a new `budget.trials`.
        space: as for `earlier_study`.
        observers: told about trials as they go; a trial that is continued is started once more.
        build_trainer: as for `run_study`.

    Raises:
        InputError: there is no study, its space differs in more than may, or another process works on it.
        EnvironmentProblem: the study's files cannot be used.
    """
    with earlier_study(study_dir, trials=trials, space=space) as study:
        return study.search(executor, observers, build_trainer)


@dataclass(frozen=True, slots=True)
class HeldStudy:
    """A study that this process alone works on, while `new_study` or `earlier_study` is entered.

    Attributes:
        folder: where it is.
        space: what is searched.
        record: what has happened.
        notes: what the user should know of its files, a line each.
        sampler: the space's, where it is made already.
    """

    folder: StudyFolder
    space: Space
    record: Record
    notes: tuple[str, ...] = ()
    sampler: BaseSampler | None = None

    def search(
        self,
        executor: Executor,
        observers: Sequence[StudyObserver] = (),
        build_trainer: BuildTrainer | None = None,
    ) -> StudyOutcome:
        """Search until the budget is spent or a signal comes; the arguments are those of `run_study`."""
        folder, study = self.folder, self.space.study
        with ExitStack() as session:
            session.enter_context(to_be_resumed(folder.path))
            session.enter_context(logging_to(folder.log))
            session.enter_context(logging_guests())
            job = _job(self.space, folder, build_trainer)
            ledger = Ledger(self.record, study=study, space=self.space.trial, sampler=self.sampler)
            ledger.copy = OptunaCopy.of(study, folder, ledger.trials)
            results = ResultsCopy(folder.results, ledger.results.values())
            coordinator = Coordinator(study, ledger, job=job, observers=[results, Story(study), *observers])
            session.enter_context(stop_signals(coordinator))
            executor.run(coordinator, study, job)
            stopped = coordinator.stopped or StopReason.FINISHED
            ledger.stop(stopped.value)
        ended = tuple(sorted(coordinator.results.values(), key=lambda result: result.number))
        return StudyOutcome(study, ended, stopped)


@contextmanager
def study_below(runs: Path, space: Space) -> Iterator[HeldStudy]:
    """Hold a new folder below `runs`, once the data and files that the space names are found to be there.

    Raises:
        InputError, EnvironmentProblem: as `new_study`, and as `bnnsearch.trial.check_trial`.
    """
    from bnnsearch.trial import check_trial  # loads all methods and models

    check_trial(trial_of(space.trial.defaults()))
    with new_study(space, new_study_folder(runs, space.study.name).path) as study:
        yield study


@contextmanager
def new_study(space: Space, study_dir: Path, *, record: Record | None = None) -> Iterator[HeldStudy]:
    """Hold the new folder `study_dir`; nothing is left of it where no search begins.

    Args:
        space: what to search.
        study_dir: made where missing.
        record: the folder's, where it is held already.

    Raises:
        InputError: the folder holds a study already, or what `warm_start` or `sampler` names cannot be used.
        EnvironmentProblem: the native library that its trials need does not run, or its sampler cannot be loaded.
    """
    folder = StudyFolder(study_dir)
    with held(folder, record) as own:
        if not own.empty or folder.space.exists():
            raise InputError(f"{study_dir}: holds a study already; `{command('resume', study_dir)}` goes on with it")
        known = earlier(space)
        _check_library(space)
        sampler = make_sampler(space.study.sampler, seed=space.study.seed)  # its package may be missing
        with to_be_resumed(folder.path):
            begin_session(own, space, first=known.first, good=known.good)
            write_space(folder, space)
        begun = own.last
        try:
            yield HeldStudy(folder, space, own, sampler=sampler)
        finally:
            # no search began: no trial is recorded after where it is tracked, and there was nothing to resume
            if own.last <= begun + 1 and not folder.checkpoints.exists():
                own.clear()  # what is left empty is taken away
                folder.space.unlink(missing_ok=True)
                for guest in space.guests:
                    if guest.is_file:
                        (folder.path / guest.entry).unlink(missing_ok=True)


@contextmanager
def earlier_study(
    study_dir: Path,
    *,
    trials: int | None = None,
    space: Path | Space | None = None,
    changed_guests: bool = False,
    record: Record | None = None,
) -> Iterator[HeldStudy]:
    """Hold the folder of a study that began earlier.

    Args:
        study_dir: a folder that `run_study` made.
        trials: a new `budget.trials`.
        space: a narrower or wider one, from here on; see `bnnsearch.space.narrowing`.
        changed_guests: whether guests may be others than they were.
        record: the folder's, where it is held already.

    Raises:
        InputError: there is no study, its space was edited in more than may differ, or `space` differs in more than
            may, a guest has changed, or another process works on it.
        EnvironmentProblem: the study's files cannot be used, or the native library that its trials need.
    """
    folder = find_study_folder(study_dir, study_dir)
    with held(folder, record) as own:
        if needs_migration(own, folder):
            old, _ = resumed_space(folder, None, trials=None)
            migrate(own, folder, old)
        begins: dict[str, Any] = {}
        if space is None:
            now, notes = resumed_space(folder, own, trials=trials, changed_guests=changed_guests)
        else:
            old, notes = resumed_space(folder, own, trials=None, changed_guests=changed_guests)
            now, told = other_space(old, space, trials=trials)
            if told:
                beyond = outside(own, old, now)
                begins = change(beyond, now.study.constraints)
                notes += [f"the space is changed: {each}" for each in told]
                notes += [f"trials outside it leave the front: {', '.join(map(str, beyond))}"] if beyond else []
            now = replace(now, path=folder.space)
        news = own.news
        with to_be_resumed(folder.path):
            _check_library(now)
            begin_session(own, now, **begins)
            write_space(folder, now)
        yield HeldStudy(folder, now, own, notes=tuple(filter(None, (news, *notes))))


def _check_library(space: Space) -> None:
    """Raise an `EnvironmentProblem` where trials evolve or are measured without the native library: each would fail."""
    evolves = any(reporter.name == EVOLUTION.name for reporter, _ in trainers_of(space.trial.root))
    if evolves or space.study.measured:
        native.chosen()


def _job(space: Space, folder: StudyFolder, build_trainer: BuildTrainer | None) -> Job:
    study = space.study
    make_way(folder.checkpoints, unless=Path.is_dir)
    folder.checkpoints.mkdir(exist_ok=True)
    per_trial = study.resources.per_trial
    device, cache = "cuda" if per_trial.gpu else "cpu", cache_folder().absolute()
    return Job(
        build_trainer or partial(_build, device=device, cache=cache),
        folder.checkpoints.absolute(),
        study.scheduler,
        checkpoint_interval=study.checkpoint.interval,
        threads=max(1, int(per_trial.cpu)),
        prepare=None if build_trainer else partial(_prepare, device=device, cache=cache),
        time_limit=study.resources.trial_timeout,
        cache=cache if study.share_pretraining else None,
        watched=sorted(study.watched),
        measure=partial(_measure, names=study.measured, target=study.target) if study.measured else None,
        sample=_sample if study.tracking.system_metrics else None,
        classes=None if build_trainer else partial(_classes, device=device),
        guests=space.guests,
    )


def _measure(config: dict[str, Any], trainer: Trainer, *, names: Collection[str], target: str) -> Mapping[str, float]:
    from bnnsearch.deploy import deployed_costs  # loads the kernels

    trial = trial_of(config)
    assert isinstance(trial, TrialConfig), "nothing else reports what is measured"
    return deployed_costs(trial, trainer, names, target)


def _sample() -> Mapping[str, float]:
    from bnnsearch.tracking.system import system_metrics  # loads MLflow

    return system_metrics()


def _build(config: dict[str, Any], *, device: str, cache: Path) -> Trainer:
    from bnnsearch.trial import build_trainer  # only workers need all methods and models

    return build_trainer(trial_of(config), device=device, kept=cache / TEACHERS, on_epoch=_log)


def _prepare(config: dict[str, Any], *, device: str, cache: Path) -> Iterator[EpochMetrics]:
    from bnnsearch.trial import preparing

    return preparing(trial_of(config), device=device, kept=cache / TEACHERS)


def _classes(config: dict[str, Any], *, device: str) -> Sequence[str]:
    from bnnsearch.trial import class_names

    return class_names(trial_of(config), device=device)


def _log(metrics: EpochMetrics) -> None:
    logger.info("%s: epoch %d of %d", metrics.phase, metrics.epoch, metrics.epochs)
