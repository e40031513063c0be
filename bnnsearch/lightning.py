"""A LightningModule as training code of one's own: an epoch is one `fit` of Lightning's, from its own checkpoint on."""

from __future__ import annotations

import logging
import random
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from bnnsearch.config.trainer import LightningSettings
from bnnsearch.core.reproducible import derived_seed, reproducible
from bnnsearch.errors import InputError
from bnnsearch.packed.model import PackedModel

_KEPT = "kept"
"""What Lightning takes for the path of the checkpoint, which is in memory."""

_REBUILT = ("hyper_parameters", "datamodule_hyper_parameters", "hparams_name", "datamodule_hparams_name")
"""What of a checkpoint the settings tell already; it may hold anything, and a state is tensors and plain values."""


class LightningTrainer:
    """Epochs of a module, each a function of the checkpoint before it, the seed and its number.

    Args:
        settings: of the module, its data and Lightning's trainer.
        seed: of the run.
        device: torch device, such as `cpu`.
    """

    def __init__(self, settings: LightningSettings, seed: int, device: str) -> None:
        self._settings, self._seed, self._device = settings, seed, torch.device(device)
        self._epoch, self._stopped = 0, False
        self._checkpoint = _InMemory()
        with self._seeded("module"):
            self._module: LightningModule = settings.module()
            self._data = settings.data()

    def fit(self) -> Iterator[dict[str, float]]:
        """Train on, an epoch at a time, until the plan or the module's own callbacks end it."""
        while not self._stopped:
            yield self._train_epoch()

    def costs(self) -> Mapping[str, float]:
        return self._settings.costs()

    def test(self) -> dict[str, float]:
        """What the module logs of its test set, where it has one."""
        sources = (self._module, self._data)
        if not is_overridden("test_step", self._module) or not any(
            source is not None and is_overridden("test_dataloader", source) for source in sources
        ):
            return {}
        with self._seeded("test"), _undisturbed():
            (logged,) = self._trainer(_OneEpoch()).test(
                self._module, datamodule=self._data, ckpt_path=self._start, verbose=False
            )
        return {name: float(value) for name, value in logged.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "stopped": self._stopped, "checkpoint": self._checkpoint.content}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch, self._stopped = state["epoch"], state["stopped"]
        self._checkpoint.content = state["checkpoint"]
        self._module.load_state_dict(state["checkpoint"]["state_dict"])

    def packed_model(self) -> PackedModel:
        """What the module says is packed.

        Raises:
            InputError: it has no `packed_model`.
        """
        packed = getattr(self._module, "packed_model", None)
        if packed is None:
            kind = type(self._module).__name__
            raise InputError(f"trainer {self._settings.name} cannot be packed: {kind} has no packed_model")
        model: PackedModel = packed()
        return model

    @property
    def _start(self) -> str | None:
        return _KEPT if self._checkpoint.content else None

    def _train_epoch(self) -> dict[str, float]:
        one = _OneEpoch()
        trainer = self._trainer(one)
        with self._seeded(self._epoch), _undisturbed():
            trainer.fit(self._module, datamodule=self._data, ckpt_path=self._start)
            trainer.save_checkpoint(_KEPT)
        self._epoch, self._stopped = self._epoch + 1, one.stopped
        wanted = {self._settings.logged.get(name, name): name for name in self._settings.reporter.metrics}
        return {
            wanted.get(name, name): float(value)
            for name, value in trainer.callback_metrics.items()
            if name in wanted or name.endswith("_loss")
        }

    def _trainer(self, one: Checkpoint) -> Trainer:
        """A trainer for the whole run: what depends on its length, such as a schedule, sees that."""
        chosen = dict(self._settings.options())
        on_gpu = self._device.type == "cuda"
        ours = {
            "max_epochs": self._settings.epochs,
            "accelerator": "gpu" if on_gpu else self._device.type,
            "devices": [self._device.index or 0] if on_gpu else 1,
            "callbacks": [*chosen.pop("callbacks", ()), one],
            # not the environment that it may find around it: a trial is one process, in a job of Slurm's too
            "plugins": [*chosen.pop("plugins", ()), LightningEnvironment(), self._checkpoint],
            "num_sanity_val_steps": 0,  # they would be logged, and draw random numbers, once in a run
        }
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        with _undisturbed():
            return Trainer(**quiet | chosen | ours)

    @contextmanager
    def _seeded(self, part: int | str) -> Iterator[None]:
        """All random numbers, those of Python and numpy too, decided by the seed; restored afterwards."""
        seed = derived_seed(self._seed, part)
        with isolate_rng(), reproducible(seed, device=self._device, deterministic=self._settings.deterministic):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield


class _InMemory(CheckpointIO):
    """The one checkpoint, a copy that training does not change, by whatever path."""

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,  # noqa: ARG002
        storage_options: Any | None = None,  # noqa: ARG002
    ) -> None:
        self.content = deepcopy({name: value for name, value in checkpoint.items() if name not in _REBUILT})

    def load_checkpoint(
        self,
        path: str | Path,  # noqa: ARG002
        map_location: Any | None = None,  # noqa: ARG002
        weights_only: bool | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        return deepcopy(self.content)

    def remove_checkpoint(self, path: str | Path) -> None:  # noqa: ARG002
        self.content = {}


class _OneEpoch(Checkpoint):
    """Ends `fit` after an epoch. Lightning calls what takes checkpoints last, when all others have decided.

    Attributes:
        stopped: whether another callback, such as EarlyStopping, has ended the run.
    """

    stopped = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        self.stopped = trainer.should_stop
        trainer.should_stop = True


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Lightning's advice, which it would give for every epoch; Ctrl-C means what it means elsewhere.

    Raises:
        KeyboardInterrupt: Lightning makes an exit of it, and has the process ignore another.
    """
    log = logging.getLogger("lightning.pytorch")
    level, handler = log.level, signal.getsignal(signal.SIGINT)
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)  # torch's, of Lightning
            yield
    except SystemExit as ended:
        if isinstance(ended.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise ended.__context__ from None
        raise
    finally:
        log.setLevel(level)
