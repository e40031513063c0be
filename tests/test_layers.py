"""Layers of a binary network: what they compute and what they learn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from bnnsearch.core.binarize import AlphaGradient, sign
from bnnsearch.core.layers import (
    BinaryConv2d,
    BinaryLinear,
    RPReLU,
    RSign,
    Scale,
    ShiftedHardtanh,
    Sign,
    binary_layers,
)
from bnnsearch.core.models.blocks import InputScaled
from bnnsearch.core.wide import MeanMagnitude, WindowMean

SCALES: tuple[Scale, ...] = ("none", "xnor", "learned")


def signs(*shape: int, seed: int = 0) -> Tensor:
    return sign(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def test_convolution_counts_agreements_and_pads_with_zeros() -> None:
    layer = BinaryConv2d(1, 1, 3, padding=1)
    layer.weight.data = torch.tensor([[[[0.3, -0.2, 0.1], [0.0, 0.7, -0.4], [0.9, -0.1, 0.2]]]])
    output = layer(torch.ones(1, 1, 3, 3))
    # signs (+ - +, + + -, + - +): 6 - 3 in the centre; the corner keeps the lower right (+ -, - +), padding counts 0
    assert output[0, 0, 1, 1] == 3
    assert output[0, 0, 0, 0] == 0
    assert output[0, 0, 0, 1] == 2  # rows (+ + -, + - +) of the kernel


def test_linear_is_a_signed_sum() -> None:
    layer = BinaryLinear(3, 2)
    layer.weight.data = torch.tensor([[0.1, -5.0, 0.0], [-1.0, -1.0, -1.0]])
    assert layer(torch.tensor([[1.0, 1.0, -1.0]])).tolist() == [[-1.0, -1.0]]


@pytest.mark.parametrize("scale", SCALES)
def test_training_and_evaluation_agree(scale: Scale) -> None:
    layer = BinaryConv2d(8, 4, 3, stride=2, padding=1, scale=scale)
    if layer.alpha is not None:
        layer.alpha.data.uniform_(0.5, 2)
    x = signs(2, 8, 9, 9)
    torch.testing.assert_close(layer.train()(x), layer.eval()(x))


def test_unscaled_outputs_are_integers_of_the_parity_of_the_inputs() -> None:
    output = BinaryConv2d(16, 8, 3)(signs(2, 16, 6, 6))
    assert torch.equal(output, output.round())
    assert torch.equal(output % 2, torch.zeros_like(output))  # 144 terms of +-1


def test_xnor_scale_multiplies_by_the_mean_magnitude() -> None:
    layer = BinaryLinear(4, 1, scale="xnor").eval()
    layer.weight.data = torch.tensor([[0.5, -0.25, 0.25, -1.0]])
    assert layer(torch.tensor([[1.0, -1.0, 1.0, 1.0]])).item() == pytest.approx(0.5 * 2)


@pytest.mark.parametrize("scale", SCALES)
def test_weight_gradient_is_that_of_the_binary_weight(scale: Scale) -> None:
    """Of the scaled one, where alpha is the mean magnitude: it passes on as it is."""
    layer = BinaryConv2d(3, 2, 3, scale=scale)
    x = signs(4, 3, 5, 5)
    layer(x).square().sum().backward()
    alpha = layer.weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True) if scale == "xnor" else torch.ones(2, 1, 1, 1)
    binary = (sign(layer.weight.detach()) * alpha).requires_grad_()
    conv2d(x, binary).square().sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, binary.grad)


def test_the_view_decides_what_the_forward_pass_uses() -> None:
    layer = BinaryLinear(2, 1)
    layer.weight.data = torch.tensor([[0.5, -0.25]])
    layer.view = lambda weight: weight
    assert layer(torch.tensor([[1.0, 1.0]])).item() == 0.25


def test_binary_layers_are_found_by_name() -> None:
    inner = nn.Sequential(BinaryLinear(4, 4), nn.Linear(4, 4))
    model = nn.Sequential(nn.Conv2d(1, 4, 1), BinaryConv2d(4, 4, 1), inner)
    assert list(binary_layers(model)) == ["1", "2.0"]
    assert binary_layers(model)["2.0"] is inner[0]


def test_sign_is_shifted() -> None:
    x = torch.tensor([[0.2, 0.3, 0.5]], requires_grad=True)
    output = Sign(0.3, "ste")(x)
    assert output.tolist() == [[-1, 1, 1]]


def test_standardised_sign_changes_the_gradient_only() -> None:
    x = 10 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    plain, standardised = (x.clone().requires_grad_() for _ in range(2))
    Sign(gradient="polynomial")(plain).sum().backward()
    output = Sign(gradient="polynomial", standardise=True)(standardised)
    output.sum().backward()
    assert torch.equal(output, sign(x))
    assert plain.grad is not None and standardised.grad is not None
    assert (standardised.grad != 0).float().mean() > 5 * (plain.grad != 0).float().mean()


def test_rsign_learns_a_threshold_per_channel() -> None:
    layer = RSign(2, "ste")
    layer.bias.data = torch.tensor([0.5, -0.5])
    output = layer(torch.zeros(3, 2, 4, 4))
    assert output[:, 0].eq(1).all() and output[:, 1].eq(-1).all()
    output.sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad.tolist() == [48, 48]
    assert layer(torch.zeros(3, 2)).shape == (3, 2)


def test_rprelu_at_the_reference_points() -> None:
    layer = RPReLU(1)
    layer.centre.data.fill_(0.5)
    layer.out.data.fill_(0.1)
    torch.testing.assert_close(layer(torch.tensor([[0.3], [0.9]])), torch.tensor([[0.05], [0.5]]))


def test_hardtanh_is_shifted_to_the_right() -> None:
    assert ShiftedHardtanh(0.5)(torch.tensor([-0.5, 0.5, 1.0, 9.0])).tolist() == [-1, 0, 0.5, 1]


@pytest.mark.parametrize(("gradient", "factor"), [("detached", 1.0), ("scaled", 0.25), ("xnor", 0.75)])
def test_layers_pass_gradients_through_the_mean_magnitude_as_asked(gradient: AlphaGradient, factor: float) -> None:
    """Two weights of magnitude .25: the gradient is the input times 1, alpha, or 1/2 + alpha."""
    linear = BinaryLinear(2, 1, scale="xnor", alpha_gradient=gradient)
    convolution = BinaryConv2d(2, 1, 1, scale="xnor", alpha_gradient=gradient)
    x = torch.tensor([1.0, -1.0])
    for layer, signs in ((linear, x.view(1, 2)), (convolution, x.view(1, 2, 1, 1))):
        nn.init.constant_(layer.weight, 0.25)
        out = layer(signs)
        out.sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.flatten().tolist() == [factor, -factor]


def test_the_scale_of_inputs_follows_the_paper() -> None:
    """XNOR-Net, eq. 10: conv(x, w) ~ (sign x * sign w) K alpha; here exact, |x| and |w| being equal everywhere."""
    layer = BinaryConv2d(2, 3, 3, padding=1, scale="xnor")
    nn.init.constant_(layer.weight, -0.25)
    x = 1.5 * signs(2, 2, 5, 5)
    scaled = InputScaled({"sign": Sign(), "conv": layer}, nn.Sequential(MeanMagnitude(2), WindowMean(3, 1, 0)))
    inside = conv2d(x, layer.weight)
    layer.padding = 0
    torch.testing.assert_close(scaled(x), inside)
    layer.padding, corner = 1, nn.Sequential(MeanMagnitude(2), WindowMean(3, 1, 1))(x)[0, 0, 0, 0]
    assert corner.item() == pytest.approx(1.5 * 4 / 9)  # zeros outside count


def test_a_pool_after_a_learned_scale_sees_equal_sums_as_equal() -> None:
    """So that of equal ones it passes the gradient to the first, as in the code of ReCU."""
    pooled, plain = (BinaryConv2d(64, 2, 3, scale="learned", pooled=whole) for whole in (True, False))
    plain.load_state_dict(pooled.state_dict())
    x = signs(1, 64, 8, 8)
    for layer in (pooled, plain):
        nn.init.constant_(layer.alpha, 0.1)
    expected = conv2d(x, sign(pooled.weight)) * torch.tensor(0.1)
    assert torch.equal(pooled(x), expected)
    assert not torch.equal(plain(x), expected)
