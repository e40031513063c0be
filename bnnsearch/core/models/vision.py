"""Classifiers of torchvision as teachers: their own weights and their own normalisation of images."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from bnnsearch.config.distill import TorchvisionConfig
from bnnsearch.core.checkpoint import misfit
from bnnsearch.core.data import Dataset
from bnnsearch.core.data.imagenet import MEAN, STD
from bnnsearch.errors import EnvironmentProblem, InputError, printable


class Renormalised(nn.Module):
    """A network that expects ImageNet's normalisation, for images (N, 3, H, W) with another one.

    Args:
        network: takes (pixel - MEAN) / STD.
        mean: the images', per channel.
        std: likewise.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        ours, theirs = (torch.tensor(values).view(2, 3, 1, 1) for values in ([*mean, *std], [*MEAN, *STD]))
        self.register_buffer("scale", ours[1] / theirs[1])
        self.register_buffer("offset", (ours[0] - theirs[0]) / theirs[1])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x * self.scale + self.offset)
        return out


def torchvision_network(source: TorchvisionConfig, data: Dataset, *, trained: bool = True) -> nn.Module:
    """The network with its weights, or without as far as costs go, for the images of `data`.

    Raises:
        InputError: torchvision has no such model or weights, or they do not fit the images or classes.
        EnvironmentProblem: the weights are missing, damaged or cannot be downloaded.
    """
    state = torchvision_state(source) if trained else None
    channels = data.shape[0]
    if channels != 3:
        raise InputError(
            f"torchvision's {source.model} takes images of 3 channels, but those of the data have {channels}"
        )
    network: nn.Module = models.get_model(source.model, weights=None, num_classes=data.classes)
    try:
        if state is not None:
            network.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(
            f"{printable(source.path or source.weights)}: the weights must be {source.model}'s for "
            f"{data.classes} classes, but {misfit(error)}"
        ) from error
    return network if (data.mean, data.std) == (MEAN, STD) else Renormalised(network, data.mean, data.std)


def torchvision_state(source: TorchvisionConfig) -> dict[str, Any]:
    """The state dict of the weights: from the file named, else from torchvision's cache, downloaded where missing.

    Raises:
        InputError: torchvision has no such model or weights.
        EnvironmentProblem: they are missing, damaged or cannot be downloaded.
    """
    known = models.list_models(module=models)
    if source.model not in known:
        raise InputError(f"torchvision has no classifier {source.model!r}; allowed: {', '.join(known)}")
    if source.path is not None:
        return _read_state(Path(source.path))
    weights = models.get_model_weights(source.model)
    if source.weights not in weights.__members__:
        allowed = ", ".join(weights.__members__)
        raise InputError(f"torchvision has no weights {source.weights!r} of {source.model}; allowed: {allowed}")
    try:
        state: dict[str, Any] = weights[source.weights].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise EnvironmentProblem(
            f"the weights {source.weights} of torchvision's {source.model} could not be downloaded ({error}); "
            "with path a file of them can be named"
        ) from error
    return state


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"{printable(path)}: {error.strerror}; expected a state dict of torchvision's"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise EnvironmentProblem(
            f"{printable(path)}: cannot be read as a state dict of tensors alone; it may be damaged"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EnvironmentProblem(
            f"{printable(path)}: expected a state dict, names with tensors, but it holds something else"
        )
    return state
