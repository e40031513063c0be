"""Training code of one's own: a trial that is no run of ours, but is searched, stopped, resumed, exported like one.

    trial:
      trainer: {name: mine, epochs: 20, depth: {type: randint, min: 1, max: 4}}

A member of this family builds an object with `fit`, `costs`, `state_dict` and `load_state_dict`: see `OwnTrainer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field

from bnnsearch.config.families import TRAINERS, Member, name_of
from bnnsearch.config.metrics import METRICS, Metric, Reporter, define
from bnnsearch.errors import EnvironmentProblem

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule


class OwnTrainer(Protocol):
    """Training code of one's own. All but `fit` and the state may be left to the settings' base."""

    def fit(self) -> Iterator[Mapping[str, float]]:
        """Train on from the present state, an epoch at a time; yields the metrics of each."""
        ...

    def costs(self) -> Mapping[str, float]:
        """What is known before training: the metrics that are declared so."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state_dict` goes on to the same result."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state; the next `fit` goes on with the epoch after it."""
        ...


class TrainerSettings(Member):
    """Settings of training code of one's own.

    A trainer may also have `test`, which gives the metrics on a test set that nothing else reads.

    Attributes:
        metrics: what its trials report: names of the table of metrics, or new ones. Those that are known before come
            from `costs`, all others with every epoch. Losses, and whatever ends in `_loss`, need not be declared.
        epochs: of the whole run.
    """

    metrics: ClassVar[tuple[str | Metric, ...]] = ("val_acc",)

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if name_of(cls) is not None:
            for metric in cls.metrics:
                if isinstance(metric, Metric):
                    define(metric)
                elif metric not in METRICS:
                    raise ValueError(f"{cls.__name__}: there is no metric {metric}; a new one is declared as a Metric")

    @property
    def reporter(self) -> Reporter:
        """What its trials report."""
        names = (metric.name if isinstance(metric, Metric) else metric for metric in self.metrics)
        return Reporter(f"trainer {self.name}", frozenset(names))

    def build(self, seed: int, device: str) -> OwnTrainer:
        """The trainer at its very beginning; the same settings and seed must give the same one."""
        trainer: OwnTrainer = self._built(seed, device)
        return trainer


class FunctionSettings(TrainerSettings):
    """Settings of a function that yields metrics, for training code that keeps no state that could be saved.

    A trial that is taken up again trains the epochs that it had once more, unheard.
    """

    def train(self, seed: int, device: str) -> Iterator[Mapping[str, float]]:
        """Train, an epoch at a time; yields the metrics of each."""
        raise NotImplementedError

    def costs(self) -> Mapping[str, float]:
        """What is known before training."""
        return {}

    def build(self, seed: int, device: str) -> OwnTrainer:
        return _Function(self, seed, device)


class _Function:
    """A trainer whose state is how far it is."""

    def __init__(self, settings: FunctionSettings, seed: int, device: str) -> None:
        self._settings = settings
        self._start = seed, device
        self._passed = 0
        self._course: Iterator[Mapping[str, float]] | None = None

    def fit(self) -> Iterator[Mapping[str, float]]:
        if self._course is None:
            self._course = iter(self._settings.train(*self._start))
            for _ in range(self._passed):
                next(self._course, None)
        for metrics in self._course:
            self._passed += 1
            yield metrics

    def costs(self) -> Mapping[str, float]:
        return self._settings.costs()

    def state_dict(self) -> dict[str, Any]:
        return {"passed": self._passed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._passed, self._course = state["passed"], None


class LightningSettings(TrainerSettings):
    """Settings of a LightningModule, searched as it is.

    An epoch is one of Lightning's with its validation. Reported is what the module logs as it is declared in `metrics`,
    and under names that end in `_loss`; what it logs besides is its own. Every epoch begins from Lightning's checkpoint
    of the one before: a module that keeps more than parameters and buffers saves it by `on_save_checkpoint`.

    Where the module has a `packed_model`, that is what `pack` writes.

    Attributes:
        logged: how the module calls a metric, where that is not its name, such as `{"val_acc": "val/accuracy"}`.
        deterministic: whether only kernels are allowed that repeat bit for bit.
    """

    builder: ClassVar[str] = "bnnsearch.lightning:LightningTrainer"
    logged: ClassVar[Mapping[str, str]] = {}

    deterministic: bool = True

    def module(self) -> LightningModule:
        """The module at its very beginning; random numbers are seeded."""
        raise NotImplementedError

    def data(self) -> LightningDataModule | None:
        """Its data; None where the module has loaders of its own. `setup` is called before every epoch."""
        return None

    def options(self) -> Mapping[str, Any]:
        """Arguments of Lightning's trainer, such as `gradient_clip_val` or `callbacks`."""
        return {}

    def costs(self) -> Mapping[str, float]:
        """What is known before training."""
        return {}

    def build(self, seed: int, device: str) -> OwnTrainer:
        if find_spec("lightning") is None:
            raise EnvironmentProblem(
                f"trainer {self.name} needs the package lightning: pip install 'bnnsearch[lightning]'"
            )
        return super().build(seed, device)


if TYPE_CHECKING:
    TrainerConfig = TrainerSettings
else:
    TrainerConfig = Annotated[TrainerSettings, TRAINERS]
