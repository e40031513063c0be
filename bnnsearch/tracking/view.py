"""What the pictures show, as plain arrays and words: what `figures` draws."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bnnsearch.config.metrics import METRICS
from bnnsearch.config.study import StudyConfig
from bnnsearch.core.trainer import WEIGHT_BINS, EpochMetrics
from bnnsearch.errors import printable
from bnnsearch.pareto import ParetoFront, mode_of
from bnnsearch.past import History
from bnnsearch.results import TrialResult, TrialState, by_number
from bnnsearch.tracking.fit import MOST, Fit

Array = NDArray[np.float64]
Found = TypeVar("Found")

LABELS = {
    "flip_rate": "flip rate",
    "lr": "learning rate",
    "real_lr": "learning rate, real part",
    "gamma": "gamma of BOP",
    "lambda": "lambda",
    "beta": "beta",
    "reg": "proximal strength",
    "tau": "tau of ReCU",
    "ede_t": "t of the error decay estimator",
    "reste_o": "o of ReSTE",
    "bits_weights": "bits of weights",
    "bits_activations": "bits of activations",
    "bits_gradients": "bits of gradients",
    "binary_fraction": "binary share",
    "epoch_val_acc": "validation accuracy of the epoch's own network",
    "kept_epoch": "epoch whose network is exported",
    "relaxed_val_acc": "accuracy with real weights",
}

WIDE = 20.0
"""Largest over smallest value from which an axis is logarithmic."""

MAX_AXES, MAX_POINTS, ALL_POINTS = 9, 60, 6_000
"""Most parameters in the parallel coordinates; most points of one learning curve, and of all together."""

SHARE_SHOWN = 0.2
"""Share of the weights in one bin from which a histogram has its darkest colour."""

BIT_WIDTHS = ("bits_weights", "bits_activations", "bits_gradients")

SCHEDULES = (
    "lambda", "beta", "reg", "tau", "ede_t", "reste_o", *BIT_WIDTHS, "lr", "gamma", "real_lr", "binary_fraction",
    "flip_rate",
)  # fmt: skip
"""What is shown by epoch for one trial, where it was recorded and changes."""


FRONT, KNEE, GREY, INK, GRID = "#0072b2", "#d55e00", "#8f96a3", "#1f2937", "#e5e7eb"
PRUNED, BAD, GOING = "#e69f00", "#cc79a7", "#009e73"
"""Colours that all kinds of sight tell apart (Okabe and Ito, 2008); marks and dashes say the same."""

OBJECTIVES = (FRONT, KNEE, GOING, BAD)


def label(metric: str) -> str:
    """A metric in words."""
    title = METRICS[metric].title if metric in METRICS else LABELS.get(metric, metric)
    return title.replace("(uJ)", "(\N{MICRO SIGN}J)")


def is_wide(values: Sequence[float] | Array) -> bool:
    """Whether the values are positive and spread so far that only a logarithmic axis shows them."""
    known = [value for value in values if not math.isnan(value)]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= WIDE


@dataclass(frozen=True)
class Axis:
    """One parameter or metric of many trials.

    Attributes:
        name: dotted name.
        values: one per trial; None where the trial has none.
        order: a choice's values as the space has them.
    """

    name: str
    values: tuple[Any, ...]
    order: tuple[Any, ...] = ()

    @cached_property
    def numeric(self) -> bool:
        """Whether every value there is is a number."""
        return all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in self.values if value is not None
        )

    @cached_property
    def categories(self) -> list[Any]:
        """Different values, in order; those that are no numbers as text."""
        if self.numeric:
            return sorted({value for value in self.values if value is not None})
        known = {_text(value) for value in self.values if value is not None}
        listed = [text for text in map(_text, self.order) if text in known]
        if len(listed) == len(known):
            return listed
        with suppress(ValueError, TypeError):  # widths such as [64] and [128], in the order of their numbers
            return sorted(known, key=lambda text: list(json.loads(text)))
        return sorted(known)

    @cached_property
    def logarithmic(self) -> bool:
        """Whether it is drawn on a logarithmic axis."""
        return self.numeric and is_wide([value for value in self.values if value is not None])

    @cached_property
    def positions(self) -> Array:
        """A number (n,) per trial: the value, its logarithm, or its category's place; nan where the trial has none."""
        if not self.numeric:
            places = {category: index for index, category in enumerate(self.categories)}
            return np.array(
                [np.nan if value is None else places[_text(value)] for value in self.values], dtype=np.float64
            )
        values = np.array([np.nan if value is None else value for value in self.values], dtype=np.float64)
        return np.log10(values) if self.logarithmic else values

    def ticks(self) -> tuple[list[float], list[str]]:
        """Where the axis has ticks, in `positions`, and what stands there."""
        if not self.numeric or len(self.categories) <= 6:
            places = self.categories if self.numeric else range(len(self.categories))
            at = [math.log10(place) if self.logarithmic else float(place) for place in places]
            return at, [number_text(each) if self.numeric else str(each) for each in self.categories]
        low, high = float(np.nanmin(self.positions)), float(np.nanmax(self.positions))
        if self.logarithmic:
            ticks = round_ticks(10**low, 10**high)
            decades = [tick for tick in ticks if math.log10(tick).is_integer()]
            ticks = decades if len(decades) > 3 else ticks
            at = [math.log10(tick) for tick in ticks]
        else:
            step = 10.0 ** math.floor(math.log10(high - low))
            step *= next(part for part in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5) if (high - low) / (step * part) <= 5)
            at = ticks = [step * place for place in range(math.ceil(low / step), math.floor(high / step) + 1)]
        within = [low - 1e-9 <= place <= high + 1e-9 for place in at]
        return list(compress(at, within)), [number_text(tick) for tick in compress(ticks, within)]


