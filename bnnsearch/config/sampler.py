"""Samplers: what suggests the next configuration; each builds a sampler of Optuna's, and says what the search has to
know of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bnnsearch.config.families import SAMPLERS, Member, named

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from bnnsearch.space import SearchSpace


class SamplerSettings(Member):
    """How the next configuration is suggested.

    Attributes:
        several_objectives: whether it takes more than one.
        advised: whether it suggests jointly, by what it has seen: then it sees ordered choices as their ranks, trials
            that wait or were stopped as standing at their rungs, and is asked again for what was tried before.
        reads_reports: of an advised one, whether with one objective it learns by itself from the reports of trials that
            have not ended.
        weighs: of an advised one, whether it weighs how unsure it is what a trial at a rung will come to.
        enumerates: whether the search tries its `points`, and ends with them.
    """

    kinds: ClassVar[tuple[str, ...]] = ("optuna.samplers:BaseSampler",)
    several_objectives: ClassVar[bool] = True
    advised: ClassVar[bool] = False
    reads_reports: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    enumerates: ClassVar[bool] = False

    def build(self, seed: int) -> BaseSampler:
        """Optuna's sampler for one suggestion; the same trials and `seed` suggest the same."""
        sampler: BaseSampler = self._built(seed)
        return sampler

    def listed(self, space: SearchSpace, seed: int) -> list[dict[str, Any]]:
        """Parameters of every trial in order, dotted name to value, where it `enumerates`."""
        raise NotImplementedError


class TpeConfig(SamplerSettings):
    """Tree-structured Parzen estimator, several objectives allowed."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_tpe"
    advised: ClassVar[bool] = True
    reads_reports: ClassVar[bool] = True

    name: Literal["tpe"] = "tpe"
    startup_trials: Annotated[int, Field(ge=0)] = 10


class AutoConfig(SamplerSettings):
    """The default: Gaussian processes and the expected gain in hypervolume; TPE where some parameters exist only in a
    branch.

    See `bnnsearch.study.auto`. A suggestion takes some 30 ms.

    Attributes:
        startup_trials: drawn at random before.
    """

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_auto"
    advised: ClassVar[bool] = True
    weighs: ClassVar[bool] = True

    name: Literal["auto"] = "auto"
    startup_trials: Annotated[int, Field(ge=1)] = 10


class Nsga2Config(SamplerSettings):
    """NSGA-II."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_nsga2"

    name: Literal["nsga2"] = "nsga2"
    population: Annotated[int, Field(ge=2)] = 50


class Nsga3Config(SamplerSettings):
    """NSGA-III: reference directions keep a front of three and more objectives spread."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_nsga3"

    name: Literal["nsga3"] = "nsga3"
    population: Annotated[int, Field(ge=2)] = 50


class GpConfig(SamplerSettings):
    """Gaussian process: few trials, some seconds per suggestion; parameters of a branch are drawn at random."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_gp"
    advised: ClassVar[bool] = True

    name: Literal["gp"] = "gp"
    startup_trials: Annotated[int, Field(ge=0)] = 10


class CmaesConfig(SamplerSettings):
    """CMA-ES: one objective; values of choices and parameters of a branch are drawn at random."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_cmaes"
    several_objectives: ClassVar[bool] = False

    name: Literal["cmaes"] = "cmaes"
    startup_trials: Annotated[int, Field(ge=0)] = 1


class RandomConfig(SamplerSettings):
    """Independent random draws."""

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_random"

    name: Literal["random"] = "random"


class GridConfig(SamplerSettings):
    """Every configuration once, in an order that the seed decides; the search ends with the last.

    Attributes:
        points: values of a number without step, from its minimum to its maximum.
    """

    builder: ClassVar[str] = "bnnsearch.study.samplers:build_random"  # nothing is left for it to suggest
    enumerates: ClassVar[bool] = True

    name: Literal["grid"] = "grid"
    points: Annotated[int, Field(ge=2, le=1000)] = 3

    def listed(self, space: SearchSpace, seed: int) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = named("bnnsearch.study.grid:grid_points")(space, points=self.points, seed=seed)
        return points


class HubConfig(SamplerSettings):
    """A sampler of OptunaHub (the extra `hub`): its code comes from the network, and is run.

    It is made anew for each suggestion, from the trials so far and a seed, so that one that keeps what it learned to
    itself forgets it. It sees complete trials as Optuna has them.

    Attributes:
        package: its path in the registry, such as `samplers/auto_sampler`.
        sampler: the class in it; None is its only one.
        ref: commit or tag of the registry; None is its newest state, which may be another one after a `resume`.
        local: a folder that holds the registry's packages, in place of the network.
        settings: keyword arguments of the class; a `seed` is added where it takes one.
    """

    builder: ClassVar[str] = "bnnsearch.study.hub:build_hub"

    name: Literal["hub"] = "hub"
    package: Annotated[str, Field(pattern=r"^samplers(/\w+)+$")]
    sampler: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    ref: Annotated[str, Field(pattern=r"^[\w./-]{1,100}$")] | None = None
    local: str | None = None
    settings: Annotated[dict[str, Any], Field(default_factory=dict)]

    @model_validator(mode="after")
    def _is_in_one_place(self) -> Self:
        if self.ref is not None and self.local is not None:
            raise ValueError(f"ref is of the network's registry, but got {self.ref} with local {self.local}")
        return self


SamplerConfig = Annotated[SamplerSettings, SAMPLERS]
