"""One trial, wherever it runs: build, take up the checkpoint, train on, report after every epoch. Knows no Ray."""

from __future__ import annotations

import logging
import random
import signal
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bnnsearch.config.guests import Guest
from bnnsearch.config.scheduler import NoSchedulerConfig, SchedulerSettings
from bnnsearch.core.checkpoint import check_classes, load_checkpoint, save_checkpoint
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.errors import printable
from bnnsearch.study.object_store import ObjectFolder
from bnnsearch.study.pretraining import SharedPretraining, pretrain_epochs
from bnnsearch.study.time_limit import TimeLimit, TimeLimitError

logger = logging.getLogger(__name__)

BuildTrainer = Callable[[dict[str, Any]], Trainer]
"""From a resolved configuration to a trainer at its beginning; must be picklable."""

Sample = Callable[[], Mapping[str, float]]
"""What the node does at the moment, by name; must be picklable."""

Classes = Callable[[dict[str, Any]], Sequence[str]]
"""From a resolved configuration to the names of its data set's classes, by label; must be picklable."""

Prepare = Callable[[dict[str, Any]], Iterator[EpochMetrics]]
"""From a resolved configuration to the epochs of the networks that its trainer learns or starts from, which are trained
and kept before it is made; must be picklable."""

Measure = Callable[[dict[str, Any], Trainer], Mapping[str, float]]
"""From a resolved configuration and its trainer to costs that only a measurement tells; must be picklable."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all trials of a study.

    Attributes:
        build_trainer: makes a trial's trainer.
        checkpoints: folder of the running trials' states; on a cluster every node must see it.
        scheduler: where it lets trials wait at rungs, their states are saved there.
        checkpoint_interval: seconds between two saves.
        threads: torch threads of a trial.
        prepare: trains what a trial's trainer needs; None has nothing to prepare.
        time_limit: seconds that an attempt at a trial may take, its preparation left out, which it does for others too;
            None is no limit.
        cache: where pretraining is shared; None shares nothing.
        watched: metrics that must be measured and finite; every loss must be finite anyway.
        store: URI of the object folder that holds the states for all nodes; None where every node sees `checkpoints`.
        measure: measures on the node of the trial, before it trains, what the trainer cannot compute; None measures
            nothing.
        sample: asked after every epoch; None samples nothing.
        classes: tells the classes that a checkpoint was trained on; None leaves them out.
        guests: what configurations use; a process of its own must have them installed before it reads any.
    """

    build_trainer: BuildTrainer
    checkpoints: Path
    scheduler: SchedulerSettings = field(default_factory=NoSchedulerConfig)
    checkpoint_interval: float = 10.0
    threads: int = 1
    prepare: Prepare | None = None
    time_limit: float | None = None
    cache: Path | None = None
    watched: Collection[str] = ()
    store: str | None = None
    measure: Measure | None = None
    sample: Sample | None = None
    classes: Classes | None = None
    guests: tuple[Guest, ...] = ()

    def checkpoint(self, number: int) -> Path:
        """Where trial `number` keeps its state."""
        return self.checkpoints / f"{number}.pt"

    def fetched_checkpoint(self, number: int) -> Path:
        """The same, brought here from the object store where there is one."""
        path = self.checkpoint(number)
        if self.store is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            ObjectFolder(self.store).fetch(path)
        return path


@dataclass(frozen=True, slots=True)
class Assignment:
    """A trial to run: its number in the study and its resolved configuration.

    Attributes:
        number: in the study.
        config: the resolved `TrialConfig` tree.
        retry_of: the trial that this one repeats with a smaller batch.
        confirms: the trial whose configuration this one trains with another seed, to the end of its plan.
    """

    number: int
    config: dict[str, Any]
    retry_of: int | None = None
    confirms: int | None = None


@dataclass(frozen=True, slots=True)
class Preparation:
    """A network that a trial learns or starts from has been trained for one more epoch; before any other report.

    Attributes:
        metrics: of the epoch; its phase says what the network is for.
    """

    metrics: EpochMetrics


@dataclass(frozen=True, slots=True)
class Costs:
    """First report of a trial itself: what its network costs, known before any training."""

    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Failure:
    """Last report of a trial that failed for a reason another attempt would meet again.

    Attributes:
        reason: one line.
        out_of_memory: half the batch may fit.
        trace: where it was raised, of several lines, for the log.
    """

    reason: str
    out_of_memory: bool = False
    trace: str = ""


Report = Preparation | Costs | EpochMetrics | Failure


def run_trial(job: Job, assignment: Assignment, *, own_process: bool) -> Generator[Report, None, None]:
    """Train one trial from its checkpoint, or from the beginning, to the end of its plan.

    The caller stops it by closing the iterator. A trial that is taken up again repeats the report of the epoch it goes
    on from, for nobody may have heard it: a state is saved before its epoch is reported.

    Args:
        job: what all trials share.
        assignment: the trial.
        own_process: the process may be ended where a hang cannot be interrupted otherwise.

    Raises:
        Exception: whatever the trainer raised, if another attempt may succeed.
    """
    limit = TimeLimit(job.time_limit, own_process=own_process)
    epoch = 0
    try:
        if job.prepare is not None:
            _seed(job, assignment)
            for metrics in job.prepare(assignment.config):
                yield Preparation(metrics)
        with limit.armed():
            trainer, last = _start(job, assignment)
            costs = trainer.costs()
            if job.measure is not None:
                costs = {**costs, **job.measure(assignment.config, trainer)}
        yield Costs(costs)
        if last is not None:
            epoch = last.epoch
            yield last
        for metrics in _epochs(job, assignment, trainer, epoch=epoch, limit=limit):
            epoch = metrics.epoch
            _check({**costs, **metrics.values}, epoch, job.watched)
            yield replace(metrics, node=job.sample()) if job.sample else metrics
    # a mistake in the configuration, or a number that is not finite, would come again at the next attempt
    except (TimeLimitError, ValueError, FloatingPointError) as error:
        yield Failure(one_line(error), trace=traceback.format_exc())
    except (MemoryError, torch.OutOfMemoryError) as error:
        yield Failure(one_line(error), out_of_memory=True)
    except SystemExit as error:  # in a guest's code: it ends its trial, and no other
        if _told_to_end(error):
            raise
        yield Failure(one_line(error), trace=traceback.format_exc())
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # what torch says of the machine's own memory
            raise
        yield Failure(one_line(error), out_of_memory=True)


