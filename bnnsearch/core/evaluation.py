"""The network that would be exported, its batch-norm statistics, and its accuracy.

Whatever is reported of a training run is measured here: weights through sign, batch norm re-estimated with those
weights. A soft or low-bit intermediate is never evaluated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnnsearch.config.measure import MeasureSettings
from bnnsearch.core.binarize import filter_mean_magnitude, sign
from bnnsearch.core.layers import BinaryLayer, binary_layers
from bnnsearch.core.metrics import balanced_accuracy

Batches = Iterable[tuple[Tensor, Tensor]]


@torch.no_grad()
def sign_state(model: nn.Module) -> dict[str, Tensor]:
    """The state of `model` with every binary weight replaced by the sign of its view.

    A network of the same kind with the default view computes from it what is exported. An XNOR scale is a mean
    magnitude, so that the weights of such a layer are +-alpha. Filters of two values keep these.
    """
    weights = {f"{name}.weight": _binary_weight(layer) for name, layer in binary_layers(model).items()}
    return {**model.state_dict(), **weights}


def _binary_weight(layer: BinaryLayer) -> Tensor:
    if layer.two_valued:
        return layer.view(layer.weight)
    signs = sign(layer.view(layer.weight))
    return signs * filter_mean_magnitude(layer.weight) if layer.scale == "xnor" else signs


@torch.no_grad()
def reestimate_batch_norm(model: nn.Module, batches: Batches) -> None:
    """Set the running statistics of every batch norm to their plain mean over `batches`; nothing else changes."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    try:
        for images, _ in batches:
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


class Evaluation(NamedTuple):
    """The results of a network on a split.

    Attributes:
        acc: share of the images that it labels right.
        loss: mean cross-entropy, every image counting the same; None where the network has no logits.
        balanced_acc: mean over the classes of the share of their images that it labels right.
        more: other metrics of its predictions, by name.
    """

    acc: float
    loss: float | None
    balanced_acc: float
    more: Mapping[str, float]

    def of(self, split: str) -> dict[str, float]:
        """All of it by name, as of the split `val` or `test`."""
        found = {"acc": self.acc, "loss": self.loss, "balanced_acc": self.balanced_acc, **self.more}
        return {f"{split}_{name}": value for name, value in found.items() if value is not None}


def evaluation_of(
    predicted: Tensor, labels: Tensor, measures: Sequence[MeasureSettings], *, classes: int, loss: float | None = None
) -> Evaluation:
    """The results of predicted classes, int64 (N,), given the labels, int64 (N,), `measures` of them among these."""
    predicted, labels = predicted.cpu(), labels.cpu()
    right = int((predicted == labels).sum())
    more = {each.name: each.measure(predicted, labels, classes) for each in measures}
    return Evaluation(right / len(labels), loss, balanced_accuracy(predicted, labels), more)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches, measures: Sequence[MeasureSettings] = ()) -> Evaluation:
    """The results of `model` in evaluation mode over `batches`, `measures` of its predictions among them."""
    model.eval()
    loss, predicted, true = 0.0, [], []
    for images, labels in batches:
        logits = model(images)
        loss += float(cross_entropy(logits.float(), labels, reduction="sum"))
        predicted.append(logits.argmax(dim=1))
        true.append(labels)
    labels = torch.cat(true)
    return evaluation_of(torch.cat(predicted), labels, measures, classes=logits.shape[1], loss=loss / len(labels))
