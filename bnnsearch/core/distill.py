"""Learning from a real-valued teacher: its soft predictions, and where its units look.

    predictions   mean over images of -sum softmax(teacher) log softmax(student), temperature 1, no hard label
    attention     sum over units of mean over images of ||Q_s / ||Q_s|| - Q_t / ||Q_t|| ||^2
                  with Q the sum over channels of the unit's squared output

Sources: Paren & Poudel (2022), section 5; Martinez et al. (2020), eq. 4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from bnnsearch.core.layers import binary_layers


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's logits (N, classes) with the teacher's predictions; a scalar."""
    return cross_entropy(student, teacher.softmax(dim=1))


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
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, *, attention: float = 0.0) -> None:
        self._teacher = teacher.eval().requires_grad_(False)
        self._attention = attention
        self._seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        if attention > 0:
            for model, seen in zip((student, teacher), self._seen, strict=True):
                for name in unit_names(student):
                    _keep_output(model.get_submodule(name), name, seen)

    def __call__(self, images: Tensor, logits: Tensor) -> Tensor:
        """The loss of the student's `logits` (N, classes), computed from `images` just before; a scalar."""
        with torch.no_grad():
            target = self._teacher(images)
        loss = distillation_loss(logits.float(), target.float())
        student, teacher = self._seen
        for name, activation in student.items():
            loss = loss + self._attention * attention_loss(activation, teacher[name])
        return loss


def unit_names(model: nn.Module) -> list[str]:
    """Names of the outermost modules that hold binary convolutions as parts of their own, in order of definition.

    A unit around two convolutions counts once. A network without such modules has none.
    """
    parents = dict.fromkeys(
        name.rpartition(".")[0] for name, layer in binary_layers(model).items() if layer.weight.ndim == 4
    )
    return [name for name in parents if name and not any(name.startswith(f"{other}.") for other in parents)]


def _keep_output(module: nn.Module, name: str, seen: dict[str, Tensor]) -> None:
    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        seen[name] = output

    module.register_forward_hook(keep)
