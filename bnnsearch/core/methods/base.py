"""What a method is: how binary weights are seen by the forward pass, and how they are moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

Seen = Literal["signs", "frozen", "relaxed", "mapped"]
"""What the forward pass sees of the binary weights: their signs; signs that no gradient reaches; the weights, on the
grid of a precision where there is one; or real numbers that a function makes of them and that lie on no grid."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase has come.

    Attributes:
        epoch: epochs since the phase began, in [0, epochs], a step being a fraction of one.
        epochs: epochs of the phase at most.
        epoch_steps: steps of an epoch.
    """

    epoch: float
    epochs: int
    epoch_steps: int = 1

    @property
    def fraction(self) -> float:
        """Share of the phase that has passed, in [0, 1]."""
        return self.epoch / self.epochs

    @property
    def steps(self) -> int:
        """Steps of the phase at most."""
        return self.epochs * self.epoch_steps

    @property
    def step_share(self) -> float:
        """What the step at hand has of a total that is spread over the phase in proportion to the time; their sum is 1.

        2 (i + 1/2) / n^2 for step i of n.
        """
        return 2 * (self.fraction + 0.5 / self.steps) / self.steps


@runtime_checkable
class Method(Protocol):
    """How the binary weights are treated in one phase; `weights` are those of all binary layers.

    Attributes:
        seen: what `view` shows of them; it decides what a step costs.
        rate_name: what the `lr` of the weights' optimizer is called where it is recorded.
    """

    seen: Seen
    rate_name: str

    def start(self, weights: Sequence[Parameter]) -> None:
        """Change the weights in place as the phase begins; not called again when a run is resumed within it."""
        ...

    def view(self, weight: Tensor) -> Tensor:
        """What the forward pass uses for `weight`, same shape, differentiable; its sign is what would be exported."""
        ...

    def optimizer(self, weights: Sequence[Parameter]) -> Optimizer | None:
        """The optimizer that moves the weights; None where they are frozen."""
        ...

    def anneal(self, progress: Progress) -> None:
        """Set what changes with time, before every step; depends on `progress` alone: resuming needs no state."""
        ...

    def state(self) -> dict[str, float]:
        """What changes with time, by name, as it stands: recorded after every epoch."""
        ...


@runtime_checkable
class Estimating(Protocol):
    """A method that also estimates the gradient of the sign of activations.

    Attributes:
        estimate: sign of any shape, with its derivative; None leaves that to the network's `sign_gradient`.
    """

    estimate: Callable[[Tensor], Tensor] | None


@dataclass(frozen=True, slots=True)
class Staged:
    """A method in two stages, each a phase of its own.

    Attributes:
        name: of the first stage's phase.
        share: of the method's epochs that the first stage has, at least one epoch being left to the second.
        first: how the weights are treated in it.
        hands_on: as in `Phase`.
        second: how they are treated then.
    """

    name: str
    share: float
    first: Method
    hands_on: Literal["best", "last"]
    second: Method


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run under one method.

    Attributes:
        name: as it is reported.
        epochs: length at most.
        method: how the binary weights are treated.
        until_binary: end as soon as this share of the weights is binary.
        hands_on: the state that the next phase begins from: the `best` by the validation accuracy of the network as
            this phase trains it, or the `last`.
        two_valued: whether the method shows two values per filter, see `bnnsearch.core.layers.two_values`.
    """

    name: str
    epochs: int
    method: Method
    until_binary: float | None = None
    hands_on: Literal["best", "last"] = "last"
    two_valued: bool = False


@torch.no_grad()
def clip_(weights: Sequence[Parameter]) -> None:
    """Project the weights onto [-1, 1], in place."""
    for weight in weights:
        weight.clamp_(-1, 1)


def after_step(optimizer: Optimizer, action: Callable[[], None]) -> Optimizer:
    """`optimizer`, calling `action` after each of its steps."""

    def hook(*_: Any) -> None:
        action()

    optimizer.register_step_post_hook(hook)
    return optimizer


def before_step(optimizer: Optimizer, action: Callable[[], None]) -> Optimizer:
    """`optimizer`, calling `action` before each of its steps, after the gradients are known."""

    def hook(*_: Any) -> None:
        action()

    optimizer.register_step_pre_hook(hook)
    return optimizer
