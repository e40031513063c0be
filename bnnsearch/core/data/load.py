"""From `DataConfig` to `Dataset`: read once per process, checked, split, normalised, on the device."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import assert_never

import torch

from bnnsearch.config.data import (
    Cifar10Config,
    Cifar100Config,
    DataConfig,
    DigitsConfig,
    ImageFolderConfig,
    ImagenetConfig,
    MnistConfig,
)
from bnnsearch.core.data.dataset import Dataset, ImageSet, channel_statistics, hold_out
from bnnsearch.core.data.folder import read_image_folder
from bnnsearch.core.data.imagenet import load_imagenet
from bnnsearch.core.data.sources import read_cifar, read_digits, read_mnist


def load_data(config: DataConfig, *, device: torch.device | str = "cpu") -> Dataset:
    """The data set `config` names; a second call in this process for the same images answers from memory.

    Args:
        config: which data set, where, and how it is split. `batch_size` and `augment` make no difference here.
        device: where the images are kept.

    Raises:
        DataError: a file is missing, short or corrupt.
    """
    return _loaded(config.model_copy(update={"batch_size": 1, "augment": ()}), torch.device(device))


def check_data(config: DataConfig) -> None:
    """Find, before anything trains, whether `load_data` would succeed; nothing is kept in memory.

    A folder of images is decoded by it, so that the workers to come only read the result.

    Raises:
        DataError: a file is missing, short or corrupt.
    """
    _load(config, torch.device("cpu"))


@lru_cache(maxsize=2)  # a reused worker meets the same images in every trial
def _loaded(config: DataConfig, device: torch.device) -> Dataset:
    return _load(config, device)


def _load(config: DataConfig, device: torch.device) -> Dataset:
    if isinstance(config, ImagenetConfig):
        return load_imagenet(config, device)
    read = _read(config)
    train, test = read.train, read.test
    kept, held = hold_out(
        train.labels, fraction=config.val_fraction, seed=config.seed, limit=config.train_limit, names=read.names
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
        names=read.names,
    )


def known_shape(config: DataConfig) -> tuple[tuple[int, int, int], int] | None:
    """Shape (C, H, W) of the images and number of classes, without looking; None where only the files tell."""
    match config:
        case DigitsConfig():
            return (1, 8, 8), 10
        case MnistConfig():
            return (1, 28, 28), 10
        case Cifar10Config():
            return (3, 32, 32), 10
        case Cifar100Config():
            return (3, 32, 32), 100
        case ImagenetConfig():
            return (3, config.image_size, config.image_size), 1000
        case ImageFolderConfig():
            return None
        case _:
            assert_never(config)


def _read(
    config: DigitsConfig | MnistConfig | Cifar10Config | Cifar100Config | ImageFolderConfig,
) -> ImageSet:
    match config:
        case DigitsConfig():
            return read_digits(config.test_fraction)
        case MnistConfig():
            return read_mnist(Path(config.root), download=config.download)
        case Cifar10Config():
            from torchvision.datasets import CIFAR10

            return read_cifar(Path(config.root), CIFAR10, download=config.download)
        case Cifar100Config():
            from torchvision.datasets import CIFAR100

            return read_cifar(Path(config.root), CIFAR100, download=config.download)
        case ImageFolderConfig():
            return read_image_folder(config)
        case _:
            assert_never(config)
