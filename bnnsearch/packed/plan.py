"""A network made ready to run on batches of one size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnnsearch import native
from bnnsearch.packed import kernels
from bnnsearch.packed.kernels import StageKind
from bnnsearch.packed.lower import lower
from bnnsearch.packed.memory import lay_out
from bnnsearch.packed.prepare import Prepared


class Plan:
    """A network, ready for batches of `images` images; not to be run by two threads at once."""

    def __init__(self, prepared: Prepared, images: int) -> None:
        self._prepared = prepared
        self._memory = lay_out(prepared, images)
        self._tables = lower(prepared, self._memory, images)
        self._inputs = [stage for stage in self._tables.stages if stage.kind == StageKind.INPUT]

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (N, classes) of images (N, C, H, W), contiguous, N being the plan's."""
        for stage in self._inputs:
            stage.source = native.address(images)
        self._run(0, len(self._tables.stages))
        return self.values(self._prepared.graph.output)[:, :, 0, 0]

    @property
    def stages(self) -> list[str]:
        """What each stage starts with: the name of a value."""
        return [stage.source.name for stage in self._prepared.schedule.stages]

    def run_stage(self, place: int) -> None:
        """Run one stage again, on what the stages before it left."""
        self._run(self._tables.ends[place - 1] if place else 0, self._tables.ends[place])

    def values(self, name: str) -> NDArray[np.float32]:
        """A kept value of the last run, (N, channels, height, width)."""
        values = self._memory.values(self._prepared.schedule.source_of(name))
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    def _run(self, first: int, last: int) -> None:
        kernels.run_stages(self._tables.stages, first, last, self._memory.gathered)
