"""Contracts of what trains: methods by gradients, evolutionary methods, training code of one's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.data import DigitsConfig
from bnnsearch.config.evolution import EvolutionMethod
from bnnsearch.config.method import GradientMethod
from bnnsearch.config.model import MlpConfig, XorMlpConfig
from bnnsearch.config.trainer import TrainerSettings
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.binarize import sign
from bnnsearch.core.checkpoint import load_checkpoint, save_checkpoint
from bnnsearch.core.data import Split, load_data
from bnnsearch.core.methods.base import Phase, Progress
from bnnsearch.core.methods.build import build_phases
from bnnsearch.core.own import DeclaredTrainer
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.deploy import exported, packed_network
from bnnsearch.testing.rules import Rules
from bnnsearch.trial import build_trainer

SPEED = "images_per_s"


def method_trial(method: GradientMethod | EvolutionMethod, epochs: int = 6, **sections: Any) -> TrialConfig:
    """A run of `method` on the digits, over in seconds; `sections` take the place of its own."""
    evolves = isinstance(method, EvolutionMethod)
    own = {
        "data": DigitsConfig(train_limit=600, batch_size=50),
        "model": XorMlpConfig(hidden=(64,), bits_per_label=9) if evolves else MlpConfig(hidden=(64, 64)),
        "seed": 1,
    }
    plan = {"epochs": epochs, **sections.pop("plan", {})}
    return TrialConfig.model_validate({**own, "method": method, **sections, "plan": plan})


def check_method(settings: GradientMethod, *, epochs: int = 6, **sections: Any) -> list[EpochMetrics]:
    """A method shows weights that learn, moves them by their gradients alone, and trains what is exported and packed.

    Args:
        settings: its settings; phases before and after its own must leave it some of the `epochs`.
        epochs: of the run on the digits that is made twice, once broken off after every epoch.
        sections: of the trial, such as `optimizer`, in the place of its own.

    Returns:
        The epochs of the run.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("method", settings, GradientMethod)
    with rules.doing("its trial"):
        config = method_trial(settings, epochs, **sections)

    with rules.doing("build"):
        phases = build_phases(settings, config.optimizer, epochs=epochs)
    for phase in phases:
        _check_phase(rules, phase)
    return _check_run(rules, lambda: build_trainer(config), config)


def _check_phase(rules: Rules, phase: Phase) -> None:
    method = phase.method
    for part in ("seen", "rate_name", "start", "view", "optimizer", "anneal", "state"):
        rules.hold(hasattr(method, part), f"{type(method).__name__} must have {part}")
    seen = "signs", "frozen", "relaxed", "mapped"
    rules.hold(method.seen in seen, f"seen must be one of {', '.join(seen)}", method.seen)
    weight = Parameter(torch.linspace(-1, 1, 96).roll(17).view(4, 24).contiguous())
    with rules.doing("start"):
        method.start([weight])
    rules.hold(bool(weight.isfinite().all()), "weights must be finite after start")
    moments = [Progress(phase.epochs * share, phase.epochs, 4) for share in (0.0, 0.5, 1.0)]
    known: dict[Progress, tuple[dict[str, float], Tensor]] = {}
    for moment in [*moments, *reversed(moments)]:
        with rules.doing("anneal"):
            method.anneal(moment)
        with rules.doing("state"):
            state = method.state()
        fits = isinstance(state, dict) and all(isfinite(value) for value in state.values())
        rules.hold(fits, "state must be finite numbers by name", state)
        shown = _shown(rules, phase, weight)
        before, seen_before = known.setdefault(moment, (state, shown))
        rules.hold(state == before, "what anneal sets must depend on the progress alone", (before, state))
        rules.hold(torch.equal(shown, seen_before), "what view shows must depend on the progress alone")
    method.anneal(moments[0])
    with rules.doing("optimizer"):
        optimizer = method.optimizer([weight])
    rules.hold(optimizer is None or isinstance(optimizer, Optimizer), "optimizer must be torch's", type(optimizer))
    if optimizer is None:
        return
    rules.hold(all("lr" in group for group in optimizer.param_groups), "groups of its optimizer must have lr")
    bits = _bits(_shown(rules, phase, weight), phase)
    for _ in range(2):
        weight.grad = torch.zeros_like(weight)
        with rules.doing("a step"):
            optimizer.step()
        flips = int((_bits(_shown(rules, phase, weight), phase) != bits).sum())
        rules.hold(flips == 0, "a gradient of 0 must flip no sign", f"{flips} flips")
    if method.seen != "frozen":
        with rules.doing("view"):
            (gradient,) = torch.autograd.grad(method.view(weight).square().sum(), weight)
        rules.hold(bool(gradient.isfinite().all()), "the gradient that passes view must be finite")


