"""Wide layers: plain ones in training; in evaluation their sums are rounded once, whatever the order."""

from __future__ import annotations

import torch

from bnnsearch.core.wide import WideConv2d, WideMean, WideSigmoid


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
