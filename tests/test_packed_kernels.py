"""The packed runtime's kernels on every instruction set that runs here: equal to sums of +-1 taken in torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.bits import pack_rows
from bnnsearch.config.activation import RpreluConfig
from bnnsearch.config.model import Cnn1dConfig, MlpConfig, ModelConfig, Realtobinary18Config, Resnet20Config
from bnnsearch.core.models.build import build_model
from bnnsearch.packed import kernels
from bnnsearch.packed.graph import INPUT, Graph, Normalisation
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.operations import Array, Convolution, Pool, Threshold

Bits = NDArray[np.bool_]
Pair = tuple[int, int]

SUMS, AGAIN = "sums", "again"


def signs_of(bits: Bits) -> torch.Tensor:
    return torch.from_numpy(np.where(bits, 1.0, -1.0))


def network(
    filters: Bits,
    levels: NDArray[np.int32],
    turned: Bits,
    *,
    image: tuple[int, int, int],
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
) -> PackedModel:
    """Signs of octets, a binary convolution, bits of its sums, one that shows them, and the mean of all pixels."""
    out, height, width, channels = filters.shape
    sums = Convolution(
        name=SUMS, input="signs", binary=True, channels=out, kernel=(height, width), stride=stride, padding=padding
    )
    rows, columns = (
        (side + 2 * border - kernel) // step + 1
        for side, border, kernel, step in zip(image[1:], padding, sums.kernel, stride, strict=True)
    )
    graph = Graph(
        images=Normalisation(shape=image, mean=(0.5,) * channels, std=(0.5,) * channels),
        operations=(
            Threshold(name="signs", input=INPUT, level=0.0),
            sums,
            Threshold(name="bits", input=SUMS, reverses=True),
            Convolution(name=AGAIN, input="bits", binary=True, channels=out, kernel=(1, 1)),
            Pool(name="mean", input=AGAIN, kind="mean", kernel=(rows, columns), stride=(1, 1)),
        ),
        output="mean",
    )
    tensors: dict[str, Array] = {
        SUMS: pack_rows(filters.reshape(out, -1)),
        AGAIN: pack_rows(np.eye(out, dtype=np.bool_)),
        "bits": levels,
        "bits.reversed": turned.astype(np.uint8),
    }
    return PackedModel(graph, tensors)


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 3)),
    placement=st.tuples(
        st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 2), st.integers(0, 2))
    ),
    side=st.tuples(st.integers(5, 11), st.integers(3, 11)),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.usefixtures("instruction_set")
def test_a_binary_convolution_and_its_bits(
    channels: Pair, kernel: Pair, placement: tuple[Pair, Pair], side: Pair, seed: int
) -> None:
    stride, padding = placement
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (1 + seed % 4, channels[0], *side), dtype=np.uint8)
    filters = generator.integers(0, 2, (channels[1], *kernel, channels[0])).astype(np.bool_)
    levels = generator.integers(-9, 10, channels[1], dtype=np.int32)
    turned = generator.integers(0, 2, channels[1]).astype(np.bool_)
    packed = network(filters, levels, turned, image=(channels[0], *side), stride=stride, padding=padding)
    expected = torch.conv2d(
        signs_of(images >= 127.5), signs_of(filters).permute(0, 3, 1, 2), stride=stride, padding=padding
    ).numpy()
    bits = signs_of((expected >= levels[:, None, None]) ^ turned[:, None, None]).numpy()
    found = packed.values(images, [SUMS, AGAIN])
    np.testing.assert_array_equal(found[SUMS], expected)
    np.testing.assert_array_equal(found[AGAIN], 2 * bits - bits.sum(axis=1, keepdims=True))


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("out", [16, 18])
def test_sums_beyond_16_bits(out: int) -> None:
    """70,000 inputs, all of which differ from the first filter."""
    filters = np.random.default_rng(0).integers(0, 2, (out, 1, 1, 70_000)).astype(np.bool_)
    images = np.where(filters[0].reshape(-1), 0, 255).astype(np.uint8).reshape(1, -1, 1, 1)
    packed = network(filters, np.zeros(out, np.int32), np.zeros(out, np.bool_), image=(70_000, 1, 1))
    found = packed.values(images, [SUMS])[SUMS].reshape(-1)
    assert found[0] == -70_000
    np.testing.assert_array_equal(
        found, (signs_of(filters).reshape(out, -1) @ signs_of(images.reshape(-1) > 0)).numpy()
    )


@contextmanager
def variant(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for kernel in kernels.SIGNATURES:
            patch.setattr(kernels, kernel, kernels.bind(name, kernel))
        yield


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MlpConfig(hidden=(100, 33), scale="xnor"), (1, 9, 9)),
        (Cnn1dConfig(width=0.3), (3, 1, 130)),
        (Resnet20Config(width=0.6, activation=RpreluConfig(), block="pre"), (3, 17, 19)),
        (Realtobinary18Config(stem="small", width=0.25), (3, 17, 16)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_real_arithmetic_rounds_alike_on_every_instruction_set(
    config: ModelConfig, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    module = build_model(config, shape=shape, classes=10).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    logits = []
    for name in native.variants():
        with variant(name):
            packed = PackedModel.from_module(module, shape=shape, mean=(0.4,) * shape[0], std=(0.3,) * shape[0])
            logits.append(packed.logits(images))
    assert np.isfinite(logits[0]).all()
    for other in logits[1:]:
        np.testing.assert_array_equal(other, logits[0])
