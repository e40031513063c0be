"""The public functions: a search from Python or a notebook, with the objects that the command line uses too.

import bnnsearch as bn

study = bn.search({"version": 1, ..., "trial": {..., "optimizer": {"name": "adam", "lr": bn.loguniform(1e-3, 0.1)}}})
study.front                              # a pandas table
run = bn.train(study.best(by="val_acc"), "trained")
bn.pack(run, "model.bnn").predict(images)
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from bnnsearch import space as spaces
from bnnsearch.config.trial import AnyTrial, trial_of
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.folder import StudyFolder, find_study_folder
from bnnsearch.pareto import ParetoFront
from bnnsearch.past import Past, read_past
from bnnsearch.results import TrialResult
from bnnsearch.space import Space, space_of
from bnnsearch.space.reader import read_tree
from bnnsearch.space.writer import write_yaml

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pandas

    from bnnsearch.packed.model import PackedModel
    from bnnsearch.study.executor import Executors
    from bnnsearch.study.study import HeldStudy
    from bnnsearch.training import Trained

Source = Space | str | Path | Mapping[str, Any]
"""A space, its file, or the same as a mapping, in which settings may be objects."""


def choice(values: Sequence[Any]) -> dict[str, Any]:
    """One of `values`."""
    return {"type": "choice", "values": list(values)}


def uniform(low: float, high: float, *, step: float | None = None) -> dict[str, Any]:
    """A number in [low, high]."""
    return _number("uniform", low, high, step)


def loguniform(low: float, high: float) -> dict[str, Any]:
    """A number in [low, high], every order of magnitude being as likely."""
    return _number("loguniform", low, high, None)


def randint(low: int, high: int, *, step: int | None = None) -> dict[str, Any]:
    """A whole number in [low, high]."""
    return _number("randint", low, high, step)


def lograndint(low: int, high: int) -> dict[str, Any]:
    """A whole number in [low, high], every order of magnitude being as likely."""
    return _number("lograndint", low, high, None)


def _number(kind: str, low: float, high: float, step: float | None) -> dict[str, Any]:
    return {"type": kind, "min": low, "max": high} | ({} if step is None else {"step": step})


def load_space(source: Source, *, overrides: Sequence[str] = ()) -> Space:
    """A valid space.

    Args:
        source: a file, or what a file holds as a mapping. Files that it uses lie beside the file, or here.
        overrides: `dotted.path=value` settings that replace the source's.

    Raises:
        SpaceError: it is none; one line for each problem.
    """
    if isinstance(source, Space):
        return space_of(source.text.encode(), source.path, overrides=overrides) if overrides else source
    if isinstance(source, str | Path):
        return spaces.load_space(source, overrides=overrides)
    tree = read_tree(json.dumps(_plain(source)).encode(), "space")
    return space_of(write_yaml(tree.plain).encode(), Path("space.yaml"), overrides=overrides)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True) | ({"name": name} if (name := _name(value)) else {})
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _name(settings: BaseModel) -> str | None:
    return getattr(settings, "name", None) if "name" in type(settings).model_fields else None


def search(
    source: Source,
    *,
    trials: int | None = None,
    executor: Executors = "auto",
    runs: str | Path = "runs",
    progress: bool = True,
) -> Study:
    """Search a space in a new folder below `runs`, until its budget is spent; interrupted, `resume` goes on.

    Args:
        source: see `load_space`.
        trials: replaces `budget.trials`.
        executor: `ray` runs trials in parallel, `local` one after another in this process; `auto` the latter where the
            search is small.
        runs: where studies lie.
        progress: whether to show it, as the command line does.

    Raises:
        SpaceError: the space is not valid.
        InputError: it watches what only packed networks have, and its network cannot be packed.
        EnvironmentProblem: the machine, or a service, is not as needed.
    """
    from bnnsearch.study.measured import check_measured
    from bnnsearch.study.study import study_below

    space = load_space(source, overrides=() if trials is None else [f"budget.trials={trials}"])
    check_measured(space)
    return _searched(study_below(Path(runs), space), executor, progress=progress)


def _searched(entering: AbstractContextManager[HeldStudy], executor: Executors, *, progress: bool) -> Study:
    from bnnsearch.study.executor import executor_for
    from bnnsearch.terminal.following import follow_study
    from bnnsearch.tracking.tracker import Tracker

    with entering as study:
        runner, _ = executor_for(executor, study.space)
        if progress:
            follow_study(study, runner)
        else:
            with Tracker(study.space.study, study.folder, study.record) as tracker:
                study.search(runner, [tracker])
    return Study(study.folder.path)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One trial of a study: what was trained, and its results.

    Attributes:
        number: of the trial.
        config: what was trained.
        metrics: last value of each metric.
        params: what was sampled: dotted name to value.
        study: where it comes from.
    """

    number: int
    config: AnyTrial
    metrics: Mapping[str, float]
    params: Mapping[str, Any]
    study: Study = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Write it as `best.yaml`, which `bnnsearch train` takes; files that it uses are written beside it."""
        from bnnsearch.export import Provenance, Selection, export_best

        past, settings = self.study.past, self.study.space.study
        provenance = Provenance(
            study=settings.name, search_id=self.study.folder.search_id, trial=self.number, tracking=settings.tracking
        )
        export_best(
            past.results, settings.objectives, selection=Selection("trial", number=self.number), provenance=provenance,
            path=Path(path), use=settings.use,
        )  # fmt: skip
        return Path(path)

    def _repr_html_(self) -> str:
        rows = [*self.metrics.items(), *self.params.items()]
        cells = "".join(f"<tr><th>{html.escape(str(name))}</th><td>{_shown(value)}</td></tr>" for name, value in rows)
        return f"<table><caption>trial {self.number} of {html.escape(self.study.name)}</caption>{cells}</table>"


class Study:
    """A search that runs, was stopped or has ended: all that its folder tells, read anew each time.

    Args:
        path: the study's folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = StudyFolder(Path(path))

    @classmethod
    def load(cls, path: str | Path | None = None, *, runs: str | Path = "runs") -> Study:
        """The study in a folder, or the newest below `runs`.

        Raises:
            InputError: there is none.
        """
        return cls(find_study_folder(None if path is None else Path(path), Path(runs)).path)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def past(self) -> Past:
        """What its record tells."""
        return read_past(self.folder)

    @property
    def space(self) -> Space:
        """What is searched."""
        return self.past.space

    @property
    def name(self) -> str:
        """What it is called."""
        return self.space.study.name

    @property
    def results(self) -> tuple[TrialResult, ...]:
        """The ended trials, by number."""
        return self.past.results

    @property
    def trials(self) -> pandas.DataFrame:
        """A row for each ended trial: state, metrics, `params.` and what was sampled, reason, epochs, seconds."""
        from bnnsearch.tracking.front import trials_table

        return trials_table(self.results)

    @property
    def pareto(self) -> ParetoFront:
        """The trials that no other dominates, and what can be asked of them."""
        past = self.past
        return ParetoFront.of(past.results, past.space.study.objectives)

    @property
    def front(self) -> pandas.DataFrame:
        """The rows of `trials` on the front, the best of the first objective first."""
        from bnnsearch.tracking.front import trials_table

        front = self.pareto
        objectives = [each.metric for each in front.objectives]
        table = trials_table(front.results)
        return table[[*objectives, *(name for name in table.columns if name.startswith("params."))]]

    def best(self, *, by: str = "knee", where: Sequence[str] = (), trial: int | None = None) -> Configuration:
        """One trial.

        Args:
            by: `knee` of the front, or the metric to be the best in.
            where: limits that must hold, such as `memory_bytes<=10000`.
            trial: this one, by its number.

        Raises:
            InputError: none is within the limits (the nearest is named), or there is no such trial or metric.
        """
        from bnnsearch.export import Selection, select_trial

        past = self.past
        settings = past.space.study
        selection = Selection(where=where) if by == "knee" else Selection("best", metric=by, where=where)
        if trial is not None:
            selection = Selection("trial", number=trial, where=where)
        found = select_trial(past.results, settings.objectives, selection)
        config = trial_of({**found.config, "use": settings.use})
        return Configuration(found.number, config, dict(found.metrics), dict(found.params), self)

    def resume(
        self,
        *,
        trials: int | None = None,
        space: Source | None = None,
        executor: Executors = "auto",
        progress: bool = True,
    ) -> Study:
        """Go on with it: first the trials that were cut off, then new ones, up to `trials` in all.

        Args:
            trials: replaces `budget.trials`.
            space: a narrower or wider one: bounds, choices, branches, `forbid`, `constraints`, `budget` and `confirm`
                may differ. Trials outside it leave the front.
            executor: see `search`.
            progress: whether to show it.

        Raises:
            InputError: another process works on it, or a space differs in more than may.
        """
        from bnnsearch.study.study import earlier_study

        given = Path(space) if isinstance(space, str) else space
        new = given if given is None or isinstance(given, Path) else load_space(given)
        return _searched(earlier_study(self.path, trials=trials, space=new), executor, progress=progress)

    def report(self) -> Path:
        """Write its report anew; the page."""
        from bnnsearch.tracking.report import PAGE, write_report

        return write_report(self.folder, self.space.study) / PAGE

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    def _repr_html_(self) -> str:
        past = self.past
        told = f"{past.space.study.name}: {len(past.results)} of {past.space.study.budget.trials} trials have ended"
        return f"<p>{html.escape(told)}; the front:</p>" + str(self.front.to_html())


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else html.escape(str(value))


