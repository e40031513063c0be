"""From a sampler's settings to Optuna's sampler."""

from __future__ import annotations

import warnings
from typing import assert_never

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

from bnnsearch.config.study import (
    CmaesConfig,
    GpConfig,
    GridConfig,
    Nsga2Config,
    Nsga3Config,
    RandomConfig,
    SamplerConfig,
    TpeConfig,
)


def make_sampler(config: SamplerConfig, *, seed: int) -> BaseSampler:
    """The sampler for one suggestion.

    The ledger makes a new one for each trial, seeded by that trial: what is suggested then depends on the trials
    recorded and on nothing else, so that a search that was interrupted goes on as if it had not been.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # Optuna's word for what has been in use for years
        return _make_sampler(config, seed)


def _make_sampler(config: SamplerConfig, seed: int) -> BaseSampler:
    match config:
        case TpeConfig():
            return TPESampler(
                n_startup_trials=config.startup_trials, multivariate=True, group=True, constant_liar=True, seed=seed
            )
        case Nsga2Config():
            return NSGAIISampler(population_size=config.population, seed=seed)
        case Nsga3Config():
            return NSGAIIISampler(population_size=config.population, seed=seed)
        case GpConfig():
            return GPSampler(n_startup_trials=config.startup_trials, warn_independent_sampling=False, seed=seed)
        case CmaesConfig():
            return CmaEsSampler(n_startup_trials=config.startup_trials, warn_independent_sampling=False, seed=seed)
        case RandomConfig() | GridConfig():  # the ledger enqueues the grid's points
            return RandomSampler(seed=seed)
        case _:
            assert_never(config)
