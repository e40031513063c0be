"""Cost models: numbers of a network that are known before it trains, because the plan of a run names them.

    plan: {costs: [ace, {name: energy, real_mac: 1.3, binary_mac: 0.002}]}

A member NAME is the metric NAME; less is better. It is computed of what the layers hold, multiply and move, see
`bnnsearch.core.cost.ModelCost`, and so of evolved networks too. Without one of that name, `energy` has its defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from bnnsearch.config.families import COSTS, Member, name_of
from bnnsearch.config.metrics import NETWORK, Metric, define

if TYPE_CHECKING:
    from bnnsearch.core.cost import ModelCost

Picojoules = Annotated[float, Field(ge=0, le=1e9)]

ACE_REAL_BITS = 16


class CostSettings(Member):
    """Settings of a cost model.

    Attributes:
        unit: of the number; empty where it has none.
        label: it in words.
    """

    unit: ClassVar[str] = ""
    label: ClassVar[str] = ""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if name := name_of(cls):
            define(Metric(name, "min", cls.unit, cls.label or name, "before", unmoved_by=NETWORK))

    def cost(self, network: ModelCost) -> float:
        """What one image costs, of the layers of `network`."""
        return float(self._built(network))

    def checked(self, network: ModelCost) -> float:
        """The same, which must be a finite number.

        Raises:
            ValueError: it is none.
        """
        cost = self.cost(network)
        if not isinstance(cost, float | int) or not math.isfinite(cost):  # a guest's own
            raise ValueError(f"cost model {self.name} must give a finite number, but got {cost}")
        return cost


class AceConfig(CostSettings):
    """Arithmetic computation effort: MACs * weight bits * activation bits, reals as bfloat16 (Zhang et al., 2022)."""

    label: ClassVar[str] = "arithmetic computation effort"

    name: Literal["ace"] = "ace"

    def cost(self, network: ModelCost) -> float:
        return float(network.bops + network.flops * ACE_REAL_BITS**2)


class EnergyConfig(CostSettings):
    """Energy of one inference in microjoules: its MACs, and the weights and activations that it moves.

    Weights are read once, batch norms folded. Activations are written once and read by each reader, as far as they are
    in memory: what works element by element does so as a value is made.

    The figures, in picojoules, are those of Horowitz, ISSCC 2014, at 45 nm and 0.9 V: float32 multiply 3.7, add 0.9;
    8-bit integer add 0.03, of which a binary MAC is counted as two bits' shares (XNOR, count; ours); 64 bits read from
    a memory of 1 MB 100 (weights), from one of 8 KB 10 (activations).

    Attributes:
        real_mac: one float32 multiply-accumulate.
        binary_mac: one XNOR and its share of the count.
        weight_bit: reading one bit of a weight.
        activation_bit: reading or writing one bit of an activation.
    """

    unit: ClassVar[str] = "uJ"

    name: Literal["energy"] = "energy"
    real_mac: Picojoules = 3.7 + 0.9
    binary_mac: Picojoules = 2 * 0.03 / 8
    weight_bit: Picojoules = 100 / 64
    activation_bit: Picojoules = 10 / 64

    def cost(self, network: ModelCost) -> float:
        weight_bits = sum(layer.folded_bits for layer in network.layers)
        picojoules = network.bops * self.binary_mac + network.flops * self.real_mac
        picojoules += weight_bits * self.weight_bit + network.moved_activation_bits * self.activation_bit
        return picojoules / 1e6


CostConfig = Annotated[CostSettings, COSTS]
"""A cost model; its bare name stands for its defaults."""
