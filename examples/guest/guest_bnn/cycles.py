"""A cost model: cycles of a chip that counts many binary products at once, and multiplies reals one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from bnnsearch.config.cost import CostSettings

if TYPE_CHECKING:
    from bnnsearch.core.cost import ModelCost


class CyclesConfig(CostSettings):
    """Layer by layer: binary products in groups of `lanes`, the rest one by one."""

    label: ClassVar[str] = "cycles of the chip"

    name: Literal["cycles"] = "cycles"
    lanes: Annotated[int, Field(ge=1)] = 256

    def cost(self, network: ModelCost) -> float:
        """It."""
        return float(sum(-(-each.macs // self.lanes) if each.mac_bits == 1 else each.macs for each in network.layers))
