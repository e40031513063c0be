"""The loss of labelled images, their classes weighted: sum_i w[y_i] loss_i / sum_i w[y_i].

`balanced` weighs a class by w_c = N / (K N_c), N_c being its images among the N to learn from and K the number of
classes (King & Zeng, 2001), so that every class counts the same.
"""

from __future__ import annotations

from torch import Tensor, tensor
from torch.nn.functional import cross_entropy

from bnnsearch.config.plan import ClassWeights, check_class_weights


def class_weights(setting: ClassWeights, labels: Tensor, *, classes: int) -> Tensor | None:
    """The weight of every class, float32 (classes,) on the CPU; None where all are 1.

    Args:
        setting: `plan.class_weights`.
        labels: of the images to learn from, int64 (N,).
        classes: how many there are.

    Raises:
        InputError: there is not one weight for each class.
    """
    check_class_weights(setting, classes)
    if setting == "none":
        return None
    if setting == "balanced":
        counts = labels.cpu().bincount(minlength=classes)
        return len(labels) / (classes * counts.clamp(min=1).float())
    return tensor(setting)


def label_loss(logits: Tensor, labels: Tensor, *, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (N, classes) at labels int64 (N,), the weighted mean over images; a scalar."""
    return cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)


def weighted_mean(losses: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean of `losses` (N,), each image weighing as its class does; a scalar."""
    each = weights[labels]
    return (losses * each).sum() / each.sum()
