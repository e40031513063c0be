"""From a trained run to a 1-bit model file, checked image by image, and what it will cost."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from bnnsearch import __version__
from bnnsearch.config.metrics import MEASURED, ON_DEVICE
from bnnsearch.config.model import BinarySettings
from bnnsearch.config.trial import AnyTrial, OwnTrialConfig, TrialConfig
from bnnsearch.core.arrays import Scaling
from bnnsearch.core.cost import LayerCost, model_cost
from bnnsearch.core.data import AnySplit, Dataset, StreamedSplit, eval_batches, load_data
from bnnsearch.core.data.batches import normalised
from bnnsearch.core.loop import EVAL_BATCH
from bnnsearch.core.models.build import build_model
from bnnsearch.core.own import DeclaredTrainer
from bnnsearch.core.trainer import Trainer
from bnnsearch.device.cost import REFERENCE, device_costs
from bnnsearch.device.lower import lower
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.evolve.network import XorNetwork
from bnnsearch.invocation import command
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.latency import measure_latency, median_ms
from bnnsearch.packed.model import PackedModel
from bnnsearch.packed.operations import Convolution
from bnnsearch.packed.summary import Line, packed_lines
from bnnsearch.packed.xor import pack_xor_network
from bnnsearch.training import RESULT, read_run, read_trial
from bnnsearch.trial import build_trainer

Edges = Literal["float32", "int8"]


@runtime_checkable
class Exporting(Protocol):
    """A trainer whose network can be packed."""

    def exported(self) -> nn.Module | XorNetwork:
        """The network as it would be exported now: from normalised images to logits, or of bits alone."""
        ...


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed run.

    Attributes:
        bytes: size of the file.
        checked: validation images on which its labels were compared with those of the network it was packed from.
        rounded: those of them with another label, because the rounding of float32 decides there (`rounding_decides`).
        scaling: how the numbers that it was trained on become the octets that it takes; None where they are octets.
    """

    bytes: int
    checked: int = 0
    rounded: int = 0
    scaling: Scaling | None = None


def pack_run(run: Path, path: Path, *, edges: Edges = "float32") -> Packed:
    """Pack the network of a finished production run into the file `path`.

    Args:
        run: a folder that `bnnsearch train` made.
        path: the file to write.
        edges: how the real layers, the first and the last, are stored; int8 rounds their weights, so labels may differ.

    Raises:
        InputError: the folder holds no finished run.
        DataError: the data set is missing, or its classes are no longer those that were trained on.
        EnvironmentProblem: a file is damaged, or the packed network would not predict what the trained one does.
    """
    if not (run / RESULT).exists():
        raise InputError(
            f"{run}: holds no finished run (no {RESULT}); `{command('train', 'CONFIG', '-o', run)}` makes one"
        )
    config = read_trial(run)
    if isinstance(config, OwnTrialConfig):
        own = DeclaredTrainer(config.trainer, seed=config.seed or 0, device="cpu")
        read_run(own.load_state_dict, run, ())
        model = own.packed_model()
        model.save(path)
        return Packed(path.stat().st_size, scaling=model.scaling)
    trainer = build_trainer(config.alone())
    data = load_data(config.data)
    read_run(trainer.load_state_dict, run, data.names)
    network = exported(trainer)
    model = packed_network(network, data, edges)
    checked, rounded = compare(model, network, data.val) if edges == "float32" else (0, 0)
    model.save(path)
    return Packed(path.stat().st_size, checked, rounded, model.scaling)


def deployed_costs(
    config: TrialConfig, trainer: Trainer, names: Collection[str] = MEASURED, target: str = REFERENCE
) -> dict[str, float]:
    """What the packed network takes, of which training changes nothing.

    Args:
        config: the run.
        trainer: its trainer.
        names: which of `latency_ms` (one image, one thread, here), `packed_bytes`, `flash_bytes`, `ram_bytes` and
            `device_cycles` (as C on `target`, image not counted, see `device.cost`).
        target: one of `DeviceName`.
    """
    model = packed_network(exported(trainer), load_data(config.data))
    costs = {"packed_bytes": float(model.packed_bytes)}
    if not ON_DEVICE.isdisjoint(names):
        costs |= device_costs(lower(model.graph, model.tensors), target)
    if "latency_ms" in names:
        costs["latency_ms"] = measure_latency(model).median_ms
    return {name: value for name, value in costs.items() if name in names}


def layers(config: AnyTrial) -> list[Line]:
    """The layers of a configuration's network; the bytes are of its parameters as they are trained.

    Raises:
        InputError: it declares a trainer of its own, whose network nobody knows.
        DataError: what its network's shape depends on is missing.
    """
    if isinstance(config, OwnTrialConfig):
        raise InputError("the network of a trainer of one's own is not known; `pack` it, and look at the packed model")
    if not isinstance(config.model, BinarySettings):
        config = config.model_copy(update={"seed": config.seed or 0})
        return packed_lines(packed_network(exported(build_trainer(config, trains=False)), load_data(config.data)))
    if config.data.known is None:
        data = load_data(config.data)
        shape, classes = data.shape, data.classes
    else:
        shape, classes = config.data.known
    with torch.random.fork_rng(devices=[]):
        cost = model_cost(build_model(config.model, shape=shape, classes=classes), shape)
    return [_line(layer) for layer in cost.layers if layer.kind != "Identity"]


