"""Samplers of OptunaHub: code that comes from the network, or from a folder laid out like its registry."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from types import ModuleType

from optuna.samplers import BaseSampler

from bnnsearch.config.sampler import HubConfig
from bnnsearch.errors import EnvironmentProblem, InputError, printable


def build_hub(config: HubConfig, seed: int) -> BaseSampler:
    """The sampler that a package of OptunaHub describes.

    Raises:
        InputError: the package has no such class, or it does not take these settings.
        EnvironmentProblem: `optunahub` is not installed, or the package cannot be loaded.
    """
    kind = _kind(config)
    given = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    try:
        return kind(**given, **config.settings)
    except Exception as error:  # a stranger's code may raise whatever it likes
        raise InputError(f"sampler.settings: {kind.__name__} of {config.package} does not take them: "
                         f"{_line(error)}") from error  # fmt: skip


def _kind(config: HubConfig) -> type[BaseSampler]:
    module = _package(config.package, config.ref, config.local)
    kinds = {
        name: each
        for name in getattr(module, "__all__", vars(module))
        if inspect.isclass(each := getattr(module, name, None))
        and issubclass(each, BaseSampler)
        and each.__module__.startswith(module.__name__)
    }
    wanted = config.sampler or (next(iter(kinds)) if len(kinds) == 1 else "")
    if wanted not in kinds:
        known = ", ".join(kinds) or "none"
        raise InputError(f"sampler.sampler must be a sampler of {config.package}, but got {wanted or None}; "
                         f"allowed: {known}")  # fmt: skip
    return kinds[wanted]


@cache
def _package(package: str, ref: str | None, local: str | None) -> ModuleType:
    """The package's module, loaded once."""
    try:
        import optunahub
    except ImportError as error:
        raise EnvironmentProblem("sampler hub needs the package optunahub: pip install 'bnnsearch[hub]'") from error
    try:
        if local is not None:
            module: ModuleType = optunahub.load_local_module(package, registry_root=str(Path(local).expanduser()))
        else:
            module = optunahub.load_module(package, ref=ref or "main")
    except Exception as error:  # a stranger's code, and what a network may come to
        where = "OptunaHub" if local is None else local
        raise EnvironmentProblem(f"sampler.package {package} cannot be loaded from {where}: {_line(error)}") from error
    return module


def _line(error: Exception) -> str:
    return printable((str(error).splitlines() or [""])[0] or type(error).__name__)
