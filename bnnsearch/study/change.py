"""Which trials of a study lie in another space: each draw has a place there, and means what it meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import create_trial

from bnnsearch.config.guests import files_told
from bnnsearch.errors import InputError
from bnnsearch.past import GUESTS
from bnnsearch.record import SESSION, Event, Record
from bnnsearch.results import TrialState
from bnnsearch.space import SearchSpace, Space, space_of
from bnnsearch.space.distribution import Distribution
from bnnsearch.space.node import resolve
from bnnsearch.space.tree import Tree
from bnnsearch.study.ledger import Distributions, queued_by


def outside(record: Record, old: Space, space: Space) -> list[int]:
    """Numbers of the trials of a record, in whatever state, that do not lie in `space`, ascending.

    Args:
        record: what has happened.
        old: the space so far.
        space: the one from here on.

    Raises:
        InputError: whether it is kept cannot be said of a constraint, for trials do not have its metric.
    """
    origin, text = old.trial, old.text  # where the record has lost its beginning
    drawn: dict[int, tuple[Mapping[str, Any], SearchSpace]] = {}
    for event in record.events((SESSION, "queued", "confirmation", "asked", "ended")):
        if event["event"] == SESSION and event["space"] != text:
            text, origin = event["space"], _space_of(event, old.path)
        for queued in (event,) if event["event"] == "queued" else queued_by(event):
            drawn[queued["number"]] = queued["params"], origin
        if event["event"] == "asked":
            drawn[event["number"]] = event["params"], origin
        elif event["event"] == "ended":
            drawn.setdefault(event["number"], (event["params"], origin))
            _check_metrics(event, space)
    return [number for number, (params, own) in sorted(drawn.items()) if not _lies_in(space.trial, params, own)]


def _space_of(session: Event, path: Path) -> SearchSpace:
    return space_of(session["space"].encode(), path, guests=files_told(session.get(GUESTS, []))).trial


def _check_metrics(ended: Event, space: Space) -> None:
    if ended["state"] != TrialState.COMPLETE:
        return
    for constraint in space.study.constraints:
        if constraint.metric not in ended["metrics"]:
            has = ", ".join(sorted(ended["metrics"]))
            raise InputError(
                f"{space.path}: constraints: trials that have ended must tell if they keep a new constraint, but trial "
                f"{ended['number']} has no {constraint.metric}; it has: {has}"
            )


def _lies_in(space: SearchSpace, params: Mapping[str, Any], origin: SearchSpace) -> bool:
    found = Distributions(params)
    try:
        values = _values(space, found)
        distributions = {name: found.found[name] for name in params}
        create_trial(
            value=0.0, params=dict(params), distributions=distributions
        )  # the bounds, which draws are moved to
        return values == _values(origin, Distributions(params)) and space.allows(space.config_of(params))
    except (KeyError, ValueError, TypeError):
        return False


def _values(space: SearchSpace, draws: Distributions) -> dict[str, str]:
    """What draws come to in a space, by name, as text: 1 is not true."""
    values = {}

    def pick(name: str, distribution: Distribution) -> Tree:
        drawn = distribution.draw(draws, name)
        values[name] = repr(drawn.plain)
        return drawn

    resolve(space.root, pick)
    return values
