"""A study small enough to test with: a real space over one real number, and trainers that behave, hang or break."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.space import Space, load_space
from bnnsearch.study import coordinator

SPACE = """
version: 1
name: tiny
seed: 7
objectives: [{metric: val_acc, mode: max}, {metric: memory_bytes, mode: min}]
sampler: {name: random}
budget: {trials: 4}
resources: {per_trial: {cpu: 1}, max_concurrent: 2}
retries: 1
checkpoint: {interval: 0}
trial:
  data: {name: digits}
  model: {name: mlp, hidden: {type: choice, values: [[1], [2], [3]]}}
  method: {name: ste}
  optimizer: {name: adam, lr: {type: uniform, min: 0.001, max: 1.0}}
  plan: {epochs: 4}
"""


def tiny(folder: Path, *overrides: str) -> Space:
    """The space above with `key=value` overrides, its file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(SPACE)
    return load_space(path, overrides=overrides)


def ticking_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the driver's clock go on by .1 s whenever it is looked at, however fast or busy the machine is."""
    looks = itertools.count()
    monkeypatch.setattr(coordinator, "time", SimpleNamespace(monotonic=lambda: 0.1 * next(looks)))


class TinyTrainer:
    """Trains nothing: with the learning rate as x, its accuracy is x * (1 - 2^-epoch); memory is 100 bytes a neuron."""

    def __init__(self, config: dict[str, Any], *, notes: Path | None = None) -> None:
        self.x: float = config["optimizer"]["lr"]
        self.neurons: int = config["model"]["hidden"][0]
        self.epochs: int = config["plan"]["epochs"]
        self.name = str(config["seed"])
        self.notes = notes or Path()
        self.epoch = 0

    def costs(self) -> dict[str, float]:
        return {"memory_bytes": 100.0 * self.neurons, "train_bitops": 10.0 * self.epochs}

    def fit(self) -> Iterator[EpochMetrics]:
        while self.epoch < self.epochs:
            self.epoch += 1
            accuracy = self.x * (1 - 0.5**self.epoch)
            yield EpochMetrics(self.epoch, self.epochs, "train", {"val_acc": accuracy, "train_loss": 1.0})

    def test(self) -> dict[str, float]:
        return {"test_acc": self.x}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]


class DivergingTrainer(TinyTrainer):
    """Trials with x above a half lose their accuracy in the second epoch."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            diverged = metrics.epoch == 2 and self.x > 0.5
            yield EpochMetrics(
                metrics.epoch, metrics.epochs, metrics.phase, {"val_acc": float("nan")} if diverged else metrics.values
            )


class CrashingTrainer(TinyTrainer):
    """Raises in the third epoch of each trial's first attempt; notes which epochs were trained."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            note = self.notes / self.name
            seen = note.read_text() if note.exists() else ""
            note.write_text(f"{seen}{metrics.epoch}")
            if metrics.epoch == 3 and "3" not in seen:
                self.crash()
            yield metrics

    def crash(self) -> None:
        raise RuntimeError("the cat sat on the cable")


class DyingTrainer(CrashingTrainer):
    """Its process is killed instead."""

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class BrokenTrainer(TinyTrainer):
    """Never trains."""

    def fit(self) -> Iterator[EpochMetrics]:
        raise RuntimeError("out of order")
        yield


class WrongTrainer(TinyTrainer):
    """Refuses its configuration."""

    def __init__(self, config: dict[str, Any], *, notes: Path) -> None:
        with (notes / "attempts").open("a") as log:
            log.write(".")
        raise ValueError("width must be odd, but got 2")


class HangingTrainer(TinyTrainer):
    """Trials with x above a half never finish their second epoch."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            if metrics.epoch == 2 and self.x > 0.5:
                time.sleep(3600)
            yield metrics


class DeafTrainer(TinyTrainer):
    """Hangs in its second epoch; prints when it does, and when its process has taken note of a first SIGINT."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            if metrics.epoch == 2:
                print("hangs", flush=True)
                while signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                    time.sleep(0.01)
                print("hangs on", flush=True)
                time.sleep(3600)
            yield metrics


class CountingTrainer(TinyTrainer):
    """Notes every epoch it trains, whichever process it is in."""

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            with (self.notes / "epochs").open("a") as notes:
                notes.write(f"{self.name}:{metrics.epoch}\n")
            yield metrics


class HungryTrainer(TinyTrainer):
    """Trials with x above a half do not fit into memory with a batch above 40."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.batch = config["data"]["batch_size"]

    def fit(self) -> Iterator[EpochMetrics]:
        for metrics in super().fit():
            if metrics.epoch == 2 and self.x > 0.5 and self.batch > 40:
                raise MemoryError("no room for a batch")
            yield metrics
