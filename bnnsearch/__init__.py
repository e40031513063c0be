"""bnnsearch: find the best binary neural network for an accuracy and hardware budget.

    import bnnsearch as bn

    study = bn.search("space.yaml", trials=24)
    best = study.best(where=["memory_bytes<=10000"])
    run = bn.train(best, "trained")
    model = bn.pack(run, "model.bnn")
    model.predict(images)

Nothing is loaded before it is asked for.
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
