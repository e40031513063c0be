"""The trials that a sampler looks at: all of a small search; of a large one so few that a suggestion takes no longer.

TPE, the processes of `auto` and Optuna's Gaussian process see at most `MOST` and `SLACK` trials: half of `MOST` are the
best of those that finished within the constraints, by non-dominated rank and spread, the other half were the last to
end or to come to a rung. NSGA-II and NSGA-III see what they ask for, the last generations and their parents, and
suggest what they would among all trials. What has been dropped is never looked at again, so that the view of a ledger
that is opened anew is what events in their order make it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._ga import BaseGASampler
from optuna.trial import FrozenTrial, TrialState

from bnnsearch.config.metrics import Mode
from bnnsearch.results import TrialResult
from bnnsearch.results import TrialState as State
from bnnsearch.study.advised import Seen, showing
from bnnsearch.study.delegating import DelegatingSampler
from bnnsearch.study.schedulers import ranking

MOST = 1000
"""Trials that are kept."""

SLACK = 250
"""Trials beyond `MOST` that may come before some are dropped: they are ranked once for that many."""


class View:
    """Numbers of the trials to look at.

    Args:
        modes: of the objectives.

    Attributes:
        whole: whether none was dropped yet.
    """

    def __init__(self, modes: Sequence[Mode]) -> None:
        self._modes = modes
        self._told: dict[int, None] = {}  # the last one last
        self._finished: dict[int, Sequence[float]] = {}  # of these, those that may be among the best
        self._kinds: dict[tuple[State, frozenset[str]], int] = {}
        self.whole = True

    def stands(self, number: int) -> None:
        """A trial has come to a rung."""
        self._told.pop(number, None)
        self._told[number] = None
        if len(self._told) >= MOST + SLACK:
            self._drop()

    def ended(self, result: TrialResult, values: Sequence[float] | None) -> None:
        """A trial has ended, with the `values` of its objectives if it is complete."""
        if result.state is not State.FAILED:  # one of each, for samplers gather from them what can be drawn together
            self._kinds.setdefault((result.state, frozenset(result.params)), result.number)
        if result.selectable and values is not None:
            self._finished[result.number] = values
        self.stands(result.number)

    def forget(self, number: int) -> None:
        """The record has lost what was drawn for a trial."""
        self._told.pop(number, None)
        self._finished.pop(number, None)

    def numbers(self, running: Iterable[int]) -> list[int]:
        """The trials to look at, ascending, with those that run."""
        return sorted({*self._told, *self._kinds.values(), *running})

    def _drop(self) -> None:
        best = set(ranking(self._finished, self._modes)[: MOST // 2]) if self._finished else set()
        latest = [number for number in self._told if number not in best][len(best) - MOST :]
        kept = best.union(latest)
        self._told = {number: None for number in self._told if number in kept}
        self._finished = {number: values for number, values in self._finished.items() if number in kept}
        self.whole = False


class Generations:
    """What a genetic sampler of Optuna asks for: the last generations, and their parents.

    Args:
        sampler: knows the attributes it notes them under.
    """

    def __init__(self, sampler: BaseGASampler) -> None:
        self._generation = sampler._get_generation_key()
        self._parents = sampler._get_parent_cache_key_prefix()
        self._complete: dict[int, list[FrozenTrial]] = {}
        self._kinds: dict[frozenset[str], FrozenTrial] = {}

    def ended(self, trial: FrozenTrial) -> None:
        """A trial has ended."""
        if trial.state is not TrialState.COMPLETE:
            return
        self._kinds.setdefault(frozenset(trial.params), trial)
        generation = trial.system_attrs.get(self._generation, -1)
        if generation >= max(self._complete, default=0) - 1:
            self._complete.setdefault(generation, []).append(trial)
            last = max(self._complete)
            self._complete = {each: trials for each, trials in self._complete.items() if each >= last - 1}

    def own(self, noted: Mapping[str, Any]) -> dict[str, Any]:
        """Of the attributes of a trial, its generation."""
        return {name: value for name, value in noted.items() if name == self._generation}

    def within(self, noted: Mapping[str, Any], outside: Collection[int]) -> dict[str, Any]:
        """Of the attributes of the study, the parents, without those of some numbers; two at least, or none."""
        parents = {
            name: [each for each in numbers if each not in outside]
            for name, numbers in noted.items()
            if name.startswith(self._parents)
        }
        return {name: numbers if len(numbers) > 1 else [] for name, numbers in parents.items()}

    def trials(self, noted: Mapping[str, Any], trial_of: Callable[[int], FrozenTrial]) -> list[FrozenTrial]:
        """The trials to look at, in order.

        Args:
            noted: attributes of the study.
            trial_of: the trial of an identifier.
        """
        last = max(self._complete, default=0)
        shown = {each.number: each for trials in self._complete.values() for each in trials}
        shown |= {each.number: each for each in self._kinds.values()}
        for generation in (last - 1, last, last + 1):
            for identifier in noted.get(f"{self._parents}{generation}", ()):
                each = trial_of(identifier)
                shown[each.number] = each
        return [shown[number] for number in sorted(shown)]


class ShownSampler(DelegatingSampler):
    """Asks a sampler that sees other trials than the study's.

    Args:
        sampler: suggests.
        seen: what it sees, asked once for each suggestion.
    """

    def __init__(self, sampler: BaseSampler, *, seen: Seen) -> None:
        super().__init__(sampler)
        self._seen = seen
        self._shown: Study  # from when Optuna asks for the search space, which it does first

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._shown = showing(study, self._seen())
        return self._sampler.infer_relative_search_space(self._shown, trial)

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002  # Optuna's signature
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(self._shown, trial, search_space)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002  # Optuna's signature
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._sampler.sample_independent(self._shown, trial, param_name, param_distribution)
