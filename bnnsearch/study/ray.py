"""Trials in parallel on Ray Tune, on this machine or on a cluster.

Tune places trials and restarts crashed ones; everything else stays with the coordinator. Its searcher and scheduler are
thin adapters: the searcher asks the coordinator for the next trial, the scheduler hands it every report and returns its
answer. Tune's own checkpoints, snapshots and restore are not used: a worker finds its trial's checkpoint by number.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

# Read when Ray is imported: under `uv run` every worker would else be given an environment of its own, built anew.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray import cloudpickle, tune
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.tune.error import TuneError
from ray.tune.execution import class_cache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from bnnsearch.config.study import PerTrial, ResourcesConfig, StudyConfig
from bnnsearch.errors import EnvironmentProblem
from bnnsearch.study.actor import REPORT, TrialActor
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.own_ray import Watch, environment, keep_sigterm, own_ray, quiet_ray
from bnnsearch.study.session import end_at_once
from bnnsearch.study.worker import Assignment, Failure, Job, one_line

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no per-trial CSV, JSON and TensorBoard files: the record has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are the study's
    "TUNE_FORCE_TRIAL_CLEANUP_S": "5",  # a hung worker does not hold up the end
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the record is the truth, not Tune's snapshots
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_STATE_REFRESH_PERIOD": "1000000000",  # asking a dead Ray for its resources takes a minute; `concurrency` asks
}
NOISY_LOGGERS = ("ray.tune.analysis.experiment_analysis", "ray.tune.search.searcher")
"""They warn about files that Tune does not write here."""

class_cache.ENV_VARS_TO_PROPAGATE -= {name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")}
"""Tune would copy credentials into the runtime environment, which Ray logs; workers inherit those of their node."""


class RayExecutor:
    """An `Executor` on Ray Tune.

    Attributes:
        address: a running cluster, such as `auto` or `ray://host:10001`; None starts a Ray of our own on this machine,
            private to this process (see `own_ray`), and ends it afterwards.
        num_cpus: cores of a Ray of our own; None is all.
        store: URI of an object folder for the states of running trials, where the nodes share no file system.
        slots: trials at once, where the cluster grows with what is asked of it; None is what fits into its nodes now.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: int | None = None,
        slots: int | None = None,
        store: str | None = None,
    ) -> None:
        self.address = address
        self.store = store
        self.num_cpus = num_cpus
        self.slots = slots

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None:
        with (
            _quiet_tune(),
            _ray(self.address, self.num_cpus, coordinator, job) as watch,
            tempfile.TemporaryDirectory() as scratch,
        ):
            resources, job = study.resources, replace(job, store=self.store)
            pickled = cloudpickle.dumps(job)  # type: ignore[no-untyped-call]
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(TrialActor, guests=job.guests, job=pickled),
                    _request(resources.per_trial),
                ),
                tune_config=tune.TuneConfig(
                    search_alg=_CoordinatedSearcher(coordinator),
                    scheduler=_CoordinatedScheduler(coordinator, watch),
                    num_samples=-1,
                    max_concurrent_trials=concurrency(resources, self.slots),
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    name="trials",
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    failure_config=tune.FailureConfig(max_failures=study.retries),
                    stop=_CoordinatedStopper(coordinator, watch),
                    verbose=0,
                ),
            )
            try:
                tuner.fit()
            except TuneError as error:  # it holds what our own code on the driver raised as text only
                raise _origin(error) from None


def concurrency(resources: ResourcesConfig, slots: int | None = None) -> int:
    """How many trials run at once: `slots`, or as many as fit into the connected cluster; at most `max_concurrent`.

    Raises:
        EnvironmentProblem: not even one fits.
    """
    if slots is not None:
        return min(slots, resources.max_concurrent or slots)
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wanted = _request(resources.per_trial)
    for kind, amount in wanted.items():
        if amount > available.get(kind, 0):
            raise EnvironmentProblem(
                f"resources.per_trial.{kind.lower()} must be at most what the nodes have together, "
                f"{available.get(kind, 0):g}, but got {amount:g}"
            )
    fit = min(int(available[kind] / amount) for kind, amount in wanted.items())
    return min(fit, resources.max_concurrent or fit)


