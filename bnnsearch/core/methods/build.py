"""The phases of a run: pretraining, the method's own, fine-tuning."""

from __future__ import annotations

from bnnsearch.config.method import GradientMethod, method_epochs
from bnnsearch.config.optimizer import OptimizerSettings
from bnnsearch.core.methods.base import Phase, Staged
from bnnsearch.core.methods.relaxed import Frozen, Relaxed


def build_phases(method: GradientMethod, optimizer: OptimizerSettings, *, epochs: int) -> tuple[Phase, ...]:
    """The phases of a run of `epochs`, those without epochs left out.

    Raises:
        ValueError: the phases before and after leave no epoch to the method itself.
    """
    phases = (
        Phase("pretrain", method.pretrain_epochs, Relaxed(optimizer), hands_on=method.pretrained),
        *_own_phases(method, optimizer, method_epochs(method, epochs)),
        Phase("finetune", method.frozen_epochs, Frozen()),
    )
    return tuple(phase for phase in phases if phase.epochs > 0)


def _own_phases(method: GradientMethod, optimizer: OptimizerSettings, epochs: int) -> tuple[Phase, ...]:
    built = method.build(optimizer)
    if not isinstance(built, Staged):
        own = Phase(method.own_phase, epochs, built, until_binary=method.ends_at, two_valued=method.two_valued)
        return (own,)
    first = min(round(built.share * epochs), epochs - 1)
    return (
        Phase(built.name, first, built.first, hands_on=built.hands_on),
        Phase(method.own_phase, epochs - first, built.second, two_valued=method.two_valued),
    )
