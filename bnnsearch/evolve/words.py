"""Packed words: their ones, and as tensors of int64, which checkpoints hold: torch's uint64 is not for storage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnnsearch.bits import Words
from bnnsearch.evolve import kernels


def popcount(words: Words) -> int:
    """Number of ones in all words."""
    return int(kernels.count_ones(words, words.size))


def to_tensor(words: Words) -> Tensor:
    """A copy of uint64 words as int64, bit for bit."""
    return torch.from_numpy(words.view(np.int64).copy())


def to_words(tensor: Tensor) -> Words:
    """The inverse of `to_tensor`."""
    return tensor.cpu().numpy().copy().view(np.uint64)
