"""The interface of what runs trials, those there are by name, and the rule that chooses one."""

from __future__ import annotations

from math import prod
from typing import Literal, Protocol

from bnnsearch.config.study import StudyConfig
from bnnsearch.config.trial import TrialConfig, trial_of
from bnnsearch.errors import InputError
from bnnsearch.space import Space
from bnnsearch.study.coordinator import Coordinator
from bnnsearch.study.worker import Job

Executors = Literal["auto", "ray", "local"]

FEW_IMAGES = 1_000_000
"""Up to so many images to train on in all, the first trials of one process end before Ray's workers have begun: each
loads torch, and together they start in about 20 s of two cores (benchmarks/startup.py)."""

SMALL_IMAGE = 1024
"""Values of an image up to which networks are small enough for that."""


class Executor(Protocol):
    """Runs a coordinator's trials until it hands out no more.

    An executor starts what `next_trial` gives, passes every report on, ends a trial whose report is answered by False,
    takes a crashed trial up again as often as `study.retries` says and then reports a `Failure`. When the coordinator
    is stopping it leaves running trials as they are and returns.
    """

    def run(self, coordinator: Coordinator, study: StudyConfig, job: Job) -> None: ...


def executor_for(name: Executors, space: Space) -> tuple[Executor, str | None]:
    """The executor that was asked for, or for `auto` the one that suits the search, and then why, in one line.

    Args:
        name: `ray` runs trials in parallel, `local` one after another in this process.
        space: what is to be searched; its data can be read.

    Raises:
        InputError: another name.
    """
    if name not in ("auto", "ray", "local"):
        raise InputError(f"executor must be one of auto, ray, local, but got {name!r}")
    why = None
    if name == "auto":
        images = _few_images(space)
        name = "ray" if images is None else "local"
        if images is not None:
            why = (
                f"trials run one after another in this process: for about {images:,} images to train on in all, of at "
                f"most {FEW_IMAGES:,}, Ray does not pay; `--executor ray` runs them in parallel"
            )
    if name == "local":
        from bnnsearch.study.local import LocalExecutor

        return LocalExecutor(), why
    from bnnsearch.study.ray import RayExecutor

    return RayExecutor(), why


def _few_images(space: Space) -> int | None:
    """Images that a small search trains on: its trials by the epochs of all defaults; None where it is not small.

    Neither is one that wants of Ray what this process has not: GPUs to share, slots, a limit of time that ends a hang.
    """
    resources, trials = space.study.resources, space.study.budget.trials
    if resources.per_trial.gpu or resources.trial_timeout or resources.max_concurrent:
        return None
    trial = trial_of(space.trial.defaults())
    if not isinstance(trial, TrialConfig) or trial.data.known is None or prod(trial.data.known[0]) > SMALL_IMAGE:
        return None
    if trials * trial.epochs > FEW_IMAGES:  # no need to look at the data
        return None
    from bnnsearch.core.data import load_data

    images = trials * trial.epochs * len(load_data(trial.data).train)
    return images if images <= FEW_IMAGES else None
