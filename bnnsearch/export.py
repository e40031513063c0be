"""From a study to `best.yaml`: one selected trial as a file that `bnnsearch train` takes, with where it came from.

The file is the trial's whole `TrialConfig` tree, every default written out, and one more key, `provenance`, which
`load_trial` takes off again: what is trained is exactly the tree.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from bnnsearch import __version__
from bnnsearch.config.base import Settings
from bnnsearch.config.guests import keep_guests
from bnnsearch.config.study import Objective, TrackingConfig
from bnnsearch.config.trial import AnyTrial, kind_of, trial_of
from bnnsearch.errors import InputError
from bnnsearch.files import read_regular, write_whole
from bnnsearch.pareto import Limit, ParetoFront
from bnnsearch.results import Spread, TrialResult, TrialState, by_number
from bnnsearch.space.check import model_problems
from bnnsearch.space.guests import used
from bnnsearch.space.override import fill_variables
from bnnsearch.space.reader import MAX_BYTES, read_tree
from bnnsearch.space.tree import Problem, SpaceError, holds_credentials, quoted
from bnnsearch.space.writer import write_yaml

PROVENANCE = "provenance"


class Provenance(Settings):
    """Where an exported configuration came from.

    Attributes:
        study: name of the study.
        search_id: its folder's name and its runs' tag in MLflow.
        trial: number of the trial.
        selected: how it was chosen, in words.
        expected: metric to value; `val_acc` is on the validation split. What the trial measured; or, where the search
            confirmed it or it was repeated for the export, the mean over the repeats alone: the best of many trials
            owes part of its value to luck.
        deviation: standard deviation over the same, where there are two or more.
        repeats: how often the trial was repeated with other seeds.
        run_id: the trial's run in MLflow, where it was tracked.
        tracking: where that is; `bnnsearch train` records there too.
        versions: package to version, those the export ran with.
        exported: when, UTC.
    """

    study: str
    search_id: str
    trial: int
    selected: str = ""
    expected: Mapping[str, float] = {}
    deviation: Mapping[str, float] = {}
    repeats: int = 0
    run_id: str | None = None
    tracking: TrackingConfig = TrackingConfig()
    versions: Mapping[str, str] = {}
    exported: str = ""

    @field_validator("tracking")
    @classmethod
    def _without_credentials(cls, tracking: TrackingConfig) -> TrackingConfig:
        """A URI with a password came from a variable, and is left to the environment again."""
        secret = tracking.uri is not None and holds_credentials(tracking.uri)
        return tracking.model_copy(update={"uri": None}) if secret else tracking


@dataclass(frozen=True, slots=True)
class Selection:
    """Which trial to take.

    Attributes:
        by: the `knee` of the front, the `best` in `metric`, or the `trial` with `number`.
        metric: for `best`; None is the first objective.
        number: for `trial`.
        where: limits that must hold, such as `memory_bytes<=20000`.
    """

    by: Literal["knee", "best", "trial"] = "knee"
    metric: str | None = None
    number: int | None = None
    where: Sequence[str] = ()

    def describe(self, objectives: Sequence[Objective]) -> str:
        """The selection in words."""
        chosen = {
            "knee": "knee of the front",
            "best": f"best {self.metric or objectives[0].metric}",
            "trial": "by its number",
        }[self.by]
        return chosen + (f" with {' and '.join(self.where)}" if self.where else "")


def select_trial(
    results: Sequence[TrialResult], objectives: Sequence[Objective], selection: Selection = Selection()
) -> TrialResult:
    """The selected trial.

    Raises:
        InputError: no such trial, or it may not be selected, or none is within the limits (the nearest is named).
    """
    limits = [Limit.parse(text) for text in selection.where]
    if selection.by != "trial":
        return ParetoFront.of(results, objectives).select(selection.by, metric=selection.metric, where=limits)
    result = by_number(results).get(-1 if selection.number is None else selection.number)
    if result is None:
        ended = f"; the last is trial {results[-1].number}" if results else ", and none has ended"
        raise InputError(f"the study has no ended trial {selection.number}{ended}")
    if result.confirms is not None:
        raise InputError(f"trial {result.number} repeats trial {result.confirms} with another seed; take that one")
    if result.state is not TrialState.COMPLETE:
        reason = f" ({result.reason})" if result.reason else ""
        raise InputError(f"only complete trials can be exported, but trial {result.number} is {result.state}{reason}")
    if not result.feasible:
        broken = ", ".join(f"{name} by {by:g}" for name, by in result.violations.items() if by > 0)
        raise InputError(f"trial {result.number} is outside the study's constraints: {broken}")
    repeats = [each for each in results if each.confirms == result.number]
    return ParetoFront.of([result, *repeats], objectives).select(where=limits)


def export_best(
    results: Sequence[TrialResult],
    objectives: Sequence[Objective],
    *,
    selection: Selection,
    provenance: Provenance,
    path: Path,
    use: Sequence[str] = (),
) -> TrialResult:
    """Write the selected trial to `path`, replacing it in one step.

    Args:
        results: ended trials of one study.
        objectives: its objectives.
        selection: which trial.
        provenance: `study` and `search_id`, and where they are known `run_id` and what `repeated` found; the rest is
            filled in.
        path: the YAML file to write; its folder is made where missing.
        use: the guests that the configuration names; files among them are written beside it.

    Returns:
        The trial that was selected.

    Raises:
        InputError: as `select_trial`; or another file lies where one that is used must lie.
        EnvironmentProblem: `path` cannot be written.
    """
    result = select_trial(results, objectives, selection)
    if not provenance.repeats and (confirmed := ParetoFront.of(results, objectives).confirmed.get(result.number)):
        provenance = provenance.model_copy(update={"repeats": confirmed.seeds, "deviation": confirmed.deviation})
    whole = provenance.model_copy(
        update={
            "trial": result.number,
            "selected": selection.describe(objectives),
            "expected": {**result.metrics, **provenance.expected},
            "versions": installed_versions(),
            "exported": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    shown = dict.fromkeys([*(objective.metric for objective in objectives), *sorted(result.metrics)])
    config = trial_of({**result.config, "use": use})
    write_whole(path, trial_yaml(config, whole, metrics=list(shown)).encode())
    keep_guests(use, path.parent)
    return result


def repeated(
    provenance: Provenance, config: AnyTrial, *, repeats: int, train: Callable[[AnyTrial], Mapping[str, float]]
) -> Provenance:
    """`provenance` with the results of the configuration on other seeds: those that follow its own.

    Args:
        provenance: of the selected trial.
        config: what is trained; its seed must be set.
        repeats: how often, at least once.
        train: trains to the end and returns the last epoch's metrics.
    """
    assert config.seed is not None, "a trial's seed is set before it starts"
    runs = [train(config.model_copy(update={"seed": config.seed + repeat})) for repeat in range(1, repeats + 1)]
    found = Spread.over(runs)
    return provenance.model_copy(
        update={
            "repeats": repeats,
            "expected": {name: spread.mean for name, spread in found.items()},
            "deviation": {name: spread.deviation for name, spread in found.items() if spread.deviation is not None},
        }
    )


def installed_versions() -> dict[str, str]:
    """Versions of what decides a training run's outcome."""
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return {"bnnsearch": __version__, "python": platform.python_version(), **packages}


