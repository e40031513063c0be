"""Images per second of binary training: this package, a textbook loop, and the same network without binarisation.

    uv run python benchmarks/train_throughput.py [--quick] [--json FILE] [--threads N] [--compile]

All sides train the ReCU recipe's network at batch 128 on 32x32 images, cropped and flipped; the sides take turns in one
process with the same threads, and only training steps are timed, data included. The sides:

- ours: the package's training loop, in the arithmetic that `dtype: auto` takes here and, where that is bfloat16, in
  float32.
- textbook: the loop of published reference code: every image transformed by itself as a PIL image, float32, sign and
  ReCU composed of elementary operations. It computes the same network, which is checked before it is timed.
- real: the network with real weights and activations in the same arithmetic, by the package's loop.

Pixels are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from figures import Target, processor, show_targets, write_figures
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2 as transforms

from bnnsearch import native
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.arithmetic import takes_bfloat16
from bnnsearch.core.data import Dataset, Split
from bnnsearch.core.layers import BinaryConv2d, Sign, binary_layers
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import real_twin

BATCH, SHAPE, CLASSES, TAU = 128, (3, 32, 32), 10, 0.85
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
TARGETS = {  # arithmetic: network: side: how many times as fast as it
    "bfloat16": {
        "resnet20": {"textbook, float32": 3.0, "real, bfloat16": 0.8},
        "resnet18": {"textbook, float32": 3.5, "real, bfloat16": 0.7},
    },
    "float32": {"resnet20": {"textbook, float32": 2.5}, "resnet18": {"textbook, float32": 2.0}},
}
Side = Iterator[float]
Dtype = Literal["float32", "bfloat16"]


def random_data(images: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
        return Split(pixels, torch.randint(0, CLASSES, (count,), generator=generator), MEAN, STD)

    return Dataset(split(images), split(BATCH), split(BATCH), CLASSES, SHAPE)


def recipe(network: str, dtype: Dtype, *, binary: bool, compiled: bool) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"name": "cifar10", "batch_size": BATCH, "augment": ["crop", "flip"]},
            "model": {"name": network, "scale": "learned", "standardise": True},
            "method": {"name": "ste", "clip": False},
            "recu": {"tau": [TAU, 0.99]} if binary else None,
            "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "binary_weight_decay": 5e-4},
            "plan": {"epochs": 1000, "dtype": dtype, "compile": compiled, "bn_batches": 1},
            "seed": 0,
        }
    )


def package_side(trainer: GradientTrainer) -> Side:
    """Images per second of one pass after another."""
    for epoch in trainer.fit():
        yield epoch.values["images_per_s"]


class TextbookSign(torch.autograd.Function):
    """Sign of activations with the polynomial derivative, as published code has it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sign()  # 0 stays 0 in published code

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (2 - torch.abs(2 * x)).clamp(min=0) * grads[0].clone()


class TextbookWeightSign(torch.autograd.Function):
    """Sign of weights, the gradient passed on."""

    @staticmethod
    def forward(_: Any, weight: Tensor) -> Tensor:
        return weight.sign()

    @staticmethod
    def backward(_: Any, *grads: Tensor) -> Tensor:
        return grads[0].clone()


class TextbookConv2d(nn.Conv2d):
    """Binary convolution composed of elementary operations: ReCU, both signs, convolution, scale."""

    def __init__(self, layer: BinaryConv2d) -> None:
        super().__init__(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False
        )
        self.weight.data.copy_(layer.weight.data)
        assert layer.alpha is not None
        self.alpha = nn.Parameter(layer.alpha.detach().clone().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        filters = (1, 2, 3)
        centred = self.weight - self.weight.mean(filters, keepdim=True)
        deviation = torch.sqrt(centred.var(filters, keepdim=True) + 1e-5) / 2 / math.sqrt(2)
        standardised = centred / deviation
        bound = (-standardised.abs().mean() * math.log(2 - 2 * TAU)).item()
        binary = TextbookWeightSign.apply(standardised.clamp(-bound, bound))
        if self.training:
            x = x / torch.sqrt(x.var(filters, keepdim=True) + 1e-5)
        return nn.functional.conv2d(TextbookSign.apply(x), binary, None, self.stride, self.padding) * self.alpha


def textbook_network(network: nn.Sequential) -> nn.Sequential:
    """A copy of `network` with textbook convolutions, which binarise their inputs themselves."""
    textbook = deepcopy(network)
    for name, layer in binary_layers(textbook).items():
        parent = textbook.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, BinaryConv2d)
        assert isinstance(parent.sign, Sign)
        parent.sign, parent.conv = nn.Identity(), TextbookConv2d(layer)
    return textbook


