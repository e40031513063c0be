"""`PackedModel`: a 1-bit network that predicts without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.core.arrays import Scaling
from bnnsearch.errors import InputError
from bnnsearch.files import write_whole
from bnnsearch.packed import format as file_format
from bnnsearch.packed.format import Preprocessing
from bnnsearch.packed.graph import Graph, Normalisation
from bnnsearch.packed.operations import Array
from bnnsearch.packed.plan import Plan
from bnnsearch.packed.prepare import Prepared, prepare
from bnnsearch.packed.reference import Reference

if TYPE_CHECKING:
    from torch import nn

CACHE_BYTES = 2**19


class PackedModel:
    """A binary network as bits, thresholds and the few real arrays that remain.

    It predicts what the torch network predicts in evaluation mode, weights through sign. Every operation between the
    first convolution and the classifier rounds as PyTorch's does, so the sums of +-1 are equal, not only close; the
    package's documentation says where a processor's own order of summation can differ.

    Attributes:
        classes: names of the classes, by label; their numbers where the file has none.
        preprocessing: how image files become its images.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, Array],
        provenance: Mapping[str, str] | None = None,
        *,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.graph = graph
        self.tensors = dict(tensors)
        self.provenance = dict(provenance or {})
        self._prepared: Prepared | None = prepare(graph, self.tensors) if native.available() else None
        self._outputs = graph.shapes()[graph.output].channels
        numbers = tuple(map(str, range(self._outputs)))
        self.classes = tuple(classes) or numbers
        if len(self.classes) != len(numbers):
            raise InputError(f"one name per class must be given, but got {len(self.classes)} for {len(numbers)}")
        self.preprocessing = preprocessing or Preprocessing()
        self._together = max(1, CACHE_BYTES // self._prepared.image_bytes) if self._prepared else 1
        self._plans: dict[tuple[int, int], Plan | Reference] = {}
        self._running = Lock()

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        *,
        shape: tuple[int, int, int],
        mean: Sequence[float],
        std: Sequence[float],
        edges: Literal["float32", "int8"] = "float32",
        provenance: Mapping[str, str] | None = None,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
    ) -> PackedModel:
        """Pack a torch network; it is left as it was.

        Args:
            module: from normalised float32 (N, C, H, W) to logits (N, classes).
            shape: (C, H, W) of its images.
            mean: per-channel mean that normalises its images, pixels scaled to [0, 1].
            std: per-channel standard deviation, same scale.
            edges: how real layers, the first and the last, are stored; int8 rounds their weights.
            provenance: where the model comes from, kept in the file.
            classes: names of the classes, by label; left out, their numbers.
            preprocessing: how image files become its images; left out, they are stretched to its shape.

        Raises:
            InputError: the network holds what a packed one cannot.
        """
        from bnnsearch.packed.convert import convert

        if not len(mean) == len(std) == shape[0]:
            raise InputError(f"mean and std need one value for each of {shape[0]} channels, but got {mean} and {std}")
        images = Normalisation(shape=shape, mean=tuple(map(float, mean)), std=tuple(map(float, std)))
        graph, tensors = convert(module, images, edges=edges)
        return cls(graph, tensors, provenance, classes=classes, preprocessing=preprocessing)

    @property
    def scaling(self) -> Scaling | None:
        """How the numbers that it was trained on become octets; None where it was trained on octets."""
        scaling = self.preprocessing.arrays
        return None if scaling is None or scaling.keeps else scaling

    @classmethod
    def load(cls, path: Path | str) -> PackedModel:
        """Read a model from a file.

        Raises:
            EnvironmentProblem: the file is missing, truncated, changed, of another kind or of a later version.
        """
        manifest, tensors = file_format.read(Path(path))
        return cls(
            manifest.graph,
            tensors,
            manifest.provenance,
            classes=manifest.classes,
            preprocessing=manifest.preprocessing,
        )

    def save(self, path: Path | str) -> None:
        """Write the model to a file.

        Raises:
            EnvironmentProblem: the file cannot be written.
        """
        write_whole(Path(path), self._encoded())

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        return self.graph.images.shape

    @property
    def packed_bytes(self) -> int:
        """Bytes of its file."""
        return len(self._encoded())

    def predict(self, images: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.int64]:
        """Labels (N,) of images (N, C, H, W); see `logits`."""
        return np.asarray(self.logits(images, threads=threads).argmax(axis=1))

    def logits(self, images: NDArray[np.uint8], *, threads: int = 1) -> NDArray[np.float32]:
        """Logits (N, classes).

        Args:
            images: uint8, (N, C, H, W), pixels from 0 to 255.
            threads: threads to share the images among; one image is the work of one thread.

        Raises:
            InputError: the images have another shape or type.
        """
        images = self._checked(images)
        threads = max(1, min(threads, len(images)))
        with self._running:
            if threads == 1:
                return self._run(images, 0)
            with ThreadPoolExecutor(threads) as pool:
                return np.concatenate(list(pool.map(self._run, np.array_split(images, threads), range(threads))))

    def values(self, images: NDArray[np.uint8], names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Real values inside the network, to check it by: such as the integers that a binary convolution sums up to.

        Args:
            images: as in `logits`.
            names: names of operations of `graph` that do not give bits.

        Returns:
            Each value, (N, channels, height, width).
        """
        plan = self._runner(len(images), keep=names)
        plan.run(self._checked(images))
        return {name: plan.values(name) for name in names}

    def plan(self, images: int, *, keep: Sequence[str] = ()) -> Plan:
        """The network ready for batches of `images` images, with memory of its own; the real values `keep` stay.

        Raises:
            EnvironmentProblem: the native library does not load here.
        """
        kept = self._prepared if self._prepared and not keep else prepare(self.graph, self.tensors, keep=keep)
        return Plan(kept, images)

    def _encoded(self) -> bytes:
        named = self.classes != tuple(map(str, range(len(self.classes))))
        return file_format.encode(
            self.graph,
            self.tensors,
            self.provenance,
            classes=self.classes if named else (),
            preprocessing=self.preprocessing,
        )

    def _checked(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise InputError(f"images must be uint8 (N, {self.shape}), but are {images.dtype} {images.shape}")
        return np.ascontiguousarray(images)

    def _run(self, images: NDArray[np.uint8], worker: int) -> NDArray[np.float32]:
        """Run on as many images at a time as keep a layer's values in the cache."""
        logits = np.empty((len(images), self._outputs), np.float32)
        for first in range(0, len(images), self._together):
            batch = images[first : first + self._together]
            logits[first : first + len(batch)] = self._plan(len(batch), worker).run(batch)
        return logits

    def _runner(self, images: int, *, keep: Sequence[str] = ()) -> Plan | Reference:
        return self.plan(images, keep=keep) if self._prepared else Reference(self.graph, self.tensors)

    def _plan(self, images: int, worker: int) -> Plan | Reference:
        if (images, worker) not in self._plans:
            self._plans[images, worker] = self._runner(images)
        return self._plans[images, worker]
