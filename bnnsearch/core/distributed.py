"""One training run on several processes, a device each, as `torchrun` starts them.

Every batch is cut into equal shares, one for each process, and the gradients are averaged before each step: the weights
stay equal everywhere, and a batch has as many images as on one device. Batch norm sees the statistics of its own share;
what is exported has statistics of whole batches in any case. In a process that runs alone nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed
from torch.nn import Parameter

from bnnsearch.errors import EnvironmentProblem


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Within, the processes of one `torchrun` work together.

    Args:
        device: what all of them train on; `cuda` is each process's own GPU.

    Yields:
        This process's device.

    Raises:
        EnvironmentProblem: WORLD_SIZE says that there are others, but they are not found.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield device
        return
    on_gpu = device.startswith("cuda")
    try:
        if on_gpu:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    except (KeyError, ValueError, RuntimeError) as error:  # as a launcher of something else leaves in its shell
        raise EnvironmentProblem(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, as under torchrun, but its processes do not find one another "
            f"({str(error).splitlines()[0]}); call it by torchrun, or unset WORLD_SIZE"
        ) from error
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def share() -> tuple[int, int]:
    """This process's rank, and how many processes there are: `images[rank::size]` is its share of a batch."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Return when every process has come here."""
    if share()[1] > 1:
        distributed.barrier()


@torch.no_grad()
def average_gradients(parameters: Iterable[Parameter]) -> None:
    """Replace each gradient by its mean over the processes; what has none has none anywhere."""
    size = share()[1]
    if size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of one a layer
    distributed.all_reduce(together)
    means = torch.split(together.div_(size), [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view(gradient.shape))


def summed(values: Tensor) -> Tensor:
    """`values`, added up over the processes, in place."""
    if share()[1] > 1:
        distributed.all_reduce(values)
    return values