def _text(value: Any) -> str:
    return printable(value) if isinstance(value, str) else json.dumps(value)


def short(value: float, digits: int) -> float:
    """A number to so many digits, as short as JSON has it; whole numbers stay as they are."""
    rounded = float(value) if float(value).is_integer() else float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def number_text(value: float) -> str:
    """A number as a person reads it: 12.4k, 0.0031."""
    value = float(f"{value:.3g}")
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    if abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    power = min(int(math.log10(abs(value)) / 3), 6)
    return f"{value / 1000**power:.3g}{' kMGTPE'[power].strip()}"


def value_text(metric: str, value: float) -> str:
    """A metric's value as a person reads it: accuracies with four digits, bytes as kB and MB."""
    if metric.endswith("_acc"):
        return f"{value:.4f}"
    text = number_text(value)
    if metric not in METRICS or METRICS[metric].unit != "bytes":
        return text
    return f"{text} B" if text[-1:].isdigit() else f"{text[:-1]} {text[-1]}B"


def round_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis from `low` to `high`, both positive: 1, 2 and 5 of each decade, or only 1."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    ticks = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
    return ticks if len(ticks) <= 9 else [10.0**decade for decade in decades]


@dataclass(frozen=True)
class StudyView:
    """A study as the pictures show it.

    Attributes:
        study: its settings.
        results: ended trials by number.
        history: epochs of trials, ended or not.
        orders: values of the space's choices, by parameter, as the file lists them.
    """

    study: StudyConfig
    results: tuple[TrialResult, ...]
    history: History
    orders: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @cached_property
    def front(self) -> ParetoFront:
        """The front."""
        return ParetoFront.of(self.results, self.study.objectives)

    @cached_property
    def groups(self) -> dict[str, tuple[TrialResult, ...]]:
        """Complete trials: `dominated`, `infeasible`, and on the `front`; those that confirm others are in these."""
        front = self.front
        candidates = {each.number for each in front.candidates}
        others = [each for each in self.complete if each.confirms is None and each.number not in candidates]
        return {
            "dominated": tuple(each for each in front.candidates if each.number not in front.numbers),
            "infeasible": tuple(others),
            "front": front.results,
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """The objectives' metrics."""
        return tuple(objective.metric for objective in self.study.objectives)

    def pairs(self) -> list[tuple[str, str]]:
        """What is drawn against what, (x, y), an earlier objective upwards; nothing for one objective."""
        names = self.metrics
        return [(names[b], names[a]) for a in range(len(names)) for b in range(a + 1, len(names))]

    def column(self, results: Sequence[TrialResult], metric: str) -> list[float]:
        """The metric of each result; nan where it has none."""
        return [result.metrics.get(metric, math.nan) for result in results]

    def wide(self, metric: str) -> bool:
        """Whether the metric needs a logarithmic axis."""
        return is_wide(self.column([each for group in self.groups.values() for each in group], metric))

    def ticks(self, metric: str) -> list[float] | None:
        """Where a logarithmic axis of the metric has ticks; None where its axis is none."""
        if not self.wide(metric):
            return None
        values = [value for value in self.column(self.results, metric) if value > 0]
        return round_ticks(min(values), max(values))

    @property
    def learned(self) -> tuple[str, ...]:
        """The objectives that training decides; of a cost that the configuration alone decides nothing is learned."""
        return tuple(name for name in self.metrics if METRICS[name].known not in ("before", "measured"))

    def front_line(self, x: str, y: str) -> tuple[list[float], list[float]]:
        """Corners of the staircase that the front bounds what is dominated with; x rises. For two objectives."""
        points = sorted(zip(self.column(self.front.results, x), self.column(self.front.results, y), strict=True))
        if mode_of(x, self.study.objectives) == "max":
            points.reverse()
        xs, ys = [], []
        for index, (across, up) in enumerate(points):
            if index:
                xs.append(across)
                ys.append(points[index - 1][1])
            xs.append(across)
            ys.append(up)
        return xs, ys

    @cached_property
    def varied(self) -> tuple[Axis, ...]:
        """Parameters that vary over the complete trials, in the order in which trials have them."""
        complete = self.complete
        names = dict.fromkeys(name for result in complete for name in result.params)
        axes = (
            Axis(printable(name), tuple(each.params.get(name) for each in complete), self.orders.get(name, ()))
            for name in names
        )
        return tuple(axis for axis in axes if len(axis.categories) > 1)

    @cached_property
    def parameters(self) -> tuple[Axis, ...]:
        """`varied`, the most important for the first objective that training decides first."""
        shares = self.importance(self.learned[0]) if self.learned else {}
        return tuple(sorted(self.varied, key=lambda axis: -shares.get(axis.name, 0.0)))

    @cached_property
    def complete(self) -> tuple[TrialResult, ...]:
        """The trials that ran to their end."""
        return tuple(result for result in self.results if result.state is TrialState.COMPLETE)

    @cached_property
    def fits(self) -> dict[str, Fit]:
        """A forest of all parameters for each objective that training decides; stopped trials teach it too."""
        ended = [each for each in self.results if each.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        places = {axis.name: _places(axis) for axis in self.varied}
        return {metric: self._fit(metric, ended, places) for metric in self.learned}

    def _fit(self, metric: str, ended: Sequence[TrialResult], places: Mapping[str, Callable[[Any], float]]) -> Fit:
        known = [each for each in ended if math.isfinite(each.metrics.get(metric, math.nan))]
        if len(known) > MOST:
            known = [known[place] for place in np.linspace(0, len(known) - 1, MOST).astype(int)]
        given = [{printable(name): value for name, value in each.params.items()} for each in known]
        return Fit(
            tuple(places),
            np.array([[place(row.get(name)) for name, place in places.items()] for row in given]).reshape(
                len(known), len(places)
            ),
            np.array([each.metrics[metric] for each in known], dtype=np.float64),
            np.array([each.epochs for each in known], dtype=np.float64),
            np.array([each.state is TrialState.COMPLETE for each in known], dtype=np.bool_),
        )

    def importance(self, metric: str) -> dict[str, float]:
        """Share of the metric's variance that is lost without each parameter, in [0, 1]: `Fit.shares`."""
        return self.fits[metric].shares

    def sample(self, numbers: Sequence[int], most: int) -> Set[int]:
        """At most so many of the trials: the front, those that ran to their end, and the others, each evenly."""
        if len(numbers) <= most:
            return set(numbers)
        survived = {result.number for result in self.complete} - self.front.numbers
        kept = _evenly([number for number in numbers if number in self.front.numbers], most)
        others = [number for number in numbers if number not in survived and number not in self.front.numbers]
        left = most - len(kept)
        stopped = _evenly(others, max(left // 3, left - sum(number in survived for number in numbers)))
        return {*kept, *stopped, *_evenly([each for each in numbers if each in survived], left - len(stopped))}

    def curves(self, most: int = ALL_POINTS) -> list[tuple[str, int, list[int], list[float]]]:
        """Learning curves: (`front`, the trial's state, or `running`; number; epochs; val_acc), of `most` trials.

        Long ones are thinned out.
        """
        ended, shown = by_number(self.results), self.sample(sorted(self.history), most)
        each_most = max(8, min(MAX_POINTS, ALL_POINTS // max(1, len(shown))))
        curves = []
        for number, epochs in sorted(self.history.items()):
            if number not in shown:
                continue
            points = [(each.epoch, each.values["val_acc"]) for each in epochs if "val_acc" in each.values]
            if not points:
                continue
            kind = ended[number].state.value if number in ended else "running"
            kept = _evenly(points, each_most)
            curves.append(
                (
                    "front" if number in self.front.numbers else kind,
                    number,
                    [epoch for epoch, _ in kept],
                    [round(value, 4) for _, value in kept],
                )
            )
        return curves

    def shown_trials(self) -> list[int]:
        """The trials whose epochs are shown in detail: the knee first, then the rest of the front; at most eight."""
        if not self.front.results:
            return []
        numbers = dict.fromkeys([self.front.knee.number, *(result.number for result in self.front.results)])
        return [number for number in numbers if number in self.history][:8]

    def of_shown(self, read: Callable[[int], Found | None]) -> dict[int, Found]:
        """What `read` finds of each of `shown_trials`, by number; those of which it finds nothing are left out."""
        return {number: found for number in self.shown_trials() if (found := read(number))}

    def layer_map(self, number: int, metric: str = "flip_rate") -> tuple[list[int], list[str], Array] | None:
        """A per-layer metric of one trial: epochs, layers, values (layers, epochs); None where none was recorded."""
        epochs = [each for each in self.history.get(number, ()) if metric in each.layers]
        layers = list(dict.fromkeys(layer for each in epochs for layer in each.layers[metric]))
        if not layers:
            return None
        values = [[each.layers[metric].get(layer, np.nan) for each in epochs] for layer in layers]
        return [each.epoch for each in epochs], layers, np.array(values, dtype=np.float64)

    def weight_map(self, number: int) -> tuple[list[int], Array] | None:
        """Histograms of one trial's latent weights: epochs, shares (bins, epochs); None where it has none."""
        epochs = [each for each in self.history.get(number, ()) if len(each.weights) == len(WEIGHT_BINS)]
        if not epochs:
            return None
        return [each.epoch for each in epochs], np.array([each.weights for each in epochs], dtype=np.float64).T

    def rungs(self) -> list[int]:
        """Epochs at which trials were compared and some of them stopped."""
        stopped = {each.epochs for each in self.results if each.state is TrialState.PRUNED and each.epochs}
        return sorted(stopped)

    def schedules(self, number: int) -> dict[str, tuple[list[int], list[float]]]:
        """What changed over the epochs of one trial, by name: epochs and values.

        What another one shows too is left out, such as the bits of gradients where they are those of weights.
        """
        epochs = self.history.get(number, ())
        found: dict[str, dict[int, float]] = {}
        for name in SCHEDULES:
            points = {each.epoch: each.values[name] for each in epochs if name in each.values}
            if len(set(points.values())) > 1 and not any(points.items() <= other.items() for other in found.values()):
                found[name] = points
        return {name: (list(points), list(points.values())) for name, points in found.items()}

    def phases(self, number: int) -> list[tuple[str, int, int]]:
        """Phases of one trial: name, first and last epoch."""
        return _phases(self.history.get(number, ()))

    def counts(self) -> Mapping[str, int]:
        """Trials by state; those with epochs but no end are `running` (or were, when the driver died)."""
        states = {state.value: sum(each.state is state for each in self.results) for state in TrialState}
        return {**states, "running": len(self.history.keys() - by_number(self.results).keys())}


def _places(axis: Axis) -> Callable[[Any], float]:
    """Where a value stands on the axis, also one of another trial; nan where it stands nowhere."""
    if axis.numeric:
        return lambda value: float(value) if isinstance(value, int | float) else math.nan
    places = {category: float(index) for index, category in enumerate(axis.categories)}
    return lambda value: math.nan if value is None else places.get(_text(value), math.nan)


def _evenly(found: Sequence[Found], most: int) -> Sequence[Found]:
    """At most so many, from the first to the last."""
    if len(found) <= most:
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, most).astype(int)]


def _phases(epochs: Sequence[EpochMetrics]) -> list[tuple[str, int, int]]:
    phases: list[tuple[str, int, int]] = []
    for each in epochs:
        if phases and phases[-1][0] == each.phase:
            phases[-1] = (each.phase, phases[-1][1], each.epoch)
        else:
            phases.append((each.phase, each.epoch, each.epoch))
    return phases