def trial_yaml(config: AnyTrial, provenance: Provenance, *, metrics: Sequence[str]) -> str:
    """The file's text; `metrics` names the expected metrics in the order they are written."""
    expected = {name: provenance.expected[name] for name in metrics if name in provenance.expected}
    header = [
        f"Trial {provenance.trial} of the study {provenance.study} ({provenance.search_id}), {provenance.selected}.",
        f"Expected: {', '.join(_expected_text(name, expected, provenance.deviation) for name in expected)}.",
        f"Exported {provenance.exported} with bnnsearch {provenance.versions.get('bnnsearch', '?')}.",
        "Train it with: bnnsearch train THIS_FILE",
    ]
    deviation = {name: provenance.deviation[name] for name in expected if name in provenance.deviation}
    origin = provenance.model_copy(update={"expected": expected, "deviation": deviation})
    tree = _names_first(config.model_dump(mode="json")) | {PROVENANCE: origin.model_dump(mode="json")}
    return "".join(f"# {' '.join(line.split())}\n" for line in header) + "\n" + write_yaml(tree)


def _expected_text(name: str, expected: Mapping[str, float], deviation: Mapping[str, float]) -> str:
    spread = f" +- {deviation[name]:.2g}" if name in deviation else ""
    return f"{name} {expected[name]:.6g}{spread}"


def _names_first(tree: Any) -> Any:
    """`tree` with every `name` before the settings that it decides about."""
    if not isinstance(tree, dict):
        return tree
    return {key: _names_first(tree[key]) for key in sorted(tree, key=lambda key: key != "name")}


def load_trial(path: Path) -> tuple[AnyTrial, Provenance | None]:
    """Read a training run's file: an exported one, or a `TrialConfig` tree written by hand (no provenance).

    Raises:
        InputError: the file is missing, or wrong; one `file:line:col: rule` line for each problem.
    """
    try:
        data = read_regular(path, most=MAX_BYTES)
    except (OSError, ValueError) as error:  # a ValueError where the name holds a NUL
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    tree = read_tree(data, str(path))
    if not isinstance(tree.value, dict):
        raise SpaceError([Problem(tree.mark, f"a training run is a mapping of settings, but got {quoted(tree.plain)}")])
    if {"objectives", "trial"} & tree.mapping.keys():
        rule = "this is a space to search, by `run`; what is trained is one configuration of it, which `export` writes"
        raise SpaceError([Problem(tree.mark, rule)])
    problems: list[Problem] = []
    tree = fill_variables(tree, os.environ, problems)
    used(tree, path.parent)
    origin = tree.mapping.get(PROVENANCE)
    problems += [problem for _, problem in model_problems(kind_of(tree.mapping), tree, beside=(PROVENANCE,))]
    if origin is not None:
        problems += [problem for _, problem in model_problems(Provenance, origin, prefix=PROVENANCE)]
    if problems:
        raise SpaceError(problems)
    settings = tree.plain
    settings.pop(PROVENANCE, None)
    return trial_of(settings), None if origin is None else Provenance.model_validate(origin.plain)