@dataclass(frozen=True, slots=True)
class Run:
    """A finished production training.

    Attributes:
        path: its folder, for `pack`.
        result: last metrics, costs, and the one reading of the test set.
    """

    path: Path
    result: Trained


def train(
    config: Configuration | AnyTrial | Mapping[str, Any] | str | Path,
    out: str | Path,
    *,
    device: str | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
) -> Run:
    """Train a configuration to its end in the folder `out`, going on where it was cut off; the test set is read once.

    Args:
        config: of a study, a file such as `best.yaml`, or what such a file holds.
        out: the run's folder.
        device: torch device; None is `cuda` where there is one, else `cpu`.
        on_epoch: told after every epoch.

    Raises:
        InputError: it is no configuration, or `out` holds a run of another one.
        EnvironmentProblem: the data, or a checkpoint, is not as needed.
    """
    from bnnsearch.export import load_trial
    from bnnsearch.training import best_device
    from bnnsearch.training import train as train_in

    if isinstance(config, Configuration):
        trial = config.config
    elif isinstance(config, str | Path):
        trial, _ = load_trial(Path(config))
    elif isinstance(config, Mapping):
        trial = trial_of(_plain(config))
    else:
        trial = config
    return Run(Path(out), train_in(trial, Path(out), device=device or best_device(), on_epoch=on_epoch))


def pack(run: Run | str | Path, path: str | Path, *, edges: Literal["float32", "int8"] = "float32") -> PackedModel:
    """Pack the network of a finished run into the file `path`, compared with it on every validation image.

    Args:
        run: the run, or its folder.
        path: the file to write.
        edges: how the real first and last layers are stored.

    Raises:
        InputError: the folder holds no finished run, or its network cannot be packed.
        EnvironmentProblem: a file is damaged.
    """
    from bnnsearch.deploy import pack_run
    from bnnsearch.packed.model import PackedModel

    pack_run(run.path if isinstance(run, Run) else Path(run), Path(path), edges=edges)
    return PackedModel.load(Path(path))
