"""The one interface of a training run, for gradients and for evolution alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

WEIGHT_BINS = tuple(round(0.1 * place, 1) for place in range(-15, 16))
"""Centres of the bins that latent weights are counted in; the outer ones take what lies beyond."""


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The outcome of one epoch.

    Attributes:
        epoch: epochs finished so far, from 1.
        epochs: epochs of the whole run.
        phase: name of the method's phase this epoch belonged to, such as `pretrain`.
        values: scalars by name: `val_acc`, `val_balanced_acc` (the mean of the classes' accuracies) and, of gradients,
            `val_loss` (always of the network that would be exported now: see `bnnsearch.core.kept`), `train_loss`,
            `train_acc`, `flip_rate`, `binary_fraction`, `images_per_s`, `train_bitops` and, of gradients,
            `train_cost_thesis` (spent so far); and whatever changes with time: `lr` of the binary and `real_lr` of the
            other weights, `lambda`, `beta`, `tau`, `bits_weights`...
        layers: per-layer scalars: metric name to layer name to value, such as `{"flip_rate": {"stage1.0.conv": 0.01}}`.
        weights: share of the latent binary weights in each bin of `WEIGHT_BINS`; empty where there are none.
        node: what the machine did meanwhile, by name; empty where nobody asked.
    """

    epoch: int
    epochs: int
    phase: str
    values: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    weights: Sequence[float] = field(default_factory=list)
    node: Mapping[str, float] = field(default_factory=dict)


def quantisation_note(values: Mapping[str, float]) -> str | None:
    """What is to be said of a run whose weights became binary too soon, or did not; None of any other.

    Args:
        values: its last metrics, with `mostly_binary_at`, the share of the quantisation phase after which 90 % of the
            weights were binary, and `quantised_fraction`, the share that was binary at its end.
    """
    early, reached = values.get("mostly_binary_at", 1.0), values.get("quantised_fraction", 1.0)
    if early <= 0.5:
        return (
            f"90 % of the weights were binary after {early:.0%} of the quantisation phase: "
            "few signs could change from then on; let the weights grow by less"
        )
    if reached < 0.99:
        return (
            f"{reached:.1%} of the weights were binary at the end of the quantisation phase, "
            "the others were rounded: let the weights grow by more"
        )
    return None


class Trainer(Protocol):
    """A training run that yields after every epoch; the caller stops it by breaking out of the loop."""

    def fit(self) -> Iterator[EpochMetrics]:
        """Train on from the present state to the end of the plan, an epoch at a time."""
        ...

    def costs(self) -> dict[str, float]:
        """What the network costs, known without training: `memory_bytes`, `bops`, `flops`, `ops`, `params`; and the
        `train_bitops` of the full plan.
        """
        ...

    def test(self) -> dict[str, float]:
        """Metrics of the sign network on the test split, `test_acc`, `test_balanced_acc` and, of gradients,
        `test_loss`; call it once, at the very end.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state_dict` goes on to the same result."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state; the next `fit` goes on with the epoch after it."""
        ...
