"""The phases of a run: pretraining, the method's own, fine-tuning."""

from __future__ import annotations

from bnnsearch.config.method import GradientMethod, method_epochs
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.methods.base import Phase
from bnnsearch.core.methods.relaxed import Frozen, Relaxed


def build_phases(method: GradientMethod, optimizer: OptimizerSettings, *, epochs: int) -> tuple[Phase, ...]:
    """The phases of a run of `epochs`, those without epochs left out.

    Raises:
        ValueError: the phases before and after leave no epoch to the method itself.
    """
    own = method_epochs(method, epochs)
    phases = (
        Phase("pretrain", method.pretrain_epochs, Relaxed(optimizer), hands_on=method.pretrained),
        Phase(method.own_phase, own, method.build(optimizer), until_binary=method.ends_at),
        Phase("finetune", method.frozen_epochs, Frozen()),
    )
    return tuple(phase for phase in phases if phase.epochs > 0)
