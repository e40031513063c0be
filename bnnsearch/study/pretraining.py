"""Pretraining that trials share: computed once, kept under the hash of everything it depends on.

A method that pretrains spends its first epochs on a network that its own settings have no part in. Trials that agree in
data, model, optimizer, plan, seed and the length of that phase would all train the same network, bit for bit; the first
to need it trains it as its own first epochs and leaves the state in the cache, the others go on from there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnnsearch.config.method import BnewConfig, GradientMethod
from bnnsearch.config.trial import TrialConfig, trial_of
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.teacher import fingerprint
from bnnsearch.core.trainer import Trainer
from bnnsearch.errors import printable
from bnnsearch.files import lock

logger = logging.getLogger(__name__)


def pretrain_epochs(config: Mapping[str, Any]) -> int:
    """How many epochs of a trial are pretraining; 0 also where the configuration is no valid one."""
    try:
        return trial_of(config).pretrain_epochs
    except ValueError:  # for the worker to report
        return 0


def pretraining_of(config: Mapping[str, Any]) -> TrialConfig | None:
    """The run whose first epochs are the pretraining of `config`, one for all trials that can share it.

    None where there is no pretraining.
    """
    epochs = pretrain_epochs(config)
    if not epochs:
        return None
    trial = TrialConfig.model_validate(config)
    assert isinstance(trial.method, GradientMethod), "evolution pretrains nothing"
    restarts = trial.plan.restarts(trial.method.own_phase)
    spans_run = trial.precision is not None or trial.recu is not None or not restarts
    own_plan = trial.plan.model_copy(update={"epochs": epochs + 1, "restart": True})
    plan = trial.plan if spans_run else own_plan
    method = BnewConfig(pretrain_epochs=epochs, finetune_epochs=0, pretrained=trial.method.pretrained)
    return trial.model_copy(update={"name": None, "method": method, "plan": plan})


def pretraining_key(config: Mapping[str, Any]) -> str | None:
    """What tells this pretraining from all others; None where there is none."""
    run = pretraining_of(config)
    if run is None:
        return None
    return fingerprint(run)


@dataclass(frozen=True, slots=True)
class SharedPretraining:
    """One pretraining in the cache, there already or not yet.

    Attributes:
        path: its state.
        epochs: its length.
    """

    path: Path
    epochs: int

    @classmethod
    def of(cls, config: Mapping[str, Any], cache: Path) -> SharedPretraining | None:
        """That of a trial; None where it has none, or where nothing can be written to the cache."""
        key = pretraining_key(config)
        if key is None:
            return None
        folder = cache / "pretrain"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logger.warning("pretraining is not shared: %s", error)
            return None
        if not os.access(folder, os.W_OK):
            logger.warning("pretraining is not shared: %s is read-only", folder)
            return None
        return cls(folder / f"{key}.pt", pretrain_epochs(config))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the pretraining while taking it or computing it; others wait. A process that dies releases it."""
        with self.path.with_suffix(".lock").open("a") as file:
            lock(file)
            yield

    def take(self, trainer: Trainer) -> bool:
        """Bring a trainer to the end of the pretraining, if it has been computed; says whether it has."""
        if not self.path.exists():
            return False
        before = deepcopy(trainer.state_dict())
        try:
            trainer.load_state_dict(load_checkpoint(self.path))
        except (LookupError, TypeError, ValueError, RuntimeError) as error:  # it costs time, never the trial
            logger.warning("%s: not a state to go on from (%s); computed anew", self.path, printable(str(error)))
            trainer.load_state_dict(before)
            return False
        return True

    def keep(self, trainer: Trainer) -> None:
        """Leave the state of a trainer that has just ended its pretraining to the others."""
        try:
            save_checkpoint(self.path, trainer.state_dict())
        except OSError as error:  # it costs the others their time, but nobody a result
            logger.warning("%s is not kept: %s", self.path, error)