def _line(layer: LayerCost) -> Line:
    few = 1 if layer.binary_params else 8 if layer.int8_params else 32
    arithmetic = (
        "" if not layer.macs else "float32" if not layer.mac_bits else "binary" if layer.mac_bits == 1 else "integer"
    )
    weights = layer.binary_params or layer.int8_params or layer.params
    size = -(-layer.bits // 8)
    return Line(layer.name, layer.kind, layer.out_shape, weights, few if weights else 0, size, layer.macs, arithmetic)


def float32_ms(model: PackedModel, *, batch: int = 1, threads: int = 1, seconds: float = 0.5) -> float:
    """Milliseconds of torch's float32 convolutions and linear layers of the same shapes, one call after the other.

    What stands between them is left out, so that a whole float32 network takes longer than this.
    """
    shapes = model.graph.shapes()
    calls = []
    for each in model.graph.operations:
        if isinstance(each, Convolution):
            images = torch.rand(batch, *shapes[each.input])
            filters = torch.rand(each.channels, shapes[each.input].channels, *each.kernel)
            calls.append((images, filters, each.stride, each.padding))

    def run() -> None:
        for images, filters, stride, padding in calls:
            torch.nn.functional.conv2d(images, filters, None, stride, padding)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            run()
            return median_ms(run, seconds=seconds, clock=time.thread_time_ns if threads == 1 else time.perf_counter_ns)
    finally:
        torch.set_num_threads(before)


def unpackable(config: AnyTrial, *, device: bool = False) -> str | None:
    """Why the network of a gradient run could not be packed, or run on a `device`; None where it can be. It is known
    without data and training.
    """
    if config.known_network is None:
        return None
    settings, shape, classes = config.known_network
    with torch.random.fork_rng(devices=[]):
        model = build_model(settings, shape=shape, classes=classes)
    try:
        packed = PackedModel.from_module(model, shape=shape, mean=[0.0] * shape[0], std=[1.0] * shape[0])
        if device:
            lower(packed.graph, packed.tensors)
    except InputError as error:
        return str(error)
    return None


def packed_network(network: nn.Module | XorNetwork, data: Dataset, edges: Edges = "float32") -> PackedModel:
    """A network as a 1-bit model.

    Args:
        network: as it is `exported`.
        data: its data set.
        edges: as of `pack_run`.

    Raises:
        InputError: it cannot be packed.
    """
    provenance = {"bnnsearch": __version__}
    preprocessing = Preprocessing(crop=data.crop, arrays=data.scaling)
    if isinstance(network, XorNetwork):
        return pack_xor_network(
            network, shape=data.shape, provenance=provenance, classes=data.names, preprocessing=preprocessing
        )
    return PackedModel.from_module(
        network,
        shape=data.shape,
        mean=data.mean,
        std=data.std,
        edges=edges,
        provenance=provenance,
        classes=data.names,
        preprocessing=preprocessing,
    )


def exported(trainer: Trainer) -> nn.Module | XorNetwork:
    """What a trainer would export now; a network of gradients sees training images for its norms first, each time.

    Raises:
        InputError: it has nothing that could be packed.
    """
    if isinstance(trainer, Exporting):
        return trainer.exported()
    raise InputError(f"what {type(trainer).__name__} trains cannot be packed: it has no exported()")


def compare(model: PackedModel, network: nn.Module | XorNetwork, images: AnySplit) -> tuple[int, int]:
    """Compare a packed network with the `exported` one; on how many images, and how many labels rounding decides.

    Raises:
        EnvironmentProblem: some differ, and rounding is not why.
    """
    if isinstance(images, StreamedSplit):
        return 0, 0  # no uint8 images to pack
    packed = model.predict(images.images.cpu().numpy())
    if isinstance(network, XorNetwork):
        other = np.flatnonzero(packed != network.predict(images.images.numpy()))
        rounded = np.zeros(len(other), dtype=bool)
    else:
        network.eval()
        with torch.no_grad():
            batches = eval_batches(images, batch_size=EVAL_BATCH)
            labels = torch.cat([network(batch).argmax(1) for batch, _ in batches]).cpu().numpy()
        other = np.flatnonzero(packed != labels)
        inputs = normalised(images.images[other], images)
        rounded = np.array([rounding_decides(network, *each) for each in zip(inputs, packed[other], strict=True)], bool)
    if differ := int((~rounded).sum()):
        raise EnvironmentProblem(f"the packed network differs from the trained one on {differ} of {len(packed)} images")
    return len(packed), len(other)


def rounding_decides(network: nn.Module, image: Tensor, label: int) -> bool:
    """Whether `network` gives `label` to an image that differs from this one by no more than sums in float32 do.

    Where a value all but meets the threshold of a sign, the order in which a processor adds decides the bit, and after
    some layers the label. Such an image has either label under noise of a hundred-thousandth of its values, a
    four-hundredth of a pixel's step, which moves no other.

    Args:
        network: in evaluation mode.
        image: normalised, float32 (C, H, W).
        label: the other label.
    """
    noise = torch.randn(64, *image.shape, generator=torch.Generator().manual_seed(0)).to(image.device)
    with torch.no_grad():
        return label in network(image * (1 + 1e-5 * noise)).argmax(1)
