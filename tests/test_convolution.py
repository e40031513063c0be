"""Convolutions of signs by counting and by looking up sums give what multiplying gives, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bnnsearch import native
from bnnsearch.core import convolution, kernels
from bnnsearch.core.convolution import conv2d
from bnnsearch.core.layers import BinaryConv2d

pytestmark = pytest.mark.skipif(not native.available(), reason="there is no library")


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where multiplying is the faster."""
    monkeypatch.setattr(convolution, "_PAYS", frozenset(native.variants()))


def signs(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(drawn < 0, -1.0, 1.0)


def outcomes(
    convolve: Callable[..., Tensor],
    x: Tensor,
    weight: Tensor,
    *,
    dtype: torch.dtype,
    stride: int,
    padding: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the gradients to images and weights that random ones to it give."""
    x, weight = (each.detach().to(dtype).requires_grad_() for each in (x, weight))
    out = convolve(x, weight, stride=stride, padding=padding)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return (out.detach(), *torch.autograd.grad(out, (x, weight), upstream))


def is_ours(out: Tensor) -> bool:
    return type(out.grad_fn).__name__ == "_SignConvolutionBackward"


sizes = st.integers(1, 14)


@given(
    images=st.integers(1, 5), channels=st.integers(1, 5), filters=st.integers(1, 5), height=sizes,
    width=st.integers(1, 40), rows=st.integers(1, 4), columns=st.integers(1, 4), stride=st.integers(1, 3),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)), relaxed=st.booleans(), last=st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_products_and_gradients_are_those_of_multiplying(  # noqa: PLR0917
    images: int, channels: int, filters: int, height: int, width: int, rows: int, columns: int, stride: int,
    padding: tuple[int, int], relaxed: bool, last: bool,
) -> None:  # fmt: skip
    padding = min(padding[0], rows), min(padding[1], columns)
    if height + 2 * padding[0] < rows or width + 2 * padding[1] < columns:
        return
    x = signs(images, 16 * channels, height, width).contiguous(
        memory_format=torch.channels_last if last else torch.contiguous_format
    )
    weight = signs(16 * filters, 16 * channels, rows, columns, seed=2)
    weight = weight * torch.rand(weight.shape if relaxed else (len(weight), 1, 1, 1))
    how = {"stride": stride, "padding": padding}
    assert is_ours(conv2d(x.requires_grad_(), weight, **how))
    ours = outcomes(conv2d, x, weight, dtype=torch.float32, **how)
    exact = outcomes(functional.conv2d, x, weight, dtype=torch.float64, **how)
    for got, wanted in zip(ours, exact, strict=True):
        assert got.shape == wanted.shape
        assert torch.allclose(got.double(), wanted, rtol=1e-5, atol=2e-6 * max(1.0, float(wanted.abs().max())))


@pytest.mark.parametrize("variant", native.variants() if native.available() else ())
def test_instruction_sets_and_threads_agree(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(name: str, threads: int) -> list[list[Tensor]]:
        for each in kernels.CONVOLUTION:
            monkeypatch.setattr(kernels, each, kernels.bind(name, each), raising=False)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return [
                list(outcomes(conv2d, signs(5, 48, side, side), signs(32, 48, 3, 3, seed=2) * 0.7, dtype=torch.float32,
                              stride=stride, padding=(1, 1)))
                for side, stride in ((32, 1), (17, 2), (4, 1))
            ]  # fmt: skip
        finally:
            torch.set_num_threads(before)

    for ours, theirs in zip(of(variant, 1), of("portable", 3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_weight_that_never_meets_an_image_has_no_gradient() -> None:
    """Not even rounding, which an optimizer that looks at directions alone would follow."""
    x, weight = signs(5, 16, 1, 29), signs(16, 16, 3, 3, seed=2)
    _, _, to_weight = outcomes(conv2d, x, weight, dtype=torch.float32, stride=1, padding=(1, 1))
    assert to_weight[:, :, 1].count_nonzero() == 16 * 16 * 3
    assert to_weight.count_nonzero() == 16 * 16 * 3


def test_sums_of_signs_are_whole() -> None:
    """What is exported has weights of +-1, and what it computes a packed network computes."""
    layer = BinaryConv2d(32, 16, 3, padding=1).eval()
    x = signs(3, 32, 9, 9)
    with torch.no_grad():
        assert torch.equal(layer(x), functional.conv2d(x, torch.where(layer.weight < 0, -1.0, 1.0), padding=1))


@pytest.mark.parametrize("fault", ["a zero", "channels", "filters", "double", "wide", "narrower than the kernel"])
def test_what_the_kernels_do_not_take_torch_does(fault: str) -> None:
    x, weight = signs(2, 16, 6, 6), signs(16, 16, 3, 3, seed=2)
    match fault:
        case "a zero":
            x[1, 3, 2, 2] = 0
        case "channels":
            x, weight = x[:, :12], weight[:, :12]
        case "filters":
            weight = weight[:12]
        case "double":
            x, weight = x.double(), weight.double()
        case "wide":
            x = signs(1, 16, 3, 300)
        case _:
            x = x[..., :1]
    out = conv2d(x.requires_grad_(), weight, stride=1, padding=1)
    assert not is_ours(out) or fault.startswith("narrower")
    assert torch.allclose(out, functional.conv2d(x, weight, padding=1))
