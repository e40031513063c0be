"""Optuna's samplers, from their settings."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from bnnsearch.config.sampler import (
    AutoConfig,
    CmaesConfig,
    GpConfig,
    Nsga2Config,
    Nsga3Config,
    SamplerSettings,
    TpeConfig,
)

# Optuna's word for what has been in use for years. Here as well as below: what a thread filters for a while is undone
# when another's while ends.
warnings.simplefilter("ignore", ExperimentalWarning)


def make_sampler(config: SamplerSettings, *, seed: int) -> BaseSampler:
    """The sampler for one suggestion.

    The ledger makes a new one for each trial, seeded by that trial: what is suggested then depends on the trials
    recorded and on nothing else, so that a search that was interrupted goes on as if it had not been.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return config.build(seed)


def build_tpe(config: TpeConfig, seed: int) -> BaseSampler:
    """Joint suggestions, within branches too; trials that run count as bad, so that workers spread."""
    startup = config.startup_trials
    return TPESampler(n_startup_trials=startup, multivariate=True, group=True, constant_liar=True, seed=seed)


def build_auto(config: AutoConfig, seed: int) -> BaseSampler:
    """See `bnnsearch.study.auto`."""
    from bnnsearch.study.auto import AutoSampler

    other = build_tpe(TpeConfig(startup_trials=config.startup_trials), seed)
    return AutoSampler(startup=config.startup_trials, other=other, seed=seed)


def build_nsga2(config: Nsga2Config, seed: int) -> BaseSampler:
    """See `Nsga2Config`."""
    return NSGAIISampler(population_size=config.population, seed=seed)


def build_nsga3(config: Nsga3Config, seed: int) -> BaseSampler:
    """See `Nsga3Config`."""
    return NSGAIIISampler(population_size=config.population, seed=seed)


def build_gp(config: GpConfig, seed: int) -> BaseSampler:
    """See `GpConfig`."""
    return GPSampler(n_startup_trials=config.startup_trials, warn_independent_sampling=False, seed=seed)


def build_cmaes(config: CmaesConfig, seed: int) -> BaseSampler:
    """See `CmaesConfig`."""
    return CmaEsSampler(n_startup_trials=config.startup_trials, warn_independent_sampling=False, seed=seed)


def build_random(_: SamplerSettings, seed: int) -> BaseSampler:
    """Independent draws."""
    return RandomSampler(seed=seed)
