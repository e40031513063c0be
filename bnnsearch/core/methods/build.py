"""From a method's settings to the phases of a run."""

from __future__ import annotations

from typing import assert_never

from bnnsearch.config.method import (
    BmdConfig,
    BnewConfig,
    Bop2Config,
    BopConfig,
    GradientMethod,
    ProxquantConfig,
    SteConfig,
    method_epochs,
)
from bnnsearch.config.optimizer import OptimizerConfig
from bnnsearch.core.methods.base import Phase
from bnnsearch.core.methods.bmd import build_bmd
from bnnsearch.core.methods.bnew import Bnew
from bnnsearch.core.methods.bop import Bop
from bnnsearch.core.methods.proxquant import Proxquant
from bnnsearch.core.methods.relaxed import Frozen, Relaxed
from bnnsearch.core.methods.ste import Ste


def build_phases(method: GradientMethod, optimizer: OptimizerConfig, *, epochs: int) -> tuple[Phase, ...]:
    """The phases of a run of `epochs`, those without epochs left out.

    Raises:
        ValueError: the phases before and after leave no epoch to the method itself.
    """
    own = method_epochs(method, epochs)
    phases = (
        Phase("pretrain", method.pretrain_epochs, Relaxed(optimizer), hands_on=method.pretrained),
        *_own_phases(method, optimizer, own),
    )
    return tuple(phase for phase in phases if phase.epochs > 0)


def _own_phases(method: GradientMethod, optimizer: OptimizerConfig, epochs: int) -> tuple[Phase, ...]:
    match method:
        case SteConfig():
            return (Phase(method.own_phase, epochs, Ste(method, optimizer)),)
        case BopConfig() | Bop2Config():
            return (Phase(method.own_phase, epochs, Bop(method)),)
        case BmdConfig():
            own = Phase(method.own_phase, epochs, build_bmd(method, optimizer))
        case ProxquantConfig():
            own = Phase(method.own_phase, epochs, Proxquant(method, optimizer))
        case BnewConfig():
            own = Phase(method.own_phase, epochs, Bnew(method, optimizer), until_binary=method.until_binary)
        case _:
            assert_never(method)
    return (own, Phase("finetune", method.finetune_epochs, Frozen()))
