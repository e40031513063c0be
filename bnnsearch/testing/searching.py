"""Contracts of what decides in a search: samplers, which suggest configurations, and schedulers, which stop trials."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from bnnsearch.config.sampler import SamplerSettings
from bnnsearch.config.scheduler import SchedulerSettings
from bnnsearch.study.samplers import make_sampler
from bnnsearch.testing.rules import Rules

DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "share": FloatDistribution(0.0, 1.0),
    "width": IntDistribution(1, 64),
    "kind": CategoricalDistribution(("a", "b", "c")),
}


def check_sampler(settings: SamplerSettings, *, trials: int = 14) -> None:
    """A sampler suggests what the space allows, and the same trials and seed suggest the same.

    Args:
        settings: its settings.
        trials: recorded before the last suggestion.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("sampler", settings, SamplerSettings)
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: 1 + settings.several_objectives]
    with rules.doing("build"):
        make_sampler(settings, seed=1)

    def suggested(recorded: int, seed: int) -> dict[str, Any]:
        study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler(seed=5))
        for number in range(recorded):
            asked = study.ask(DISTRIBUTIONS)
            values = [asked.params["share"], asked.params["width"] * 1.0][: len(directions)]
            study.tell(asked, values if number % 5 else None, state=None if number % 5 else TrialState.FAIL)
        study.sampler = make_sampler(settings, seed=seed)
        with rules.doing("a suggestion"):
            return study.ask(DISTRIBUTIONS).params

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        for recorded in (0, trials):
            first = suggested(recorded, 7)
            for name, distribution in DISTRIBUTIONS.items():
                rules.hold(name in first, f"{name} must be suggested", sorted(first))
                inside = distribution._contains(distribution.to_internal_repr(first[name]))
                rules.hold(inside, f"{name} must lie in {distribution}", first[name])
            again = suggested(recorded, 7)
            rules.hold(again == first, f"after the same {recorded} trials a seed must suggest the same", (first, again))
    finally:
        optuna.logging.set_verbosity(verbosity)


def check_scheduler(settings: SchedulerSettings) -> None:
    """A scheduler compares trials before their ends, by their ranks alone, and the best at a rung always go on.

    Raises:
        AssertionError: a rule is broken.
    """
    rules = Rules.of("scheduler", settings, SchedulerSettings)

    def rungs(number: int, epochs: int) -> list[int]:
        with rules.doing("is_rung"):
            asked = range(1, epochs + 1)
            return [epoch for epoch in asked if settings.is_rung(number, epoch=epoch, epochs=epochs)]

    some = False
    for epochs in (1, 2, 5, 30, 100):
        for number in (0, 1, 2, 7):
            found = rungs(number, epochs)
            rules.hold(found == rungs(number, epochs), "rungs must be the same when asked again")
            rules.hold(epochs not in found, f"no trial of {epochs} epochs is compared after the last", found)
            early = [epoch for epoch in found if epoch < settings.grace]
            rules.hold(not early, f"grace is {settings.grace}, before which none is compared", early)
            some = some or bool(found)
            with rules.doing("bracket"):
                brackets = settings.bracket(number), settings.bracket(number)
            rules.hold(brackets[0] == brackets[1], "a trial must stay in its bracket", brackets)
    rules.hold(some == settings.compares, f"compares is {settings.compares}, so that rungs must say the same", some)
    if not some:
        return
    promotes = settings.promotes
    rules.hold(promotes is None or promotes >= 2, "promotes must be None or 2 and more", promotes)
    for count in (1, 2, 3, 10, 31):
        rivals = {number: (1.0 - place / count,) for place, number in enumerate(reversed(range(count)))}
        with rules.doing("survives"):
            going = [settings.survives(number, rivals) for number in rivals]
        rules.hold(bool(going[0]), f"the best of {count} must go on", going)
        ordered = going == sorted(going, reverse=True)
        rules.hold(ordered, f"of {count} none may go on that is behind one that is stopped", going)
