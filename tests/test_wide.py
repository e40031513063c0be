"""Wide layers: plain ones in training; in evaluation their sums are rounded once, whatever the order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bnnsearch.core.wide import MeanMagnitude, WideConv2d, WideMean, WideSigmoid, WindowMean


def test_evaluation_rounds_once() -> None:
    """1 + 2^-24, 64 times 2^-24: one by one in float32 each vanishes, together they are 2^-18."""
    convolution = WideConv2d(65, 1, 1).eval()
    x = torch.full((1, 65, 1, 1), 2.0**-24)
    x[0, 0] = 1.0
    with torch.no_grad():
        convolution.weight.fill_(1.0)
        assert convolution(x).item() == 1.0 + 2.0**-18
        assert convolution(x.flip(1)).item() == 1.0 + 2.0**-18


def test_mean_divides_the_rounded_sum() -> None:
    x = torch.tensor([1.0, 2.0**-24, 2.0**-24]).view(1, 1, 1, 3)
    rounded = torch.tensor(1.0 + 2.0**-23)
    assert WideMean().eval()(x).item() == (rounded / 3).item()
    assert WideMean().eval()(x.flip(3)).item() == (rounded / 3).item()


def test_training_is_the_plain_layer() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5)
    convolution = WideConv2d(8, 4, 1)
    assert torch.equal(convolution(x), torch.nn.functional.conv2d(x, convolution.weight))
    assert torch.equal(WideMean()(x), x.mean((2, 3), keepdim=True))
    assert torch.equal(WideSigmoid()(x), torch.sigmoid(x))
    assert torch.allclose(WideSigmoid().eval()(x), torch.sigmoid(x))


@pytest.mark.parametrize("training", [True, False])
def test_mean_magnitudes_and_windows_by_hand(training: bool) -> None:
    """Two channels of 2x3; below a 3x3 kernel with stride 2 and padding 1, windows of columns 0 and 1, and 1 and 2."""
    x = torch.tensor([[[1.0, -2.0, 3.0], [-4.0, 5.0, 0.0]], [[3.0, 0.0, -1.0], [0.0, 1.0, 2.0]]])
    magnitudes = MeanMagnitude(2).train(training)(x[None])
    assert magnitudes.tolist() == [[[[2.0, 1.0, 2.0], [2.0, 3.0, 1.0]]]]
    means = WindowMean(3, 2, 1).train(training)(magnitudes)
    torch.testing.assert_close(means, torch.tensor([[[[8.0, 7.0]]]]) / 9)
    assert MeanMagnitude(4).train(training)(torch.tensor([[1.0, -3.0, 0.0, 2.0]])).tolist() == [[1.5]]


@pytest.mark.parametrize("training", [True, False])
def test_float64_stays_float64(training: bool) -> None:
    """A network in float64, beside a reference, loses nothing: sums of thirds, as precise as they can be."""
    convolution = WideConv2d(3, 3, 1).double()
    nn.init.ones_(convolution.weight)
    parts = nn.Sequential(convolution, WideMean(), MeanMagnitude(3), WindowMean(1, 1, 0), WideSigmoid()).train(training)
    out = parts(torch.full((1, 3, 2, 2), 1 / 3, dtype=torch.float64))
    assert out.dtype is torch.float64
    assert out.item() == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-15)
