"""Cyclic low precision: the cycle, the grids, and where they act."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from training_fixtures import small_network, trainer, trial

from bnnsearch.config.precision import PrecisionConfig
from bnnsearch.core.binarize import sign
from bnnsearch.core.layers import binary_layers
from bnnsearch.core.precision import CyclicPrecision, Grid, cyclic_bits, quantise, quantise_gradient

GRIDS: tuple[Grid, ...] = ("symmetric", "affine")
vectors = st.lists(st.floats(-4, 4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=1, max_size=20).map(
    torch.tensor
)


def bits(count: float) -> Tensor:
    return torch.tensor(float(count))


class TestCycle:
    @staticmethod
    def cycle(steps: int = 2000) -> list[int]:
        return [cyclic_bits((3, 8), step=step, steps=steps, cycles=1) for step in range(steps)]

    def test_switches_at_the_published_steps(self) -> None:
        widths = self.cycle()
        changes = {step: widths[step] for step in range(1, 2000) if widths[step] != widths[step - 1]}
        assert changes == {410: 4, 739: 5, 1000: 6, 1262: 7, 1591: 8}

    def test_mean_width(self) -> None:
        widths = self.cycle()
        assert sum(widths) / len(widths) == pytest.approx(5.499, abs=1e-3)

    def test_every_cycle_is_the_same(self) -> None:
        widths = [cyclic_bits((3, 8), step=step, steps=6400, cycles=32) for step in range(6400)]
        assert all(widths[start : start + 200] == widths[:200] for start in range(0, 6400, 200))
        assert widths[0] == 3 and widths[199] == 8

    def test_a_range_of_one_width_is_static(self) -> None:
        assert {cyclic_bits((8, 8), step=step, steps=100, cycles=7) for step in range(100)} == {8}

    @given(st.integers(2, 16), st.integers(0, 16), st.integers(1, 40), st.integers(1, 3000), st.data())
    def test_widths_stay_in_range(self, low: int, extra: int, cycles: int, steps: int, data: st.DataObject) -> None:
        step = data.draw(st.integers(0, steps - 1))
        assert low <= cyclic_bits((low, low + extra), step=step, steps=steps, cycles=cycles) <= low + extra


class TestGrids:
    def test_affine_reference_values(self) -> None:
        quantised = quantise(torch.tensor([-1, -0.2, 0.1, 1]), bits(3), grid="affine")
        expected = torch.tensor([-1, -0.142857, 0.142857, 1])
        torch.testing.assert_close(quantised, expected, atol=1e-6, rtol=0)

    def test_affine_grid_flips_a_sign_where_the_symmetric_one_does_not(self) -> None:
        x = torch.tensor([-1, -0.10, 0.05, 0.20, 1.4])
        assert quantise(x, bits(3), grid="affine")[1].item() == pytest.approx(0.0286, abs=1e-4)
        # steps of 2 * 1.4 / 8 = .35, levels at +-.175, +-.525, ...
        symmetric = quantise(x, bits(3), grid="symmetric")
        torch.testing.assert_close(symmetric, torch.tensor([-0.875, -0.175, 0.175, 0.175, 1.225]))

    @given(vectors, st.integers(2, 12))
    def test_symmetric_grid_keeps_every_sign(self, x: Tensor, width: int) -> None:
        assert torch.equal(sign(quantise(x, bits(width))), sign(x))

    @given(vectors, st.integers(2, 8), st.sampled_from(GRIDS))
    def test_levels_and_error(self, x: Tensor, width: int, grid: Grid) -> None:
        quantised = quantise(x, bits(width), grid=grid)
        assert len(Counter(quantised.tolist())) <= 2**width
        step = 2 * x.abs().max() / 2**width if grid == "symmetric" else (x.max() - x.min()) / (2**width - 1)
        assert ((quantised - x).abs() <= step / 2 + 1e-5).all()

    def test_channels_have_ranges_of_their_own(self) -> None:
        weight = torch.tensor([[1.0, -1.0], [100.0, -100.0]])
        expected = torch.tensor([[0.5, -0.5], [50.0, -50.0]])
        torch.testing.assert_close(quantise(weight, bits(1), per_channel=True), expected)

    @pytest.mark.parametrize("grid", GRIDS)
    def test_gradient_passes_straight_through(self, grid: Grid) -> None:
        x = torch.tensor([0.1, -0.7, 2.0], requires_grad=True)
        quantise(x, bits(3), grid=grid).backward(torch.tensor([1.0, 2.0, 3.0]))
        assert x.grad is not None
        assert x.grad.tolist() == [1, 2, 3]

    @pytest.mark.parametrize("grid", GRIDS)
    def test_a_constant_zero_is_no_trouble(self, grid: Grid) -> None:
        assert quantise(torch.zeros(4), bits(32), grid=grid).isfinite().all()


class TestGradients:
    @staticmethod
    def rounded(upstream: Tensor, width: int) -> Tensor:
        x = torch.zeros_like(upstream, requires_grad=True)
        output = quantise_gradient(x, bits(width))
        assert torch.equal(output, x)
        return torch.autograd.grad(output, x, upstream)[0]

    def test_levels_are_multiples_of_the_step_of_each_sample(self) -> None:
        upstream = torch.tensor([[3.0, 1.1, -0.4], [0.3, -0.01, 0.0]])
        multiples = self.rounded(upstream, 3) / torch.tensor([[1.0], [0.1]])  # peak / (2^2 - 1)
        torch.testing.assert_close(multiples, multiples.round())
        assert multiples[:, 0].tolist() == pytest.approx([3, 3])

    def test_rounding_is_unbiased_and_keeps_zero(self) -> None:
        torch.manual_seed(0)
        upstream = torch.tensor([1.0, 0.37, -0.62, 0.0]).repeat(20_000, 1)
        rounded = self.rounded(upstream, 2)
        torch.testing.assert_close(rounded.mean(dim=0), upstream[0], atol=0.02, rtol=0)
        assert rounded[:, 3].eq(0).all()


class TestRun:
    def test_bits_are_reported_and_cycle(self) -> None:
        run = trainer(trial({"name": "ste"}, epochs=4, precision={"bits": [3, 8], "cycles": 2}))
        assert [epoch.values["bits_weights"] for epoch in run.fit()] == [5, 8, 5, 8]

    def test_each_kind_can_be_left_alone(self) -> None:
        network = small_network()
        images = torch.randn(8, 1, 8, 8)
        expected = network(images)
        full = CyclicPrecision(PrecisionConfig(bits=(32, 32)))
        full.attach(network)
        layer = binary_layers(network)["3"]
        assert full(layer.weight) is layer.weight
        assert torch.equal(network(images), expected)

    def test_weights_and_gradients_are_on_their_grids(self) -> None:
        network = small_network()
        precision = CyclicPrecision(PrecisionConfig(weights=(2, 2), activations=(32, 32), gradients=(2, 2), cycles=1))
        precision.anneal(0, 10)
        precision.attach(network)
        layer = binary_layers(network)["7"]
        levels = precision(layer.weight) / layer.weight.abs().amax(dim=1, keepdim=True)
        assert set((4 * levels).round(decimals=4).flatten().tolist()) == {-3, -1, 1, 3}
        # of one image, the weight's gradient is the output's, -1, 0 or 1 times its peak, times inputs of +-1
        network.eval()(torch.randn(1, 1, 8, 8)).square().sum().backward()
        assert layer.weight.grad is not None
        assert set((layer.weight.grad / layer.weight.grad.abs().max()).flatten().tolist()) == {-1, 0, 1}

    @pytest.mark.parametrize("bad", [{"bits": [8, 3]}, {"bits": [1, 3]}, {"cycles": 0}, {"bits": [3, 33]}])
    def test_bad_settings_are_refused(self, bad: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            PrecisionConfig.model_validate(bad)
