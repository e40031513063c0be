"""Weights, images and losses given by formulas, so that a reference implementation elsewhere can have the same.

Element i (in the order of a contiguous tensor) of tensor number k is

    u(i, k) = ((40503 i^2 + 2654435761 i + 7919 (k + 1)) mod 2^31) / 2^30 - 1,  in [-1, 1)

exactly, in integers and one division. Parameter number k of a network, in the order of `named_parameters`, is
centre + spread u(., k), with the centre and the spread of its kind in `KINDS`; image batch: u(., 1000); the loss is the
sum of the products of the logits with u(., 1001).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# by the end of a parameter's name: centre and spread; others are 0 and 0.5
KINDS = {
    "norm.weight": (1.0, 0.2),
    "norm.bias": (0.0, 0.3),
    "alpha": (0.5, 0.2),
    "sign.bias": (0.0, 0.3),
    "act.centre": (0.0, 0.3),
    "act.out": (0.0, 0.3),
    "act.slope": (0.25, 0.1),
    "act.weight": (0.25, 0.1),
}


def formula(shape: Sequence[int], number: int) -> Tensor:
    """u(., number) as float64 of `shape`."""
    i = torch.arange(math.prod(shape))
    return (((40503 * i * i + 2654435761 * i + 7919 * (number + 1)) % 2**31).double() / 2**30 - 1).view(*shape)


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """`model` in float64 with its parameters by the formula."""
    model.double()
    for number, (name, parameter) in enumerate(model.named_parameters()):
        centre, spread = next((kind for end, kind in KINDS.items() if name.endswith(end)), (0.0, 0.5))
        parameter.copy_(centre + spread * formula(parameter.shape, number))
    return model


def images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """The batch of `count` images of `shape`."""
    return formula((count, *shape), 1000)


def loss(logits: Tensor) -> Tensor:
    """A scalar that every logit has its part in."""
    return (logits * formula(logits.shape, 1001)).sum()


def digest(gradient: Tensor, number: int) -> float:
    """One number of a gradient: the sum of its products with u(., 2000 + number)."""
    return float((gradient * formula(gradient.shape, 2000 + number)).sum())