class PilImages(TensorDataset):
    """Images by index, each transformed by itself."""

    def __init__(self, split: Split) -> None:
        super().__init__(split.images, split.labels)
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.PILToTensor(),
                transforms.ToDtype(torch.float32, scale=True),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = super().__getitem__(index)
        return self.transform(image), label


def textbook_side(network: nn.Sequential, data: Split) -> Side:
    """Images per second of one pass after another."""
    loader = DataLoader(PilImages(data), batch_size=BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    network.train()
    while True:
        start = time.perf_counter()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        yield len(loader) * BATCH / (time.perf_counter() - start)


def check_same(network: nn.Sequential, trainer: GradientTrainer, data: Split) -> None:
    """The textbook network must compute what ours does, or the comparison means nothing.

    In float64, for a sum that rounds to the other side of 0 flips a sign, and the layers after it take other ways. With
    norms moved off 0, where a sum of signs that is its channel's mean would have the sign 0 in published code.
    """
    images = data.images[:16].double() / 128 - 1
    with torch.no_grad():
        ours, textbook = (_moved(model).train()(images) for model in (trainer.network, network))
    torch.testing.assert_close(ours, textbook)


def _moved(model: nn.Module) -> nn.Module:
    """A copy in float64 whose norms have some bias."""
    moved = deepcopy(model).double()
    generator = torch.Generator().manual_seed(0)
    for module in moved.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.bias.normal_(std=0.1, generator=generator)
    return moved


def chosen() -> Dtype:
    """The arithmetic that `dtype: auto` takes on this processor."""
    return "bfloat16" if takes_bfloat16("auto", torch.device("cpu")) else "float32"


def sides_of(name: str, data: Dataset, *, compiled: bool) -> dict[str, Side]:
    torch.manual_seed(0)
    network = build_model(recipe(name, "float32", binary=True, compiled=False).model, shape=SHAPE, classes=CLASSES)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)  # no exact zeros, of which published code makes 0 and we make +1
    assert isinstance(data.train, Split)

    def trainer(dtype: Dtype, model: nn.Sequential, *, binary: bool = True) -> GradientTrainer:
        config = recipe(name, dtype, binary=binary, compiled=compiled)
        return GradientTrainer(config, data=data, model=model)

    ours, textbook = trainer("float32", deepcopy(network)), textbook_network(network)
    check_same(textbook, ours, data.train)
    sides = {} if chosen() == "float32" else {"ours, bfloat16": package_side(trainer("bfloat16", deepcopy(network)))}
    return sides | {
        "ours, float32": package_side(ours),
        "textbook, float32": textbook_side(textbook, data.train),
        f"real, {chosen()}": package_side(trainer(chosen(), real_twin(network), binary=False)),
    }


def measure(name: str, data: Dataset, *, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """Images per second of every side, the sides in turn, the first round not counted."""
    sides = sides_of(name, data, compiled=compiled)
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds + 1):
        for side, passes in sides.items():
            rate = next(passes)
            if turn > 0:
                rates[side].append(rate)
                print(f"  {name}, round {turn}: {side:20}{rate:9.1f} images/s", flush=True)
    ours = rates[f"ours, {chosen()}"]
    return [
        {
            "network": name,
            "side": side,
            "images_per_s": median(own),
            "lowest": min(own),
            "highest": max(own),
            "ours_over_it": median(mine / its for mine, its in zip(ours, own, strict=True)),
        }
        for side, own in rates.items()
    ]


def targets_of(rows: list[dict[str, Any]]) -> list[Target]:
    ratio = {(row["network"], row["side"]): row["ours_over_it"] for row in rows}
    return [
        Target(f"{name}: ours, {chosen()} / {side}", ratio[name, side], target)
        for name, sides in TARGETS[chosen()].items()
        for side, target in sides.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file as well")
    parser.add_argument("--threads", type=int, default=1, help="threads of every side")
    parser.add_argument("--compile", action="store_true", help="compile the training steps of the package's sides")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name, steps in (("resnet20", 2 if options.quick else 10), ("resnet18", 1 if options.quick else 3)):
        rounds = 3 if options.quick else 7
        rows += measure(name, random_data(steps * BATCH), rounds=rounds, compiled=options.compile)
    print(f"\n{'network':10}{'side':20}{'images/s':>10}{'lowest':>10}{'highest':>10}{'ours / it':>12}")
    for row in rows:
        print(
            f"{row['network']:10}{row['side']:20}{row['images_per_s']:10.1f}{row['lowest']:10.1f}"
            f"{row['highest']:10.1f}{row['ours_over_it']:12.2f}"
        )
    targets = targets_of(rows)
    print(f"\nProcessor: {processor()}; instruction set: {native.chosen()}")
    show_targets(targets)
    write_figures(options.json, rows, targets, packages=["torch"], threads=options.threads, compiled=options.compile)


if __name__ == "__main__":
    main()
