"""What training costs: multiply-accumulates (MACs), each weighted by the bits of its operands.

A step makes up to three products for every MAC of a layer,

    forward                  b_w b_a
    gradient of the inputs   b_g b_w     where something before the layer is trained
    gradient of the weights  b_g b_a     where the layer is trained

relative to 3 * 32^2, the three of a MAC trained on 32 bits (the unit of Fu et al., 2021). The bits are those of what is
computed: 1 for signs, whatever grid lies below them; the precision's for relaxed weights and for gradients at the
outputs of binary layers, where it acts; the arithmetic's, 32 or 16, for everything else. A bit-width below a sign
changes no product, and so saves nothing.

The thesis (Fontana, 2022, section 5.3) credits its training with factors instead, all MACs alike: x4 for 8 bits instead
of 32, x1.3 for cyclic precision (a figure of Fu et al.), x2.36 for 254 epochs instead of 600; x12.3 in all. Its measure
is reported beside ours. It is no objective: below a sign it falls while nothing changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from bnnsearch.core.cost import REAL_BITS, LayerCost, ModelCost
from bnnsearch.core.methods.base import Seen
from bnnsearch.core.precision import CyclicPrecision

UNIT = 3 * REAL_BITS**2
"""Bit products of one MAC trained on 32 bits."""

THESIS_CYCLIC = 1.3
"""What the thesis credits cyclic precision with, whatever its range."""


@dataclass(frozen=True, slots=True)
class StepBits:
    """Bit-widths of a step's operands that are no signs.

    Attributes:
        real: of the arithmetic.
        weights: of relaxed weights.
        gradients: of gradients at the outputs of binary layers.
    """

    real: int = REAL_BITS
    weights: int = REAL_BITS
    gradients: int = REAL_BITS


def mac_products(weight: int, inputs: int, gradient: int, *, backward: tuple[bool, bool] = (True, True)) -> int:
    """Bit products of one MAC in a training step: whole numbers, whose sums do not depend on their order.

    Args:
        weight: bits of the weights.
        inputs: bits of the inputs.
        gradient: bits of the gradient at the output.
        backward: whether the gradients of inputs and of weights are computed.
    """
    to_inputs, to_weights = backward
    return weight * inputs + gradient * weight * to_inputs + gradient * inputs * to_weights


def step_products(cost: ModelCost, seen: Seen, bits: StepBits) -> int:
    """Bit products of a training step, per image.

    Args:
        cost: the network's.
        seen: what the forward pass sees of the binary weights.
        bits: the step's bit-widths.
    """
    return sum(layer.macs * _layer_products(layer, seen, bits) for layer in cost.layers if layer.macs)


def _layer_products(layer: LayerCost, seen: Seen, bits: StepBits) -> int:
    frozen = seen == "frozen"
    to_inputs = layer.follows_real or (layer.follows_binary and not frozen)
    inputs = 1 if layer.signed_inputs else bits.real
    if not layer.binary:
        return mac_products(bits.real, inputs, bits.real, backward=(to_inputs, layer.params > 0))
    weight = {"signs": 1, "frozen": 1, "relaxed": bits.weights, "mapped": bits.real}[seen]
    to_weights = layer.learns_frozen or not frozen
    return mac_products(weight, inputs, bits.gradients, backward=(to_inputs, to_weights))


def forward_products(cost: ModelCost, real: int) -> int:
    """Bit products of a forward pass, per image; `real` is the arithmetic's bits."""
    return sum((1 if each.binary else real) * (1 if each.signed_inputs else real) * each.macs for each in cost.layers)


def thesis_share(bits: float, *, cyclic: bool) -> float:
    """Cost of a training step by the thesis, relative to 32 bits.

    Args:
        bits: the largest bit-width; b bits cost b / 32.
        cyclic: whether the bit-width goes in cycles.
    """
    return bits / REAL_BITS / (THESIS_CYCLIC if cyclic else 1)


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """What steps of a run cost.

    Evaluation and the re-estimation of batch norm are not counted, and of a teacher its predictions, not its training.

    Attributes:
        network: the network's cost for an image.
        images: images of a step.
        steps: steps of the run.
        real: bits of the arithmetic, 32 or 16.
        precision: bit-widths of the run; None is none.
        teacher: cost of the network whose predictions every step needs; None is none.
    """

    network: ModelCost
    images: int
    steps: int
    real: int
    precision: CyclicPrecision | None = None
    teacher: ModelCost | None = None

    def of(self, seen: Seen, steps: range) -> dict[str, float]:
        """`train_bitops` and `train_cost_thesis` of some steps of the run, in effective 32-bit MACs.

        Args:
            seen: what the forward pass of these steps sees of the binary weights.
            steps: which of the run's.
        """
        bits = Counter(map(self._bits, steps))
        products = sum(step_products(self.network, seen, each) * count for each, count in bits.items())
        if self.teacher is not None:
            products += forward_products(self.teacher, self.real) * len(steps)
        return {
            "train_bitops": products * self.images / UNIT,
            "train_cost_thesis": self._thesis_share() * self.network.macs * self.images * len(steps),
        }

    def _bits(self, step: int) -> StepBits:
        if self.precision is None:
            return StepBits(self.real, self.real, self.real)
        weights, gradients = self.precision.step_bits(step, self.steps)
        return StepBits(self.real, min(weights, self.real), min(gradients, self.real))

    def _thesis_share(self) -> float:
        precision = self.precision
        if precision is None:
            return thesis_share(self.real, cyclic=False)
        return thesis_share(min(precision.highest, self.real), cyclic=precision.cycles)
