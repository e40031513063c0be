"""Tensors as rows, a sample each, in the order of their memory: what lies channels-last is not copied."""

from __future__ import annotations

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether `x` is (N, C, H, W) with the channels of a pixel side by side in memory."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def memory_order(x: Tensor) -> torch.memory_format:
    """The order of `x` in memory: channels-last, or as its dimensions stand."""
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def rows(x: Tensor) -> Tensor:
    """`x` (N, ...) as (N, M), in the order of its memory; one of fewer than two dimensions as a single row."""
    if is_channels_last(x):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(len(x) if x.ndim > 1 else 1, -1)


def like(x: Tensor, of_rows: Tensor) -> Tensor:
    """What `rows` gives of a tensor in the shape and order of `x`, as such a tensor."""
    if is_channels_last(x):
        return of_rows.view(x.shape[0], x.shape[2], x.shape[3], x.shape[1]).permute(0, 3, 1, 2)
    return of_rows.view(x.shape)
