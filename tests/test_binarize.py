"""Sign, its derivatives and the weight transforms, against hand-derived numbers and their algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bnnsearch.core.binarize import (
    AlphaGradient,
    Gradient,
    binarise,
    filter_mean_magnitude,
    quantile_bounds,
    rectified_clamp,
    scale_by_mean_magnitude,
    sign,
    standardise,
)

GRADIENTS: tuple[Gradient, ...] = ("identity", "ste", "polynomial")
vectors = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=20).map(torch.tensor)


def gradient_of(output: Tensor, at: Tensor, upstream: Tensor | None = None) -> Tensor:
    return torch.autograd.grad(output, at, torch.ones_like(output) if upstream is None else upstream)[0]


def test_sign_of_zero_is_plus_one() -> None:
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 1e-30])).tolist() == [-1, 1, 1, 1]


@given(vectors)
def test_sign_is_plus_or_minus_one_and_idempotent(x: Tensor) -> None:
    signs = sign(x)
    assert set(signs.tolist()) <= {-1.0, 1.0}
    assert torch.equal(sign(signs), signs)
    assert torch.equal(signs * x, x.abs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept_forward_and_backward(dtype: torch.dtype) -> None:
    for gradient in GRADIENTS:
        x = torch.tensor([0.5, -0.5], dtype=dtype, requires_grad=True)
        output = binarise(x, gradient)
        assert output.dtype is dtype
        assert gradient_of(output, x).dtype is dtype


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [("identity", [1, 1, 1, 1, 1]), ("ste", [0, 1, 1, 1, 0]), ("polynomial", [0, 1, 1.6, 0, 0])],
)
def test_derivatives_at_the_reference_points(gradient: Gradient, expected: list[float]) -> None:
    x = torch.tensor([-1.5, -0.5, 0.2, 1.0, 1.2], requires_grad=True)
    torch.testing.assert_close(gradient_of(binarise(x, gradient), x), torch.tensor(expected, dtype=torch.float32))


@given(vectors, st.sampled_from(GRADIENTS))
def test_backward_is_linear_in_the_upstream_gradient(x: Tensor, gradient: Gradient) -> None:
    x.requires_grad_()
    once, thrice = (gradient_of(binarise(x, gradient), x, torch.full_like(x, factor)) for factor in (1.0, 3.0))
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("gradient", ["ste", "polynomial"])
def test_derivatives_integrate_to_the_height_of_the_step(gradient: Gradient) -> None:
    grid = torch.linspace(-2, 2, 40_001, requires_grad=True)
    derivative = gradient_of(binarise(grid, gradient), grid)
    assert torch.trapezoid(derivative, grid.detach()).item() == pytest.approx(2, abs=1e-3)


def test_xnor_scale_and_its_error() -> None:
    weight = torch.tensor([[0.5, -0.25, 0.25, -1.0]])
    alpha = filter_mean_magnitude(weight)
    assert alpha.tolist() == [[0.5]]
    assert (weight - alpha * sign(weight)).square().sum().item() == pytest.approx(0.375)


def test_xnor_scale_is_the_best_one() -> None:
    weight = torch.randn(1, 30, generator=torch.Generator().manual_seed(0))
    errors = [
        (weight - factor * filter_mean_magnitude(weight) * sign(weight)).square().sum() for factor in (0.9, 1.0, 1.1)
    ]
    assert errors[1] < min(errors[0], errors[2])


RECU_WEIGHT = [0.1, -0.2, 0.3, 0.4]


def test_standardised_weights_of_the_reference_filter() -> None:
    expected = torch.tensor([[-0.5345, -3.7414, 1.6035, 2.6724]])
    torch.testing.assert_close(standardise(torch.tensor([RECU_WEIGHT])), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("tau", "bound"), [(0.85, 2.57402), (0.99, 8.36366)])
def test_laplace_bounds_of_the_reference_filter(tau: float, bound: float) -> None:
    low, high = quantile_bounds(standardise(torch.tensor([RECU_WEIGHT])), torch.tensor(tau), "laplace")
    assert (low.item(), high.item()) == (pytest.approx(-bound, abs=2e-5), pytest.approx(bound, abs=2e-5))


def test_empirical_bounds_are_order_statistics() -> None:
    low, high = quantile_bounds(torch.arange(11.0), torch.tensor(0.9), "empirical")
    assert (low.item(), high.item()) == (pytest.approx(1), pytest.approx(9))


def test_recu_gradient_of_the_reference_filter() -> None:
    weight = torch.tensor([RECU_WEIGHT], requires_grad=True)
    output = binarise(rectified_clamp(weight, torch.tensor(0.85)), "identity")
    assert output.tolist() == [[-1, -1, 1, 1]]
    expected = torch.tensor([[1.0179, -3.5642, 18.3256, -15.7793]])
    actual = gradient_of(output, weight, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@given(st.integers(0, 1000), st.floats(0.51, 0.999))
def test_tau_changes_gradients_only(seed: int, tau: float) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    signs = sign(rectified_clamp(weight, torch.tensor(tau)))
    assert torch.equal(signs, sign(weight - weight.mean(dim=(1, 2, 3), keepdim=True)))


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-2, 2))
def test_standardising_forgets_scale_and_offset_of_a_filter(seed: int, scale: float, offset: float) -> None:
    weight = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(standardise(scale * weight + offset), standardise(weight), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_standardised_derivative_is_that_of_autograd(gradient: Gradient, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.1, 1, 3, 10], dtype=torch.float64).view(4, 1, 1, 1)
    x = (torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=generator) * spread + 0.7).to(memory_format=layout)
    x.requires_grad_()
    upstream = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=generator)
    composed = binarise(x * (x.var(dim=(1, 2, 3), keepdim=True) + 1e-5).rsqrt(), gradient)
    fused = binarise(x, gradient, standardised=True)
    assert torch.equal(fused, composed)
    torch.testing.assert_close(gradient_of(fused, x, upstream), gradient_of(composed, x, upstream))


def test_gradient_of_standardise_is_the_numerical_one() -> None:
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(standardise, weight.requires_grad_())


def scaled_gradient(weight: Tensor, upstream: Tensor, gradient: AlphaGradient) -> Tensor:
    """What upstream gradients at alpha sign(w) give w."""
    weight = weight.clone().requires_grad_()
    (scale_by_mean_magnitude(binarise(weight, "identity"), weight, gradient) * upstream).sum().backward()
    assert weight.grad is not None
    return weight.grad


def test_gradient_through_the_mean_magnitude_by_hand() -> None:
    """w = (.5, -.25, .25, -1), alpha = .5; and a filter that reaches beyond 1: w = (2, -1, 0, -1), alpha = 1."""
    weight = torch.tensor([[0.5, -0.25, 0.25, -1.0], [2.0, -1.0, 0.0, -1.0]])
    upstream = torch.tensor([[1.0, -2.0, 4.0, 8.0], [1.0, -2.0, 4.0, 8.0]])
    assert scale_by_mean_magnitude(binarise(weight, "identity"), weight, "detached").tolist() == [
        [0.5, -0.5, 0.5, -0.5], [1.0, -1.0, 1.0, -1.0],
    ]  # fmt: skip
    assert torch.equal(scaled_gradient(weight, upstream, "detached"), upstream)
    assert torch.equal(scaled_gradient(weight, upstream, "scaled"), upstream * torch.tensor([[0.5], [1.0]]))
    # g (1/4 + .5) everywhere in the first filter; in the second g / 4 where |w| > 1, else g (1/4 + 1)
    expected = torch.tensor([[0.75, -1.5, 3.0, 6.0], [0.25, -2.5, 5.0, 10.0]])
    assert torch.equal(scaled_gradient(weight, upstream, "xnor"), expected)
