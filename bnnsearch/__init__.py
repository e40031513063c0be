"""bnnsearch: find the best binary neural network for an accuracy and hardware budget.

    import bnnsearch as bn

    study = bn.search("space.yaml", trials=24)
    best = study.best(where=["memory_bytes<=10000"])
    run = bn.train(best, "trained")
    model = bn.pack(run, "model.bnn")
    model.predict(images)

What members of one's own derive from, `bn.GradientMethod` and the like, is here too: see docs/guests.md. Nothing is
loaded before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnsearch.api import Configuration as Configuration
    from bnnsearch.api import Run as Run
    from bnnsearch.api import Study as Study
    from bnnsearch.api import choice as choice
    from bnnsearch.api import load_space as load_space
    from bnnsearch.api import lograndint as lograndint
    from bnnsearch.api import loguniform as loguniform
    from bnnsearch.api import pack as pack
    from bnnsearch.api import randint as randint
    from bnnsearch.api import search as search
    from bnnsearch.api import train as train
    from bnnsearch.api import uniform as uniform
    from bnnsearch.config.activation import ActivationSettings as ActivationSettings
    from bnnsearch.config.cost import CostSettings as CostSettings
    from bnnsearch.config.data import AugmentationSettings as AugmentationSettings
    from bnnsearch.config.data import DataSettings as DataSettings
    from bnnsearch.config.evolution import EvolutionMethod as EvolutionMethod
    from bnnsearch.config.measure import MeasureSettings as MeasureSettings
    from bnnsearch.config.method import GradientMethod as GradientMethod
    from bnnsearch.config.method import GradualMethod as GradualMethod
    from bnnsearch.config.metrics import Metric as Metric
    from bnnsearch.config.model import ActivatedSettings as ActivatedSettings
    from bnnsearch.config.model import BinarySettings as BinarySettings
    from bnnsearch.config.optimizer import OptimizerSettings as OptimizerSettings
    from bnnsearch.config.plan import ScheduleSettings as ScheduleSettings
    from bnnsearch.config.sampler import SamplerSettings as SamplerSettings
    from bnnsearch.config.scheduler import SchedulerSettings as SchedulerSettings
    from bnnsearch.config.trainer import FunctionSettings as FunctionSettings
    from bnnsearch.config.trainer import LightningSettings as LightningSettings
    from bnnsearch.config.trainer import TrainerSettings as TrainerSettings
    from bnnsearch.errors import EnvironmentProblem as EnvironmentProblem
    from bnnsearch.errors import InputError as InputError
    from bnnsearch.packed.model import PackedModel as PackedModel
    from bnnsearch.space import Space as Space
    from bnnsearch.space import SpaceError as SpaceError

__version__ = "0.1.0"

_HOMES = {
    "bnnsearch.api": (
        "Configuration", "Run", "Study", "choice", "load_space", "lograndint", "loguniform", "pack", "randint",
        "search", "train", "uniform",
    ),
    "bnnsearch.config.activation": ("ActivationSettings",),
    "bnnsearch.config.cost": ("CostSettings",),
    "bnnsearch.config.data": ("AugmentationSettings", "DataSettings"),
    "bnnsearch.config.evolution": ("EvolutionMethod",),
    "bnnsearch.config.measure": ("MeasureSettings",),
    "bnnsearch.config.method": ("GradientMethod", "GradualMethod"),
    "bnnsearch.config.metrics": ("Metric",),
    "bnnsearch.config.model": ("ActivatedSettings", "BinarySettings"),
    "bnnsearch.config.optimizer": ("OptimizerSettings",),
    "bnnsearch.config.plan": ("ScheduleSettings",),
    "bnnsearch.config.sampler": ("SamplerSettings",),
    "bnnsearch.config.scheduler": ("SchedulerSettings",),
    "bnnsearch.config.trainer": ("FunctionSettings", "LightningSettings", "TrainerSettings"),
    "bnnsearch.errors": ("EnvironmentProblem", "InputError"),
    "bnnsearch.packed.model": ("PackedModel",),
    "bnnsearch.space": ("Space", "SpaceError"),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604  # all are names


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
