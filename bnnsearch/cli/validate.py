"""`bnnsearch validate`: is a space right, and what does it hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.space import Space


@click.command()
@options.space
@options.overrides
@options.as_json
def validate(space: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check SPACE and say what it holds; trains nothing.

    Example: bnnsearch validate spaces/digits_quickstart.yaml
    """
    from bnnsearch.space import load_space

    loaded = load_space(space, overrides=overrides, begins=True)
    _check_network(loaded)
    if not as_json:
        say(*loaded.describe())
        return
    parameters = [
        {"name": each.name, "distribution": each.distribution.describe(), "where": dict(each.condition)}
        for each in loaded.trial.parameters()
    ]
    write_event(
        "valid", space=str(space), study=loaded.study.name, configurations=loaded.trial.size(), parameters=parameters,
        uses=[each.entry for each in loaded.guests], warnings=loaded.warnings,
    )  # fmt: skip


def _check_network(space: Space) -> None:
    """See that the network of the trial of all defaults has what the study measures of packed ones.

    Raises:
        InputError: it cannot be packed, or cannot run on a device; it is named.
    """
    from bnnsearch.config.metrics import MEASURED, ON_DEVICE

    study = space.study
    watched = {each.metric for each in study.objectives} | {each.metric for each in study.constraints}
    names = sorted(MEASURED & watched)
    if not names:
        return
    from bnnsearch.config.trial import trial_of
    from bnnsearch.deploy import unpackable
    from bnnsearch.errors import InputError

    config = trial_of({**space.trial.defaults(), "seed": study.seed})
    if (problem := unpackable(config, device=not ON_DEVICE.isdisjoint(names))) is not None:
        raise InputError(f"{space.path}: {', '.join(names)} of the trial of all defaults: {problem}")