def _shown(rules: Rules, phase: Phase, weight: Tensor) -> Tensor:
    with rules.doing("view"), torch.no_grad():
        shown = phase.method.view(weight)
    fits = isinstance(shown, Tensor) and shown.shape == weight.shape and bool(shown.isfinite().all())
    rules.hold(fits, f"view must show finite weights of the shape that it is given, {tuple(weight.shape)}")
    values = max(len(row.unique()) for row in shown)
    if phase.two_valued:
        rules.hold(values <= 2, "two_valued methods must show two values per filter at most", values)
    elif phase.method.seen in ("signs", "frozen"):
        signs = phase.method.seen == "frozen" or bool((shown.abs() == 1).all())
        rules.hold(signs, "seen is signs, so that view must show +-1 alone", shown.abs().max())
    return shown


def _bits(shown: Tensor, phase: Phase) -> Tensor:
    return shown == shown.amax(dim=1, keepdim=True) if phase.two_valued else sign(shown)


def check_evolution(settings: EvolutionMethod, *, epochs: int = 4) -> list[EpochMetrics]:
    """An evolutionary method is decided by its seed, goes on from its state, counts its work, and packs.

    Args:
        settings: its settings.
        epochs: of the run on the digits that is made twice, once broken off after every epoch.

    Returns:
        The epochs of the run.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("method", settings, EvolutionMethod)
    with rules.doing("its trial"):
        config = method_trial(settings, epochs)
    return _check_run(rules, lambda: build_trainer(config), config)


def check_trainer(settings: TrainerSettings, *, seed: int = 1, device: str = "cpu") -> list[EpochMetrics]:
    """A trainer of one's own reports what it declares, is decided by its seed, and goes on from its state.

    Args:
        settings: its settings; few epochs.
        seed: of both runs, of which one is broken off after every epoch.
        device: where they train.

    Returns:
        The epochs of the run.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("trainer", settings, TrainerSettings)

    def built() -> DeclaredTrainer:
        return DeclaredTrainer(settings, seed=seed, device=device)

    history = _check_run(rules, built, None)
    known = settings.reporter.metrics
    for epoch in history:
        odd = [name for name in known & epoch.values.keys() if not isfinite(epoch.values[name])]
        rules.hold(not odd, f"metrics must be finite in epoch {epoch.epoch}", odd)
    return history


def _check_run(rules: Rules, build: Callable[[], Trainer], config: TrialConfig | None) -> list[EpochMetrics]:
    """One run to its end, and one that is broken off after every epoch and goes on in another trainer."""
    with rules.doing("build"):
        trainer = build()
    with rules.doing("costs"):
        costs = trainer.costs()
    rules.hold(all(isfinite(value) for value in costs.values()), "costs must be finite", costs)
    with rules.doing("training"):
        history = list(trainer.fit())
    rules.hold(len(history) > 0, "fit must yield an epoch")
    rules.hold(not list(islice(trainer.fit(), 1)), "fit must yield nothing after the last epoch")
    for epoch, (whole, broken) in enumerate(zip(history, _broken_off(rules, build), strict=False), 1):
        expected, found = ({k: v for k, v in each.values.items() if k != SPEED} for each in (whole, broken))
        odd = [name for name in expected if found.get(name) != expected[name]]
        told = [(name, expected[name], found.get(name)) for name in odd[:1]]
        rules.hold(not odd, f"a run that is broken off must go on as if it were not, but in epoch {epoch} it is", told)
    if config is not None:
        _check_exported(rules, trainer, config, history[-1])
        spent, planned = history[-1].values["train_bitops"], costs["train_bitops"]
        rules.hold(
            spent <= planned * (1 + 1e-9), "no more bit-operations may be spent than are planned", (spent, planned)
        )
    return history


def _broken_off(rules: Rules, build: Callable[[], Trainer]) -> Iterator[EpochMetrics]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "state.pt")
        while True:
            with rules.doing("a run that goes on from a checkpoint"):
                torch.manual_seed(77)  # what stands in the global generator must not matter
                trainer = build()
                if file.exists():
                    trainer.load_state_dict(load_checkpoint(file))
                metrics = next(iter(trainer.fit()), None)
                if metrics is None:
                    return
                save_checkpoint(file, trainer.state_dict())
            yield metrics


def _check_exported(rules: Rules, trainer: Trainer, config: TrialConfig, last: EpochMetrics) -> None:
    """What is packed has the accuracy that is reported."""
    data = load_data(config.data)
    assert isinstance(data.val, Split), "the digits are in memory"
    with rules.doing("packing"):
        packed = packed_network(exported(trainer), data)
    right = int((torch.from_numpy(packed.predict(data.val.images.numpy())) == data.val.labels).sum())
    found, reported = right / len(data.val), last.values["val_acc"]
    rules.hold(found == reported, f"the packed network must have the accuracy that is reported, {reported:g}", found)
