"""Contracts of the families: what every member keeps, one function for each; ours and guests are held to the same.

    from bnnsearch.testing import check_method

    def test_mine() -> None:
        check_method(MineConfig(sharpness=5))

Each raises an AssertionError of one line: which member, which rule, what was found. The digits are the data, so that a
check takes seconds. Nothing is loaded before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnnsearch.testing.data import check_augmentation as check_augmentation
    from bnnsearch.testing.data import check_data as check_data
    from bnnsearch.testing.networks import check_activation as check_activation
    from bnnsearch.testing.networks import check_cost as check_cost
    from bnnsearch.testing.networks import check_model as check_model
    from bnnsearch.testing.searching import check_sampler as check_sampler
    from bnnsearch.testing.searching import check_scheduler as check_scheduler
    from bnnsearch.testing.steps import check_metric as check_metric
    from bnnsearch.testing.steps import check_optimizer as check_optimizer
    from bnnsearch.testing.steps import check_schedule as check_schedule
    from bnnsearch.testing.training import check_evolution as check_evolution
    from bnnsearch.testing.training import check_method as check_method
    from bnnsearch.testing.training import check_trainer as check_trainer

_HOMES = {
    "data": ("check_augmentation", "check_data"),
    "networks": ("check_activation", "check_cost", "check_model"),
    "searching": ("check_sampler", "check_scheduler"),
    "steps": ("check_metric", "check_optimizer", "check_schedule"),
    "training": ("check_evolution", "check_method", "check_trainer"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  # all are names


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
