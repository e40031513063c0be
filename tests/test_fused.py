"""One pass over memory gives what the composed operations give."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh

from bnnsearch import native
from bnnsearch.config.model import Resnet20Config
from bnnsearch.core import fused
from bnnsearch.core.binarize import Gradient, binarise, rectified_clamp, sign
from bnnsearch.core.models.build import build_model

SHAPES = [(7,), (5, 33), (4, 3, 5, 7), (6, 16, 8, 8), (3, 4, 1, 1), (2, 1, 9, 4)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(shape: tuple[int, ...], *, layout: torch.memory_format, seed: int = 0) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=layout) if len(shape) == 4 else x


def output_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    output = function(x)
    return output.detach(), torch.autograd.grad(output, x, upstream)[0]


@pytest.fixture(autouse=True)
def _there_is_something_to_compare() -> None:
    assert native.available()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gradient", ["ste", "polynomial", "identity"])
@pytest.mark.parametrize("standardised", [False, True])
def test_sign_and_its_derivatives(
    shape: tuple[int, ...], layout: torch.memory_format, gradient: Gradient, standardised: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if standardised and len(shape) == 1:
        pytest.skip("a sample of one number has no deviation")
    x = drawn(shape, layout=layout)
    x[:1] = x[:1] * (x[:1] > 0)  # zeros of either sign
    upstream = drawn(shape, layout=LAYOUTS[layout is LAYOUTS[0]], seed=1)  # autograd promises no layout

    def function(x: Tensor) -> Tensor:
        return binarise(x, gradient, standardised=standardised)

    one_pass = output_and_gradient(function, x, upstream)
    monkeypatch.setattr(native, "available", lambda: False)
    composed = output_and_gradient(function, x, upstream)
    assert torch.equal(one_pass[0], composed[0])
    torch.testing.assert_close(one_pass[1], composed[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 33), (4, 3, 3, 3), (3, 8, 1, 1)])
def test_rectified_clamp(shape: tuple[int, ...], layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, upstream = drawn(shape, layout=layout), drawn(shape, layout=torch.contiguous_format, seed=1)

    def function(weight: Tensor) -> Tensor:
        return rectified_clamp(weight, torch.tensor(0.85))

    one_pass = output_and_gradient(function, weight, upstream)
    monkeypatch.setattr(native, "available", lambda: False)
    torch.testing.assert_close(one_pass, output_and_gradient(function, weight, upstream), rtol=1e-4, atol=1e-5)


def test_products_round_to_the_nearest_bfloat16() -> None:
    x, upstream = (drawn((64, 1000), layout=torch.contiguous_format, seed=seed).bfloat16() for seed in (0, 1))
    exact = (upstream.float() * (2 - 2 * x.float().abs()).clamp(min=0)).bfloat16()
    assert torch.equal(fused.sign_slope(x, upstream, "polynomial"), exact)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(6, 16, 8, 8), (4, 5, 7, 7), (3, 48, 2, 2), (9, 64, 1, 1)])
def test_norm_residual_and_hardtanh(shape: tuple[int, int, int, int], layout: torch.memory_format) -> None:
    x, residual = (drawn(shape, layout=layout, seed=seed).requires_grad_() for seed in (0, 1))
    upstream = drawn(shape, layout=torch.contiguous_format, seed=2)
    torch.manual_seed(3)
    norm = nn.BatchNorm2d(shape[1])
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch_norm = deepcopy(norm)
    one_pass = fused.norm_add_hardtanh(x, residual, norm, shift=0.3)
    composed = hardtanh(torch_norm(x) + residual - 0.3)
    torch.testing.assert_close(one_pass, composed, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.autograd.grad(one_pass, (x, residual, norm.weight, norm.bias), upstream),
        torch.autograd.grad(composed, (x, residual, torch_norm.weight, torch_norm.bias), upstream),
        rtol=1e-4, atol=1e-4,
    )  # fmt: skip
    torch.testing.assert_close(norm.state_dict(), torch_norm.state_dict())


def step_of_a_network() -> list[Tensor]:
    torch.manual_seed(0)
    network = build_model(Resnet20Config(width=0.5, standardise=True), shape=(3, 16, 16), classes=10)
    images = torch.randn(12, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(images).float().square().sum().backward()
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def test_a_network_takes_one_pass_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    spread = fused.share_out

    def counted(kernel: Callable[..., None], *arguments: Any) -> None:
        calls.append(kernel.__name__.removeprefix(f"bnn_{native.chosen()}_"))
        spread(kernel, *arguments)

    monkeypatch.setattr(fused, "share_out", counted)
    step_of_a_network()
    assert {name: calls.count(name) for name in ("affine_add_clamp", "norm_slope", "standardised_slope_rows")} == {
        "affine_add_clamp": 18, "norm_slope": 18, "standardised_slope_rows": 18,
    }  # fmt: skip


@pytest.mark.parametrize("threads", [2, 3])
def test_results_do_not_depend_on_how_work_is_shared_out(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, upstream = (drawn((10, 16, 8, 8), layout=torch.channels_last, seed=seed) for seed in (0, 1))

    def results() -> list[Tensor]:
        norm = nn.BatchNorm2d(16)
        residual = x.clone().requires_grad_()
        out = fused.norm_add_hardtanh(x, residual, norm, shift=0.0)
        out.backward(upstream)
        assert norm.weight.grad is not None and residual.grad is not None
        slope = fused.standardised_sign_slope(x, upstream, "polynomial")
        return [sign(x), slope, out.detach(), residual.grad, norm.weight.grad]

    alone = results()
    monkeypatch.setattr(fused, "_ALONE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for one, many in zip(alone, results(), strict=True):
        assert torch.equal(one, many)
