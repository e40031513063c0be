"""Training the teacher of a distillation: the student's real twin, by the same loop, kept for other trials."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from bnnsearch.config.distill import DistillConfig
from bnnsearch.config.method import SteConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.data import Dataset
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.real import real_twin
from bnnsearch.core.reproducible import derived_seed, reproducible


def trained_teacher(
    config: TrialConfig, *, data: Dataset, model: nn.Sequential, device: torch.device | str = "cpu"
) -> nn.Module:
    """The real-valued twin of `model`, trained as `config.distill` says or taken from its cache.

    Args:
        config: the student's run.
        data: the student's data set, on `device`.
        model: the student.
        device: where to train.
    """
    assert config.distill is not None, "a run without distillation has no teacher"
    recipe = _recipe(config, config.distill)
    with reproducible(derived_seed(config.distill.teacher.seed, "initial weights"), device=torch.device("cpu")):
        twin = real_twin(model)
    if config.distill.cache is None:
        return _train(recipe, data, twin, device)
    key = hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]
    path = Path(config.distill.cache) / f"teacher-{key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if path.exists():
            twin.load_state_dict(load_checkpoint(path)["model"])
            return twin.to(device)
        teacher = _train(recipe, data, twin, device)
        save_checkpoint(path, {"model": teacher.state_dict(), "recipe": recipe.model_dump(mode="json")})
        return teacher


def _recipe(config: TrialConfig, distill: DistillConfig) -> TrialConfig:
    """The teacher's run: the student's data, model and arithmetic, and nothing else of the student."""
    teacher = distill.teacher
    plan = config.plan.model_copy(update={"epochs": teacher.epochs, "schedule": teacher.schedule, "warmup_epochs": 0.0})
    return TrialConfig(
        data=config.data,
        model=config.model,
        method=SteConfig(),  # of no account: the twin has no binary weights
        optimizer=teacher.optimizer,
        plan=plan,
        seed=teacher.seed,
    )


def _train(recipe: TrialConfig, data: Dataset, twin: nn.Module, device: torch.device | str) -> nn.Module:
    trainer = GradientTrainer(recipe, data=data, model=twin, device=device)
    for _ in trainer.fit():
        pass
    return trainer.sign_network()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; whoever else wants it waits. The system frees it should this process die."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
