"""Numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnnsearch.config.metrics import METRICS
from bnnsearch.results import TrialResult

_UNITS = ("", "k", "M", "G", "T", "P", "E")


def metric_text(metric: str, value: float) -> str:
    """A metric's value: accuracies with four digits, bytes as kB and MB, counts with k, M, G."""
    if metric.endswith("_acc"):
        return f"{value:.4f}"
    unit = METRICS[metric].unit if metric in METRICS else ""
    if unit == "bytes":
        return bytes_text(value)
    if unit and " " not in unit:  # ms and uJ
        return f"{value:.4g} {unit}" if abs(value) < 10_000 else f"{value:.0f} {unit}"
    return count_text(value)


def count_text(value: float) -> str:
    """A count, such as `59.54M`."""
    return "{:.4g}{}".format(*_scaled(value))


def bytes_text(count: float) -> str:
    """Bytes in decimal units, such as `14.38 kB`."""
    return "{:.4g} {}B".format(*_scaled(count))


def _scaled(value: float) -> tuple[float, str]:
    for unit in _UNITS[:-1]:
        if abs(value) < 1000:
            return value, unit
        value /= 1000
    return value, _UNITS[-1]


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