def _told_to_end(error: SystemExit) -> bool:
    """Whether this process's own handler of SIGTERM raised it, as Ray's does in its workers."""
    handler = getattr(signal.getsignal(signal.SIGTERM), "__code__", None)
    return any(frame.f_code is handler for frame, _ in traceback.walk_tb(error.__traceback__))


def _epochs(
    job: Job, assignment: Assignment, trainer: Trainer, *, epoch: int, limit: TimeLimit
) -> Iterator[EpochMetrics]:
    """Every epoch from `epoch` on; those of a pretraining that another trial has computed are left out."""
    shared = SharedPretraining.of(assignment.config, job.cache) if job.cache else None
    if shared is not None and epoch < shared.epochs:
        with shared.held():
            with limit.armed():
                taken = shared.take(trainer)
            if not taken:
                yield from _train(job, assignment, trainer, limit=limit, until=shared.epochs)
                shared.keep(trainer)
    yield from _train(job, assignment, trainer, limit=limit)


def _train(
    job: Job, assignment: Assignment, trainer: Trainer, *, limit: TimeLimit, until: int | None = None
) -> Iterator[EpochMetrics]:
    """Every epoch to the end of `until` or of the plan; the state is saved every so often, and where it may wait."""
    epochs, saved = trainer.fit(), time.monotonic()
    while True:
        with limit.armed():
            metrics = next(epochs, None)
            if metrics is None:
                raise RuntimeError("training ended before the last epoch of its plan")
            due = time.monotonic() - saved >= job.checkpoint_interval or _may_wait(job, assignment, metrics)
            if due and metrics.epoch < metrics.epochs:
                _save(job, assignment, trainer, metrics)
                saved = time.monotonic()
        yield metrics
        if metrics.epoch == until:
            return


def _may_wait(job: Job, assignment: Assignment, metrics: EpochMetrics) -> bool:
    if job.scheduler.promotes is None or assignment.confirms is not None:
        return False
    pretraining = pretrain_epochs(assignment.config)
    own_epoch, own_epochs = metrics.epoch - pretraining, metrics.epochs - pretraining
    return job.scheduler.is_rung(assignment.number, epoch=own_epoch, epochs=own_epochs)


def _check(known: Mapping[str, float], epoch: int, watched: Collection[str]) -> None:
    for name in watched:
        if name not in known:
            raise ValueError(f"{name} was not measured; measured are {', '.join(sorted(known))}")
    for name in (*watched, *(name for name in known if name.endswith("_loss"))):
        if not isfinite(known[name]):
            raise FloatingPointError(f"{name} is {known[name]} after epoch {epoch}")


def one_line(error: BaseException) -> str:
    """The error as a trial's reason: its kind and the first line of its message."""
    text = str(error).strip().splitlines()
    kind = "" if isinstance(error, TimeLimitError | ValueError | FloatingPointError) else f"{type(error).__name__}: "
    return printable(kind + (text[0] if text else type(error).__name__))[:500]


def _seed(job: Job, assignment: Assignment) -> None:
    """A reused worker must not hand one trial's state to the next."""
    seed = int(assignment.config.get("seed") or 0)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(job.threads)


def _start(job: Job, assignment: Assignment) -> tuple[Trainer, EpochMetrics | None]:
    """A trainer where the trial stands, and the outcome of the last epoch behind it."""
    _seed(job, assignment)
    trainer = job.build_trainer(assignment.config)
    path = job.fetched_checkpoint(assignment.number)
    if not path.exists():
        return trainer, None
    try:
        saved = load_checkpoint(path)
        if job.classes is not None:
            check_classes(saved, job.classes(assignment.config), path)
        trainer.load_state_dict(saved["trainer"])
        return trainer, EpochMetrics(**saved["metrics"])
    except TimeLimitError:
        raise
    except Exception as error:  # a damaged state costs a repetition, never the trial
        logger.warning("trial %d starts anew: %s", assignment.number, one_line(error))
        return job.build_trainer(assignment.config), None


def _save(job: Job, assignment: Assignment, trainer: Trainer, last: EpochMetrics) -> None:
    path = job.checkpoint(assignment.number)
    state: dict[str, Any] = {"config": assignment.config, "trainer": trainer.state_dict(), "metrics": asdict(last)}
    if job.classes is not None:
        state["classes"] = list(job.classes(assignment.config))
    try:
        save_checkpoint(path, state)
        if job.store is not None:
            ObjectFolder(job.store).put(path.name, path.read_bytes())
    except OSError as error:  # an insurance: training goes on without it
        logger.warning("%s is not saved: %s", path, error)
