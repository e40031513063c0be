"""Production training of one configuration: every epoch, a checkpoint after each, the test set read once at the end.

A folder holds one run: `trial.yaml` (what is trained), `checkpoint.pt` (the last epoch), `epochs.jsonl` (its history)
and, once it has ended, `result.json`. Called again on the same folder it goes on where the checkpoint stands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import InputError
from bnnsearch.trial import build_trainer

CHECKPOINT = "checkpoint.pt"
HISTORY = "epochs.jsonl"
RESULT = "result.json"
TRIAL = "trial.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a production run came to: the last epoch's metrics, costs, and the one reading of the test set."""

    epochs: int
    metrics: dict[str, float]
    costs: dict[str, float]
    test: dict[str, float]


def train(
    config: TrialConfig, out: Path, *, device: str = "cpu", on_epoch: Callable[[EpochMetrics], None] = lambda _: None
) -> Trained:
    """Train `config` to the end of its plan in the folder `out`, going on from its checkpoint where there is one.

    Args:
        config: the training run; a seed that is not set is 0.
        out: the run's folder; made where missing.
        device: torch device, such as `cpu` or `cuda`.
        on_epoch: told after every epoch, the checkpoint being on disk already.

    Raises:
        InputError: `out` holds a run of another configuration.
    """
    if config.seed is None:
        config = config.model_copy(update={"seed": 0})
    out.mkdir(parents=True, exist_ok=True)
    _claim(config, out)
    finished = out / RESULT
    if finished.exists():
        return Trained(**json.loads(finished.read_text()))
    trainer = build_trainer(config, device=device)
    last = _take_up(trainer.load_state_dict, out)
    for metrics in trainer.fit():
        save_checkpoint(out / CHECKPOINT, {"trainer": trainer.state_dict(), "metrics": asdict(metrics)})
        with (out / HISTORY).open("a") as history:
            history.write(json.dumps(asdict(metrics)) + "\n")
        last = metrics
        on_epoch(metrics)
    assert last is not None, "a plan has at least one epoch"
    trained = Trained(last.epoch, dict(last.values), trainer.costs(), trainer.test())
    finished.write_text(json.dumps(asdict(trained), indent=2) + "\n")
    return trained


def best_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _claim(config: TrialConfig, out: Path) -> None:
    written, wanted = out / TRIAL, config.model_dump(mode="json")
    if not written.exists():
        written.write_text(json.dumps(wanted, indent=2) + "\n")
    elif json.loads(written.read_text()) != wanted:
        raise InputError(f"{out}: holds a run of another configuration ({written}); name another folder with --out")


def _take_up(load: Callable[[dict[str, Any]], None], out: Path) -> EpochMetrics | None:
    if not (out / CHECKPOINT).exists():
        return None
    saved = load_checkpoint(out / CHECKPOINT)
    load(saved["trainer"])
    return EpochMetrics(**saved["metrics"])
