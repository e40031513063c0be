"""Chains of convolutions without shortcuts: the small CNN, VGG-small and XNOR-Net."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn

from bnnsearch.config.model import PlainSettings, XnornetConfig
from bnnsearch.core.integers import LARGEST, Int8Conv2d, IntegerLogits, PixelSum, Quantise
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, Sign
from bnnsearch.core.models.blocks import InputScaled, make_activation, make_sign, named, scaled
from bnnsearch.core.wide import MeanMagnitude, WideMean, WindowMean


def build_plain(config: PlainSettings, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W), signals having height 1: logits (N, classes).

    Every layer is sign, convolution, pooling, norm, activation, with norm after pooling as in the references. The first
    layer has no sign.

    Raises:
        ValueError: the images are too small for that many poolings, or no signals where these are needed.
    """
    config.check_shape(shape)
    width, height, breadth = shape
    kernel, pool = config.windows
    padding = kernel[0] // 2, kernel[1] // 2
    parts: dict[str, nn.Module] = {}
    for number, channels in enumerate(config.channels, start=1):
        out = scaled(channels, config.width)
        layer: dict[str, nn.Module] = {}
        if number > 1:
            layer["sign"] = make_sign(config, width)
        elif config.first != "real":
            layer["quantise"] = Quantise()
        match config.first if number == 1 else "binary":
            case "real":
                layer["conv"] = nn.Conv2d(width, out, kernel, padding=padding, bias=False)
            case "int8":
                layer["conv"] = Int8Conv2d(width, out, kernel, padding)
            case "binary":
                layer["conv"] = BinaryConv2d(
                    width, out, kernel, padding=padding,
                    scale=config.scale, alpha_gradient=config.alpha_gradient, pooled=number in config.pool_after,
                )  # fmt: skip
        if number in config.pool_after:
            layer["pool"] = nn.MaxPool2d(pool)
            height, breadth = height // pool[0], breadth // pool[1]
        layer["norm"] = nn.BatchNorm2d(out)
        layer["act"] = make_activation(config, out)
        parts[f"layer{number}"] = named(layer)
        width = out
    if min(height, breadth) < 1:
        raise ValueError(
            f"every max-pool leaves one of {pool[0]}x{pool[1]} pixels, but pool_after {config.pool_after} has too many "
            f"for {shape[1]}x{shape[2]} pixels"
        )
    return named(parts | _classifier(config, (width, height, breadth), classes))


def _classifier(config: PlainSettings, shape: tuple[int, int, int], classes: int) -> dict[str, nn.Module]:
    """From the last map, of `shape` (C, H, W), to the logits.

    Binary and int8 classifiers are convolutions whose kernel is the map, or, of means, a pixel. The mean is a sum, for
    a scale follows; of binary weights it is taken after them, where it adds up counts of bits.
    """
    channels, height, breadth = shape
    mean = config.head == "mean"
    if config.classifier == "real":
        features = channels if mean else math.prod(shape)
        means: dict[str, nn.Module] = {"mean": WideMean()} if mean else {}
        return means | {"flatten": nn.Flatten(), "classifier": nn.Linear(features, classes)}
    kernel, pixels = ((1, 1), height * breadth) if mean else ((height, breadth), 1)
    layer: dict[str, nn.Module] = {"sign": make_sign(config, channels)}
    if config.classifier == "int8":
        layer |= {"sum": PixelSum()} if mean else {}
        layer["conv"] = Int8Conv2d(channels, classes, kernel)
        weight = LARGEST / math.sqrt(3)  # root mean square, for they are drawn uniformly up to the largest
    else:
        layer["conv"] = BinaryConv2d(channels, classes, kernel)
        layer |= {"sum": PixelSum()} if mean else {}
        weight = 1.0
    typical = pixels * weight * math.sqrt(channels * math.prod(kernel))
    layer["logits"] = IntegerLogits(classes, typical)
    return {"classifier": named(layer), "flatten": nn.Flatten()}


def build_xnornet(config: XnornetConfig, shape: tuple[int, int, int], classes: int) -> nn.Sequential:
    """The network for images of `shape` (C, H, W): logits (N, classes).

    Every binary layer is norm, sign, convolution (or linear), ReLU, pooling: the order XNOR-Net proposes.

    Raises:
        ValueError: the images are too small for its three poolings.
    """
    channels = [scaled(width, config.width) for width in config.channels]
    conv, pool = _STEMS[config.stem]
    stem: dict[str, nn.Module] = {
        "conv": nn.Conv2d(shape[0], channels[0], conv.kernel, conv.stride, conv.padding, bias=False),
        "norm": nn.BatchNorm2d(channels[0]),
        "act": nn.ReLU(),
        "pool": nn.MaxPool2d(pool.kernel, pool.stride),
    }
    parts: dict[str, nn.Module] = {"layer1": named(stem)}
    for number, kernel in enumerate((5, 3, 3, 3), start=2):
        layer = _norm_sign_conv(config, channels[number - 2], channels[number - 1], kernel=kernel)
        if number in (2, 5):
            layer["pool"] = nn.MaxPool2d(pool.kernel, pool.stride)
        parts[f"layer{number}"] = named(layer)
    parts["flatten"] = nn.Flatten()
    height, breadth = (pool(pool(pool(conv(side)))) for side in shape[1:])
    if min(height, breadth) < 1:
        raise ValueError(f"XNOR-Net with stem {config.stem} needs larger images than {shape[1]}x{shape[2]}")
    features = channels[-1] * height * breadth
    for number, width in enumerate(config.hidden, start=6):
        out = scaled(width, config.width)
        parts[f"layer{number}"] = named(_norm_sign_linear(config, features, out))
        features = out
    parts["classifier_norm"] = nn.BatchNorm1d(features)
    parts["dropout"] = nn.Dropout(config.dropout)
    parts["classifier"] = nn.Linear(features, classes)
    return named(parts)


class _Window(NamedTuple):
    """A convolution's or pooling's window; called with the side of an image, it gives the side of its output."""

    kernel: int
    stride: int
    padding: int = 0

    def __call__(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel) // self.stride + 1


_STEMS = {"imagenet": (_Window(11, 4, 2), _Window(3, 2)), "small": (_Window(3, 1, 1), _Window(2, 2))}


def _norm_sign_conv(config: XnornetConfig, width: int, out: int, *, kernel: int) -> dict[str, nn.Module]:
    padding = kernel // 2
    binary: dict[str, nn.Module] = {
        "sign": Sign(0.0, config.sign_gradient, standardise=config.standardise),
        "conv": BinaryConv2d(
            width, out, kernel, padding=padding, scale=config.scale, alpha_gradient=config.alpha_gradient
        ),
    }
    if config.activation_scale:
        binary = {"scaled": InputScaled(binary, nn.Sequential(MeanMagnitude(width), WindowMean(kernel, 1, padding)))}
    return {"norm": nn.BatchNorm2d(width), **binary, "act": nn.ReLU()}


def _norm_sign_linear(config: XnornetConfig, width: int, out: int) -> dict[str, nn.Module]:
    binary: dict[str, nn.Module] = {
        "sign": Sign(0.0, config.sign_gradient, standardise=config.standardise),
        "dropout": nn.Dropout(config.dropout),
        "linear": BinaryLinear(width, out, scale=config.scale, alpha_gradient=config.alpha_gradient),
    }
    if config.activation_scale:
        binary = {"scaled": InputScaled(binary, MeanMagnitude(width))}
    return {"norm": nn.BatchNorm1d(width), **binary, "act": nn.ReLU()}
