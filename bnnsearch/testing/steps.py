"""Contracts of what a training step is made of: optimizers, schedules; and of metrics of predictions."""

from __future__ import annotations

from copy import deepcopy
from math import isfinite

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from bnnsearch.config.measure import MeasureSettings
from bnnsearch.config.metrics import METRICS
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.config.plan import ScheduleSettings
from bnnsearch.core.optimizers import set_lr_factor
from bnnsearch.testing.rules import Rules

LENGTHS = (1, 2, 7, 100)


def check_optimizer(settings: OptimizerSettings, *, steps: int = 100) -> None:
    """An optimizer moves weights downhill, at the rate of the schedule, and goes on from its state as if never stopped.

    Args:
        settings: without weight decay of any kind.
        steps: in which the squared distance of four weights from 0 falls.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("optimizer", settings, OptimizerSettings)

    def built() -> tuple[Parameter, Optimizer]:
        weight = Parameter(torch.tensor([0.9, -0.6, 0.3, -0.1]))
        with rules.doing("build"):
            optimizer = settings.build([{"params": [weight], "weight_decay": 0.0}], settings.lr)
        rules.hold(isinstance(optimizer, Optimizer), "build must give an optimizer of torch", type(optimizer))
        rates = [group.get("lr") for group in optimizer.param_groups]
        rules.hold(rates == [settings.lr], f"its groups must have lr {settings.lr:g}", rates)
        return weight, optimizer

    def step(weight: Parameter, optimizer: Optimizer, gradient: torch.Tensor) -> None:
        weight.grad = gradient.clone()
        with rules.doing("a step"):
            optimizer.step()
        rules.hold(bool(weight.isfinite().all()), "weights must stay finite", weight)

    weight, optimizer = built()
    start = weight.detach().clone()
    step(weight, optimizer, torch.zeros(4))
    rules.hold(torch.equal(weight, start), "a gradient of 0 must move nothing at first", weight.detach())
    set_lr_factor(optimizer, 0.0)
    step(weight, optimizer, torch.ones(4))
    rules.hold(torch.equal(weight, start), "at a learning rate of 0 nothing must move", weight.detach())

    weight, optimizer = built()
    for done in range(steps):
        step(weight, optimizer, 2 * weight.detach())
        if done == steps // 2:
            state, middle = deepcopy(optimizer.state_dict()), weight.detach().clone()
    rules.hold(
        float(weight.detach().square().sum()) < float(start.square().sum()),
        f"{steps} steps down a bowl must lead closer to its middle",
        weight.detach(),
    )
    other, again = built()
    with torch.no_grad():
        other.copy_(middle)
    with rules.doing("load_state_dict"):
        again.load_state_dict(state)
    for _ in range(steps // 2 + 1, steps):
        step(other, again, 2 * other.detach())
    rules.hold(torch.equal(other, weight), "its state must be all that it goes on from", other.detach())


def check_schedule(settings: ScheduleSettings) -> None:
    """A schedule is a function of the moment alone, a factor in [0, 1], from the first moment to the last.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("schedule", settings, ScheduleSettings)
    moments = [(epochs * place / 20, epochs) for epochs in LENGTHS for place in range(21)]

    def values() -> dict[tuple[float, int], float]:
        with rules.doing("at"):
            return {moment: settings.at(*moment) for moment in moments}

    first = values()
    for (epoch, epochs), factor in first.items():
        rules.hold(
            isinstance(factor, float | int) and 0 <= factor <= 1,
            f"the factor at epoch {epoch:g} of {epochs} must lie in [0, 1]",
            factor,
        )
    rules.hold(values() == first, "the factor must depend on epoch and epochs alone", "another one when asked again")
    rules.hold(any(factor > 0 for factor in first.values()), "some factor must be above 0")


def check_metric(settings: MeasureSettings) -> None:
    """A metric is a finite number of predictions and labels, in any order, and right ones are the best there are.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("metric", settings, MeasureSettings)
    rules.hold(f"val_{settings.name}" in METRICS, f"val_{settings.name} must be in the table of metrics")
    labels = torch.tensor([0, 0, 0, 1, 1, 3, 3, 3, 3, 4])  # classes 2 and 5 have no image
    classes = 6
    generator = torch.Generator().manual_seed(0)

    def measured(predicted: torch.Tensor, true: torch.Tensor) -> float:
        before = predicted.clone(), true.clone()
        with rules.doing("measure"):
            value = settings.measure(predicted, true, classes)
        rules.hold(isinstance(value, float | int) and isfinite(value), "it must be a finite number", value)
        same = torch.equal(predicted, before[0]) and torch.equal(true, before[1])
        rules.hold(same, "predictions and labels must be left as they are")
        return float(value)

    best = measured(labels.clone(), labels.clone())
    for _ in range(20):
        predicted = torch.randint(classes, labels.shape, generator=generator)
        value, order = measured(predicted, labels.clone()), torch.randperm(len(labels), generator=generator)
        shuffled = measured(predicted[order], labels[order])
        rules.hold(abs(shuffled - value) < 1e-6, "the order of the images must not matter", [value, shuffled])
        worse = value <= best + 1e-9 if settings.mode == "max" else value >= best - 1e-9
        rules.hold(worse, f"mode is {settings.mode}, so that no prediction may beat the right one's {best:g}", value)
