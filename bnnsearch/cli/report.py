"""`bnnsearch report`: the page of one search, or the fronts of several in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bnnsearch.cli import options
from bnnsearch.errors import EnvironmentProblem, StudyInUse
from bnnsearch.folder import find_study_folder
from bnnsearch.invocation import command
from bnnsearch.terminal.output import say, write_event

if TYPE_CHECKING:
    from bnnsearch.folder import StudyFolder
    from bnnsearch.tracking.tracker import Tracker


@click.command()
@click.argument("studies", metavar="[STUDY]...", type=options.FOLDER, nargs=-1)
@options.runs
@options.output("comparison.html", "The file to write, of several studies.")
@click.option(
    "--network", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="MODEL",
    help="A packed model to try in the report of one study.",
)  # fmt: skip
@options.as_json
def report(studies: tuple[Path, ...], runs: Path, out: Path, network: Path | None, as_json: bool) -> None:
    """Write the report of a finished, running or interrupted search into its folder; of several, compare their fronts.

    Example: bnnsearch report runs/digits_quickstart/*
    """
    if len(studies) > 1:
        if network is not None:
            raise click.UsageError("--network is for the report of one study")
        _compare([find_study_folder(study, study.parent) for study in studies], out, as_json=as_json)
    else:
        _report(find_study_folder(studies[0] if studies else None, runs), network, as_json=as_json)


def _report(folder: StudyFolder, network: Path | None, *, as_json: bool) -> None:
    """Write it anew, from what is in the folder; send MLflow what it has not got."""
    from bnnsearch.cluster.placement import is_remote
    from bnnsearch.past import read_past
    from bnnsearch.record import held, original
    from bnnsearch.tracking.ids import study_store
    from bnnsearch.tracking.report import PAGE, write_report
    from bnnsearch.tracking.tracker import deliver_rest, is_complete

    past = read_past(folder)
    say(*filter(None, [past.damage]), err=True)
    page = str(write_report(folder, past.space.study, _page_of(network) if network else None) / PAGE)
    if as_json:
        write_event("report", study=str(folder.path), file=page)
    else:
        say(page)
    copied = original(folder) is not None and not is_remote(folder)  # of a search elsewhere the folder here is a copy
    if not copied and not is_complete(folder, study_store(past.space.study, folder)):
        with suppress(StudyInUse), held(folder):  # a search that runs delivers by itself
            _check_delivered(folder, deliver_rest(past.space.study, folder), as_json=as_json)


def _page_of(network: Path) -> str:
    from bnnsearch.device.page import page_html
    from bnnsearch.packed.model import PackedModel

    return page_html(PackedModel.load(network))[0]


def _check_delivered(folder: StudyFolder, sent: Tracker, *, as_json: bool) -> None:
    """Raise an `EnvironmentProblem` where MLflow has not got everything."""
    say(*filter(None, [sent.notice]), err=as_json)
    store, again = sent.store.shown, f"`{command('report', folder.path)}`"
    if sent.undelivered:
        raise EnvironmentProblem(f"{store}: {sent.undelivered} updates were not delivered; {again} sends them")
    if sent.refused:
        raise EnvironmentProblem(f"{store}: refused {sent.refused} updates; {folder.path} holds what they tell")
    if not sent.complete:
        raise EnvironmentProblem(f"{store}: the runs could not be brought up to date; try {again} again")


def _compare(folders: Sequence[StudyFolder], out: Path, *, as_json: bool) -> None:
    from bnnsearch.past import read_past
    from bnnsearch.tracking.comparison import write_comparison

    for each in write_comparison([(folder, read_past(folder).space.study) for folder in folders], out):
        finished, on_front = len(each.front.candidates), len(each.front.results)
        if as_json:
            write_event("front", name=each.name, hypervolume=each.hypervolume, trials=sorted(each.front.numbers))
        else:
            told = f"{on_front} of {finished} finished trials on the front"
            say(f"{each.name}: hypervolume {each.hypervolume:.4f}, {told}")
    if as_json:
        write_event("comparison", file=str(out))
    else:
        say(str(out))