class _Here:
    """Holds what is the driver's and pickles as nothing: Tune snapshots what it is given; we never read a snapshot."""

    def __init__(self, coordinator: Coordinator | None = None, watch: Watch | None = None) -> None:
        self._coordinator = coordinator
        self._watch = watch

    def __call__(self) -> Coordinator:
        assert self._coordinator is not None, "a snapshot of Tune's was restored"
        return self._coordinator

    def check_ray(self) -> None:
        """Raise `EnvironmentProblem` if a Ray of our own has died."""
        if self._watch is not None:
            self._watch.check()

    def __reduce__(self) -> tuple[type[_Here], tuple[()]]:
        return _Here, ()


class _CoordinatedSearcher(Searcher):
    """Tune's searcher: the next trial is whatever the coordinator hands out.

    A worker that dies between two trials takes the next one with it: Tune gives that one up before it has begun. So it
    is handed out again, ahead of all others.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self._here = _Here(coordinator)
        self._given: dict[str, Assignment] = {}
        self._again: deque[Assignment] = deque()

    def suggest(self, trial_id: str) -> Any:  # FINISHED is a str, against Tune's own annotation
        assignment = self._again.popleft() if self._again else self._here().next_trial()
        if assignment is None:
            return Searcher.FINISHED if self._here().exhausted else None
        self._given[trial_id] = assignment
        return asdict(assignment)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Whatever the outcome of a trial, the scheduler has told the coordinator already."""
        assignment = self._given.pop(trial_id, None)
        if assignment is not None and self._here().runs(assignment.number):
            self._again.append(assignment)


class _CoordinatedScheduler(FIFOScheduler):
    """Tune's scheduler: first come, first served; whether a trial goes on is the coordinator's answer."""

    def __init__(self, coordinator: Coordinator, watch: Watch | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._here = _Here(coordinator, watch)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002
        goes_on = self._here().receive(trial.config["number"], result[REPORT])
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:  # noqa: ARG002
        coordinator = self._here()
        if coordinator.stopping:  # a signal to all processes of the search ends workers too: no fault of the trial
            return
        self._here.check_ray()  # nor is the death of Ray, or that of a worker before it had begun
        if trial.status == Trial.RUNNING and not trial.should_recover():  # type: ignore[no-untyped-call]
            coordinator.receive(trial.config["number"], _failure(trial))


class _CoordinatedStopper(tune.Stopper):
    """Ends the experiment, leaving running trials unfinished, once the coordinator is stopping or Ray has died."""

    def __init__(self, coordinator: Coordinator, watch: Watch | None) -> None:
        self._here = _Here(coordinator, watch)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        if self._here().stopping:
            return True
        self._here.check_ray()
        return False


def _failure(trial: Trial) -> Failure:
    # Tune looks for the error in its storage, whither it copies it only with its snapshots; it is written here
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return Failure("the worker died")
    error = cloudpickle.loads(Path(path).read_bytes())
    if isinstance(error, RayTaskError) and error.cause is not None:
        return Failure(one_line(error.cause), trace=str(error))
    if isinstance(error, ActorDiedError) and "creation task" in str(error):  # a traceback: its last line says what
        return Failure(str(error).strip().splitlines()[-1])
    return Failure(f"the worker died: {one_line(error)}", out_of_memory=isinstance(error, OutOfMemoryError))


def _origin(error: BaseException) -> BaseException:
    while isinstance(error, TuneError) and error.__context__ is not None:
        error = error.__context__
    return error


def _request(per_trial: PerTrial) -> dict[str, float]:
    wanted = {"CPU": per_trial.cpu, "GPU": per_trial.gpu, "memory": per_trial.memory}
    return {kind: amount for kind, amount in wanted.items() if amount}


@contextmanager
def _quiet_tune() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with environment(ENVIRONMENT):
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _ray(address: str | None, num_cpus: int | None, coordinator: Coordinator, job: Job) -> Iterator[Watch | None]:
    """A connection to Ray: the one that stands, else the cluster at `address`, else a Ray of our own."""
    if ray.is_initialized():
        yield None
    elif address is None:

        def give_up(problem: str) -> None:
            end_at_once(problem, job.checkpoints.parent, coordinator.stopped)

        coordinator.begin_stage("starting Ray")
        with own_ray(num_cpus, coordinator.say, give_up) as watch:
            coordinator.begin_stage("Ray's workers load torch and the data")
            yield watch
    else:
        with quiet_ray():
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, RuntimeError) as error:
                raise EnvironmentProblem(f"no connection to Ray at {address}: {one_line(error)}") from error
            keep_sigterm()
            try:
                yield None
            finally:
                ray.shutdown()
