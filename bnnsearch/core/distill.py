"""Learning from a teacher: its soft predictions, and where its units look.

    predictions   mean over images of -sum softmax(teacher) log softmax(student), temperature 1
    labels        mean over images of -log softmax(student) at the label; its weight is 0 unless it is given
    with class weights, either mean is sum_i w[y_i] loss_i / sum_i w[y_i], y_i being the image's label
    attention     sum over units of mean over images of ||Q_s / ||Q_s|| - Q_t / ||Q_t|| ||^2
                  with Q the sum over channels of the unit's squared output

Sources: Paren & Poudel (2022), section 5; Martinez et al. (2020), eq. 4.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from bnnsearch.core.layers import BinaryConv2d
from bnnsearch.core.loss import label_loss, weighted_mean
from bnnsearch.core.models.real import RealConv2d
from bnnsearch.errors import InputError


def distillation_loss(student: Tensor, teacher: Tensor, *, each: bool = False) -> Tensor:
    """Cross-entropy of the student's logits (N, classes) with the teacher's predictions; their mean, or `each` (N,)."""
    return cross_entropy(student, teacher.softmax(dim=1), reduction="none" if each else "mean")


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of two activations' attention maps; (N, C, H, W) each, the channels may differ; a scalar."""
    return mse_loss(_attention(student), _attention(teacher), reduction="sum") / len(student)


def _attention(activation: Tensor) -> Tensor:
    """Sum over channels of squares, each image's map of length 1: (N, H * W)."""
    return normalize(activation.float().square().sum(dim=1).flatten(1), dim=1)


class Distillation:
    """The loss of a student in training.

    Args:
        teacher: a trained network with the student's images and classes; put into evaluation mode.
        student: the network that learns.
        attention: weight of the attention loss over the units that hold the student's binary layers; units are matched
            by name.
        labels: weight of the labels' cross-entropy.
        weights: of the classes, (classes,); None are all 1.

    Attributes:
        teacher: the same network.
    """

    def __init__(
        self, teacher: nn.Module, student: nn.Module,
        *, attention: float = 0.0, labels: float = 0.0, weights: Tensor | None = None,
    ) -> None:  # fmt: skip
        self.teacher = teacher.eval().requires_grad_(False)
        self._attention = attention
        self._labels = labels
        self._weights = weights
        self._seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        if attention > 0:
            for model, seen in zip((student, teacher), self._seen, strict=True):
                for name in unit_names(student):
                    _keep_output(model.get_submodule(name), name, seen)

    def __call__(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of the student's `logits` (N, classes), computed from `images` just before; a scalar.

        Args:
            images: (N, C, H, W).
            logits: (N, classes).
            labels: int64 (N,).
        """
        with torch.no_grad():
            target = self.teacher(images)
        if self._weights is None:
            loss = distillation_loss(logits.float(), target.float())
        else:
            losses = distillation_loss(logits.float(), target.float(), each=True)
            loss = weighted_mean(losses, labels, self._weights)
        if self._labels > 0:
            loss = loss + self._labels * label_loss(logits.float(), labels, weights=self._weights)
        student, teacher = self._seen
        for name, activation in student.items():
            loss = loss + self._attention * attention_loss(activation, teacher[name])
        return loss


def unit_names(model: nn.Module) -> list[str]:
    """Names of the outermost modules that hold binary convolutions, or real ones in their place, as parts of their own.

    In order of definition; a unit around two convolutions counts once. A network without such modules has none.
    """
    parents = dict.fromkeys(
        name.rpartition(".")[0] for name, layer in model.named_modules() if isinstance(layer, BinaryConv2d | RealConv2d)
    )
    return [name for name in parents if name and not any(name.startswith(f"{other}.") for other in parents)]


def check_units(student: nn.Module, teacher: nn.Module, shape: tuple[int, int, int]) -> None:
    """Whether the attention of every unit of the student has its counterpart in the teacher; nothing is computed.

    Args:
        student: the network that is to learn.
        teacher: the network that it is to learn from, trained or not.
        shape: (C, H, W) of their images.

    Raises:
        InputError: a unit's name is missing in the teacher, or its maps have another size there.
    """
    names = unit_names(student)
    if not names:
        raise InputError("distill.attention needs binary convolutions in named units, but the network has none")
    known = dict(teacher.named_modules())
    if missing := [name for name in names if name not in known]:
        raise InputError(f"distill.attention needs the student's units in the teacher, which has no {missing[0]}")
    ours, theirs = (_map_sizes(model, names, shape) for model in (student, teacher))
    for name in names:
        if ours[name] != theirs[name]:
            raise InputError(
                f"distill.attention needs maps of one size in {name}, but the student's is "
                f"{_size_text(ours[name])} and the teacher's {_size_text(theirs[name])}"
            )


def _map_sizes(model: nn.Module, names: list[str], shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    copy, seen = deepcopy(model).to("meta").eval(), dict[str, Tensor]()
    for name in names:
        _keep_output(copy.get_submodule(name), name, seen)
    copy(torch.empty(1, *shape, device="meta"))
    return {name: tuple(output.shape[2:]) for name, output in seen.items()}


def _size_text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size)) or "no map"


def _keep_output(module: nn.Module, name: str, seen: dict[str, Tensor]) -> None:
    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        seen[name] = output

    module.register_forward_hook(keep)
