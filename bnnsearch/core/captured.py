"""A training step's forward and backward pass as a CUDA graph: captured once, then launched as a whole.

A small network is bound by the launches of its kernels, thousands a step; a graph is one launch. What changes with time
must therefore be in tensors on the GPU: of a number of Python's the graph keeps what it was when it was captured.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
WARM_UP = 3
"""Steps before the capture, in which cuDNN chooses its kernels and libraries take their memory."""


class CapturedStep:
    """Loss and logits of batches of one shape, whose gradients are then in the parameters of `network`.

    Args:
        loss: from images and labels to a loss and logits.
        network: what is trained; its buffers, such as those of batch norm, are changed by no warm-up.
        images: (B, C, H, W), on the GPU; every later batch has the same shape.
        labels: int64, (B,).
    """

    def __init__(self, loss: Loss, network: nn.Module, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images.clone(), labels.clone()
        buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
        randomness = torch.cuda.get_rng_state(images.device)
        beside = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                loss(self._images, self._labels)[0].backward()  # type: ignore[no-untyped-call]
        torch.cuda.current_stream(images.device).wait_stream(beside)
        for buffer, before in buffers:
            buffer.copy_(before)
        network.zero_grad()  # the gradients are the graph's own: each launch writes them anew
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss, self._logits = loss(self._images, self._labels)
            self._loss.backward()  # type: ignore[no-untyped-call]
        torch.cuda.set_rng_state(randomness, images.device)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch; they and the gradients are overwritten by the next call."""
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss, self._logits


def hold_on(device: torch.device, *changing: object) -> None:
    """Move the tensors that these hold, as attributes or in dictionaries of theirs, to `device`."""
    for holder in changing:
        attributes = getattr(holder, "__dict__", {})
        for values in (attributes, *(value for value in attributes.values() if isinstance(value, dict))):
            values.update({name: each.to(device) for name, each in values.items() if isinstance(each, Tensor)})
