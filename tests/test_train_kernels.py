"""The passes of training give the same bits on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.core import fused, kernels

sizes = st.integers(1, 100)


def outcomes(variant: str, name: str, arguments: list[NDArray[np.uint8] | float]) -> list[bytes]:
    """What a kernel leaves in its arguments."""
    copies = [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]
    kernel = kernels.bind(variant, name)
    kernel(*(native.address(each) if isinstance(each, np.ndarray) else each for each in copies))
    return [each.tobytes() for each in copies if isinstance(each, np.ndarray)]


@pytest.mark.skipif(native.variants() == ("portable",), reason="there is one instruction set only")
@pytest.mark.parametrize("name", kernels.PASSES)
@given(rows=st.integers(1, 4), pixels=st.integers(1, 9), channels=sizes, half=st.booleans(), slope=st.integers(0, 2),
       seed=st.integers(0, 2**32 - 1))  # fmt: skip
def test_variants_agree(  # noqa: PLR0917
    name: str, rows: int, pixels: int, channels: int, half: bool, slope: int, seed: int
) -> None:
    numbers = np.random.default_rng(seed)

    def drawn(count: int) -> NDArray[np.uint8]:
        """Memory of `count` numbers near 1, bfloat16 where the kernel takes them."""
        floats = torch.from_numpy(numbers.standard_normal(count))
        taken = floats.to(torch.bfloat16 if half else torch.float32)
        return taken.view(torch.uint8).numpy()

    def reals(count: int) -> NDArray[np.uint8]:
        return numbers.standard_normal(count).astype(np.float32).view(np.uint8)

    all_of = [drawn(rows * pixels * channels) for _ in range(4)]
    sums, three, one = [reals(rows * channels) for _ in range(2)], reals(3 * channels), reals(channels)
    shape, samples = [0, rows, pixels, channels, int(half)], [0, rows, pixels * channels]
    arguments = {
        "sign_rows": [*samples, int(half), *all_of[:2]],
        "slope_rows": [*samples, int(half), slope, *all_of[:3]],
        "standardised_slope_rows": [*samples, int(half), slope, *all_of[:3]],
        "standardise_rows": [0, rows, channels, sums[0], sums[1], reals(rows)],
        "standardise_slope_rows": [0, rows, channels, sums[0], reals(rows), sums[1], reals(rows * channels)],
        "channel_sums": [*shape, all_of[0], *sums],
        "batch_statistics": [rows, channels, pixels, 1e-5, reals(2 * rows * channels), three],
        "affine_add_clamp": [*shape, *all_of[:2], three, all_of[2]],
        "clamp_slope_sums": [*shape, *all_of[:3], one, all_of[3], *sums],
        "slope_factors": [rows, channels, pixels, reals(2 * rows * channels), three, one, reals(5 * channels)],
        "norm_slope": [*shape, *all_of[:2], three, all_of[2]],
    }[name]
    expected = outcomes("portable", name, arguments)
    for variant in native.variants()[:-1]:
        assert outcomes(variant, name, arguments) == expected


def test_a_training_without_the_library_composes_operations(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(native, "FILE", tmp_path / "library.so")
    native.library.cache_clear()
    native.available.cache_clear()
    try:
        assert not fused.fuses(torch.ones(3))
    finally:
        monkeypatch.undo()
        native.library.cache_clear()
        native.available.cache_clear()
    assert fused.fuses(torch.ones(3))
