"""Contracts of data sets and of augmentations."""

from __future__ import annotations

from itertools import islice
from math import isfinite

import torch
from torch import Tensor

from bnnsearch.config.data import AugmentationSettings, DataSettings
from bnnsearch.core.augment import Draw
from bnnsearch.core.data import Dataset, Split, eval_batches, train_batches
from bnnsearch.testing.rules import Rules


def check_data(settings: DataSettings) -> None:
    """A data set has three splits of images and labels, of the shape and classes it says, the same on every reading.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("data", settings, DataSettings)
    with rules.doing("load"):
        data, again = settings.load(torch.device("cpu")), settings.load(torch.device("cpu"))
    rules.hold(isinstance(data, Dataset), "load must give a Dataset", type(data))
    if settings.known is not None:
        rules.hold(
            settings.known == (data.shape, data.classes),
            f"known says {settings.known}, which must be what is read",
            (data.shape, data.classes),
        )
        rules.hold(settings.colours == data.shape[0], "colours must be the channels that are read", settings.colours)
    rules.hold(data.classes >= 2, "there must be 2 classes or more", data.classes)
    for name in ("mean", "std"):
        values = getattr(data, name)
        fits = len(values) == data.shape[0] and all(map(isfinite, values))
        rules.hold(fits, f"{name} must have a finite number for each of {data.shape[0]} channels", values)
    rules.hold(min(data.std) > 0, "std must be above 0", data.std)
    for name, split in (("train", data.train), ("val", data.val), ("test", data.test)):
        _check_split(rules, name, data)
        other = getattr(again, name)
        same = len(other) == len(split) and torch.equal(other.labels, split.labels)
        if isinstance(split, Split):
            same = same and torch.equal(other.images, split.images)
        rules.hold(same, f"{name} must be the same when it is read again")
    for name, split in (("train", data.train), ("val", data.val)):
        missing = sorted(set(range(data.classes)) - set(split.labels.tolist()))
        rules.hold(not missing, f"{name} must have every class", f"none of class {missing[:1]}")
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 3)]
    drawn = [
        next(train_batches(data.train, batch_size=8, augment=settings.augment, generator=each)) for each in generators
    ]
    rules.hold(
        all(torch.equal(one, other) for one, other in zip(*drawn, strict=True)),
        "the seed must decide the batches to learn from",
    )


def _check_split(rules: Rules, name: str, data: Dataset) -> None:
    split = getattr(data, name)
    labels: Tensor = split.labels
    rules.hold(len(split) > 0, f"{name} must have images")
    fits = labels.dtype == torch.int64 and labels.shape == (len(split),)
    rules.hold(fits, f"labels of {name} must be int64 ({len(split)},)", (labels.dtype, tuple(labels.shape)))
    inside = 0 <= int(labels.min()) <= int(labels.max()) < data.classes
    rules.hold(inside, f"labels of {name} must lie in [0, {data.classes})", (int(labels.min()), int(labels.max())))
    if isinstance(split, Split):
        found = split.images.dtype, tuple(split.images.shape)
        expected = torch.uint8, (len(split), *data.shape)
        rules.hold(found == expected, f"images of {name} must be uint8 {expected[1]}", found)
    with rules.doing(f"the images of {name}"):
        batches = list(islice(eval_batches(split, batch_size=5), 2))
    for images, _ in batches:
        rules.hold(images.shape[1:] == data.shape, f"images of {name} must be {data.shape}", tuple(images.shape[1:]))
        rules.hold(bool(images.isfinite().all()), f"images of {name} must be finite")
    seen = torch.cat([told for _, told in batches])
    rules.hold(torch.equal(seen, labels[: len(seen)]), f"images of {name} must come in the order of their labels")


def check_augmentation(settings: AugmentationSettings, *, shape: tuple[int, int, int] = (3, 12, 10)) -> None:
    """An augmentation makes images of images, whose shape, type and number stay, by the generator's seed alone.

    Args:
        settings: its settings.
        shape: of the images that it is tried on, (C, H, W).

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("augmentation", settings, AugmentationSettings)
    for count in (1, 6):
        images = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
        before, outcomes = images.clone(), []
        for _ in range(2):
            generator = torch.Generator().manual_seed(2)
            draw = Draw(torch.arange(count), 1, (0.5,) * shape[0], generator)
            with rules.doing("apply"):
                outcomes.append(settings.apply(images, draw))
        rules.hold(torch.equal(images, before), "the images that it is given must be left as they are")
        made = outcomes[0]
        expected = torch.uint8, (count, *shape)
        rules.hold(isinstance(made, Tensor), "it must give a tensor", type(made))
        found = made.dtype, tuple(made.shape)
        rules.hold(found == expected, f"it must give images, uint8 {expected[1]}", found)
        rules.hold(torch.equal(*outcomes), "all randomness must come from draw.generator")
