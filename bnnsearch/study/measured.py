"""Whether the network of a space has what its study measures of packed ones."""

from __future__ import annotations

from bnnsearch.config.metrics import ON_DEVICE
from bnnsearch.config.trial import trial_of
from bnnsearch.errors import InputError
from bnnsearch.space import Space


def check_measured(space: Space) -> None:
    """See, before anything begins, that the network of the trial of all defaults can be packed, or run on a device.

    Of other trials it is known when they are drawn: each says so before it trains.

    Raises:
        InputError: the study watches a metric that needs it, and it cannot; both are named.
    """
    study = space.study
    if not study.measured:
        return
    from bnnsearch.deploy import unpackable  # loads torch

    config = trial_of({**space.trial.defaults(), "seed": study.seed})
    if (problem := unpackable(config, device=not ON_DEVICE.isdisjoint(study.measured))) is not None:
        names = ", ".join(sorted(study.measured))
        raise InputError(f"{space.path}: {names} of the trial of all defaults: {problem}")
