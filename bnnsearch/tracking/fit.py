"""What the parameters explain together: a forest fitted to the trials, and what its predictions lose without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FOLDS, TREES, REPEATS = 5, 60, 5
FEWEST = 8
"""Complete trials from which a fit is tried."""

MOST = 1000
"""Trials that a fit reads at most, evenly drawn."""


@dataclass(frozen=True)
class Fit:
    """A forest of all parameters for one objective.

    Attributes:
        names: the parameters; what a branch has is named below the choice of the branch.
        inputs: (n, names), nan where a trial has no such parameter.
        values: (n,), of the objective where the trial ended.
        epochs: (n,), how long it trained: the forest learns from trials that were stopped too.
        complete: (n,), which trials ran to their end: the shares are of their variance.
    """

    names: tuple[str, ...]
    inputs: Array
    values: Array
    epochs: Array
    complete: NDArray[np.bool_]

    @cached_property
    def _rows(self) -> Array:
        """(n, names + 1): absence is a number below all others, which trees split off."""
        lowest = np.nanmin(self.inputs, axis=0) if len(self.inputs) else np.zeros(len(self.names))
        filled = np.where(np.isnan(self.inputs), lowest - 1 - abs(lowest), self.inputs)
        return np.column_stack([filled, self.epochs])

    @cached_property
    def shares(self) -> dict[str, float]:
        """Share of the objective's variance that is lost without each parameter, in [0, 1]; all 0 where nothing fits.

        Half of what the squared error grows by when a parameter's values are dealt out anew, over the variance: of a
        fit without error that is the total Sobol index (Jansen, Computer Physics Communications 117, 1999). Errors are
        those of trials that the forest did not see, so that a parameter without effect comes out near 0. Values of a
        branch are dealt among the trials that have it; the choice of a branch takes all of its branch along.
        """
        return self._judged[0]

    @cached_property
    def explained(self) -> float:
        """Share of the variance that all parameters explain together, by the same errors; at least 0."""
        return self._judged[1]

    @cached_property
    def _judged(self) -> tuple[dict[str, float], float]:
        places = np.flatnonzero(self.complete)
        nothing = dict.fromkeys(self.names, 0.0)
        variance = float(self.values[places].var()) if len(places) >= FEWEST else 0.0
        if variance == 0:
            return nothing, 0.0
        generator = np.random.default_rng(0)
        order = generator.permutation(places)
        errors, grown = 0.0, dict(nothing)
        for part in np.array_split(order, FOLDS):
            forest = _forest().fit(np.delete(self._rows, part, axis=0), np.delete(self.values, part))
            usual = (forest.predict(self._rows[part]) - self.values[part]) ** 2
            errors += float(usual.sum())
            for name in self.names:
                moved = [self._dealt(name, part, generator) for _ in range(REPEATS)]
                wrong = (forest.predict(np.concatenate(moved)) - np.tile(self.values[part], REPEATS)) ** 2
                grown[name] += float(wrong.sum()) / REPEATS - float(usual.sum())
        total = variance * len(places)
        shares = {name: float(np.clip(grown[name] / 2 / total, 0, 1)) for name in self.names}
        return shares, max(0.0, 1 - errors / total)

    def _dealt(self, name: str, part: NDArray[np.int64], generator: np.random.Generator) -> Array:
        """The rows `part` with a parameter, and what hangs on it, from other trials that have it."""
        place = self.names.index(name)
        columns = [place, *(index for index, other in enumerate(self.names) if other.startswith(f"{name}."))]
        rows = self._rows[part]
        having = np.flatnonzero(~np.isnan(self.inputs[part, place]))
        donors = np.flatnonzero(self.complete & ~np.isnan(self.inputs[:, place]))
        rows[having[:, None], columns] = self._rows[generator.choice(donors, len(having))[:, None], columns]
        return rows

    def surface(self, pair: tuple[str, str], xs: Sequence[float], ys: Sequence[float]) -> Array:
        """(ys, xs): what the forest expects of the trials that have both parameters, were these at x and y."""
        across, up = map(self.names.index, pair)
        having = np.flatnonzero(self.complete & ~np.isnan(self.inputs[:, [across, up]]).any(axis=1))
        rows = self._rows[having[np.linspace(0, len(having) - 1, min(len(having), 40)).astype(int)]]
        grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        asked = np.tile(rows, (len(grid), 1))
        asked[:, [across, up]] = np.repeat(grid, len(rows), axis=0)
        expected = _forest().fit(self._rows, self.values).predict(asked)
        return np.asarray(expected.reshape(len(ys), len(xs), len(rows)).mean(axis=2), dtype=np.float64)


def _forest() -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
