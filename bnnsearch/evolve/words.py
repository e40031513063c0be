"""Packed words as tensors: checkpoints hold tensors only, and torch's unsigned 64-bit integers are not for storage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnnsearch.kernels.popcount import Words


def to_tensor(words: Words) -> Tensor:
    """A copy of uint64 words as int64, bit for bit."""
    return torch.from_numpy(words.view(np.int64).copy())


def to_words(tensor: Tensor) -> Words:
    """The inverse of `to_tensor`."""
    return tensor.cpu().numpy().copy().view(np.uint64)
