"""In which arithmetic a device trains: what `plan.dtype` comes to there."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch
from torch.nn.functional import conv2d

from bnnsearch.config.plan import Dtype

logger = logging.getLogger(__name__)

WORTH = 1.2
"""How many times as fast bfloat16 has to be for `auto` to take it: its sums are coarser."""


def takes_bfloat16(dtype: Dtype, device: torch.device) -> bool:
    """Whether forward and backward passes on `device` are bfloat16's; warns where that was asked for and is slow."""
    if dtype == "float32":
        return False
    gain = bfloat16_gain(device)
    if dtype == "auto":
        if gain >= WORTH:
            logger.info("trains in bfloat16: a convolution is %.1f times as fast with it here as in float32", gain)
        return gain >= WORTH
    if gain < 1 / WORTH:
        kind = "GPU" if device.type == "cuda" else "processor"
        problem = f"a convolution takes {1 / gain:.1f} times as long in bfloat16 as in float32 on this {kind}"
        logger.warning("plan.dtype: %s; `auto` takes the faster of the two", problem)
    return True


@cache
def bfloat16_gain(device: torch.device) -> float:
    """How many times as fast as in float32 a convolution of a residual network is in bfloat16 on a device.

    Measured once per process: the fastest of five turns of each. Processors with instructions for bfloat16 are some 2
    to 10 times as fast with it, those without some 10 times as slow. On processors it is their own time that counts, so
    that it does not hang on how busy the machine is.
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    fastest = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(6):  # the first turn prepares kernels
        for dtype, before in fastest.items():
            image, weight = (
                torch.ones(shape, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
                for shape in ((32, 64, 16, 16), (64, 64, 3, 3))
            )
            start = clock()
            with torch.no_grad():
                conv2d(image, weight, padding=1)[0, 0, 0, 0].item()  # waits for a GPU
            fastest[dtype] = min(before, clock() - start)
    return fastest[torch.float32] / fastest[torch.bfloat16]
