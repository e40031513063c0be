"""From a data set's settings to a `Dataset`: read once per process, checked, split, normalised, on the device."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from bnnsearch.config.data import (
    Cifar10Config,
    Cifar100Config,
    DataSettings,
    DigitsConfig,
    ImageFolderConfig,
    MnistConfig,
)
from bnnsearch.core.data.dataset import Dataset, ImageSet, channel_statistics, hold_out
from bnnsearch.core.data.folder import read_image_folder
from bnnsearch.core.data.sources import read_cifar, read_digits, read_mnist
from bnnsearch.errors import DataError


def load_data(config: DataSettings, *, device: torch.device | str = "cpu") -> Dataset:
    """The data set `config` names; a second call in this process for the same images answers from memory.

    Args:
        config: which data set, where, and how it is split. `batch_size` and `augment` make no difference here.
        device: where the images are kept.

    Raises:
        DataError: a file is missing, short or corrupt.
    """
    data = _loaded(config.model_copy(update={"batch_size": 1, "augment": ()}), torch.device(device))
    _check_colours(config, data)
    return data


def check_data(config: DataSettings) -> None:
    """Find, before anything trains, whether `load_data` would succeed; nothing is kept in memory.

    A folder of images is decoded by it, so that the workers to come only read the result.

    Raises:
        DataError: a file is missing, short or corrupt.
    """
    _check_colours(config, config.load(torch.device("cpu")))


def _check_colours(config: DataSettings, data: Dataset) -> None:
    """What the settings could not know: the files tell how many channels there are."""
    for step in config.augment:
        if step.coloured and data.shape[0] != 3:
            raise DataError(
                f"augment {step.name} needs images of 3 channels, red, green and blue, but data {config.name} "
                f"has {data.shape[0]}"
            )


@lru_cache(maxsize=2)  # a reused worker meets the same images in every trial
def _loaded(config: DataSettings, device: torch.device) -> Dataset:
    return config.load(device)


def in_memory(images: ImageSet, config: DataSettings, device: torch.device) -> Dataset:
    """Images with their validation split cut off, normalised by what is left to train on."""
    train, test = images.train, images.test
    kept, held = hold_out(
        train.labels, fraction=config.val_fraction, seed=config.seed, limit=config.train_limit, names=images.names
    )
    mean, std = channel_statistics(train.images[kept])
    train, test = (replace(split, mean=mean, std=std) for split in (train, test))
    _, channels, height, width = train.images.shape
    return Dataset(
        train=train.take(kept).to(device),
        val=train.take(held).to(device),
        test=test.to(device),
        classes=int(train.labels.max()) + 1,
        shape=(channels, height, width),
        names=images.names,
        scaling=images.scaling,
    )


def load_digits(config: DigitsConfig, device: torch.device) -> Dataset:
    """The digits; see `read_digits`."""
    return in_memory(read_digits(config.test_fraction), config, device)


def load_mnist(config: MnistConfig, device: torch.device) -> Dataset:
    """MNIST; see `read_mnist`."""
    return in_memory(read_mnist(Path(config.root), download=config.download), config, device)


def load_cifar10(config: Cifar10Config, device: torch.device) -> Dataset:
    """CIFAR-10; see `read_cifar`."""
    from torchvision.datasets import CIFAR10

    return in_memory(read_cifar(Path(config.root), CIFAR10, download=config.download), config, device)


def load_cifar100(config: Cifar100Config, device: torch.device) -> Dataset:
    """CIFAR-100; see `read_cifar`."""
    from torchvision.datasets import CIFAR100

    return in_memory(read_cifar(Path(config.root), CIFAR100, download=config.download), config, device)


def load_image_folder(config: ImageFolderConfig, device: torch.device) -> Dataset:
    """A folder of images; see `read_image_folder`."""
    return in_memory(read_image_folder(config), config, device)
