"""Numbers as a person reads them, and words from outside as a terminal may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from bnnsearch.errors import printable
from bnnsearch.results import TrialResult

_UNITS = ("", "k", "M", "G", "T", "P", "E")


def metric_text(metric: str, value: float) -> str:
    """A metric's value: accuracies with four digits, counts with k, M, G."""
    if metric.endswith("_acc"):
        return f"{value:.4f}"
    if metric.endswith("_ms"):
        return f"{value:.4g}"
    for unit in _UNITS[:-1]:
        if abs(value) < 1000:
            return f"{value:.4g}{unit}"
        value /= 1000
    return f"{value:.4g}{_UNITS[-1]}"


def plain(text: str) -> Text:
    """One line from outside, such as a name or a reason, for the screen: no markup, what does not print is escaped."""
    return Text(printable(text))


def trials_text(results: Sequence[TrialResult], budget: int) -> str:
    """How many trials of the budget have ended, and how many beyond it that confirm the front."""
    repeats = sum(result.confirms is not None for result in results)
    told = f"{len(results) - repeats}/{budget} trials"
    return f"{told} and {repeats} that confirm the front" if repeats else told


def spread_text(metric: str, mean: float, deviation: float | None) -> str:
    """A metric's mean, with its standard deviation where there is one."""
    return metric_text(metric, mean) + ("" if deviation is None else f" +- {metric_text(metric, deviation)}")


def duration_text(seconds: float) -> str:
    """Seconds as `42 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def range_text(span: tuple[float, float] | None) -> str:
    """A range of seconds as one phrase."""
    if span is None:
        return "not known yet"
    low, high = (duration_text(seconds) for seconds in span)
    return low if low == high else f"{low} to {high}"


def params_text(params: Mapping[str, Any]) -> str:
    """Sampled parameters in one line, each by the last part of its name where no other ends in the same."""
    last = [name.rpartition(".")[2] for name in params]
    short = {name: end if last.count(end) == 1 else name for name, end in zip(params, last, strict=True)}
    return " ".join(f"{short[name]}={_short(value)}" for name, value in params.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace(" ", "")
