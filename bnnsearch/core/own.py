"""Training code of one's own as a `Trainer`: epochs are counted, reports are held against what is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bnnsearch.config.metrics import METRICS
from bnnsearch.config.trainer import TrainerSettings
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import InputError

if TYPE_CHECKING:
    from bnnsearch.packed.model import PackedModel


class DeclaredTrainer:
    """A `Trainer` around one's own.

    Args:
        settings: what it is built from.
        seed: of the run.
        device: torch device, such as `cpu`.
    """

    def __init__(self, settings: TrainerSettings, *, seed: int, device: str) -> None:
        self._settings = settings
        self._own = settings.build(seed, device)
        self._epoch = 0
        missing = [name for name in ("fit", "costs", "state_dict", "load_state_dict") if not hasattr(self._own, name)]
        if missing:
            raise InputError(f"trainer {settings.name}: {type(self._own).__name__} has no {', '.join(missing)}")

    def fit(self) -> Iterator[EpochMetrics]:
        """Train on; a trainer that yields more than its epochs is not asked again.

        Raises:
            ValueError: a metric is reported that is not declared, or is no number, or one is declared that is not.
        """
        known = {name for name in self._settings.reporter.metrics if METRICS[name].known != "before"}
        course = self._own.fit() if self._epoch < self._settings.epochs else iter(())
        for reported in course:
            self._epoch += 1
            values = self._checked(reported, known)
            yield EpochMetrics(self._epoch, self._settings.epochs, "train", values)
            if self._epoch == self._settings.epochs:
                return

    def costs(self) -> dict[str, float]:
        """What is known before training, as it is declared.

        Raises:
            ValueError: as `fit`.
        """
        known = {name for name in self._settings.reporter.metrics if METRICS[name].known == "before"}
        return self._checked(self._own.costs(), known)

    def test(self) -> dict[str, float]:
        """Metrics on a test set, where the trainer has one."""
        test = getattr(self._own, "test", None)
        return {} if test is None else {name: float(value) for name, value in test().items()}

    def state_dict(self) -> dict[str, Any]:
        """The trainer's own, and how far it is."""
        return {"epoch": self._epoch, "own": self._own.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self._own.load_state_dict(state["own"])
        self._epoch = state["epoch"]

    def packed_model(self) -> PackedModel:
        """The trained network as a 1-bit model.

        Raises:
            InputError: the trainer does not say how.
        """
        packed = getattr(self._own, "packed_model", None)
        if packed is None:
            raise InputError(f"trainer {self._settings.name} cannot be packed: it has no packed_model")
        model: PackedModel = packed()
        return model

    def _checked(self, reported: Mapping[str, float], known: set[str]) -> dict[str, float]:
        who = f"trainer {self._settings.name}"
        if not isinstance(reported, Mapping):
            raise ValueError(f"{who} must report a mapping of metrics, but got {type(reported).__name__}")
        undeclared = [name for name in reported if name not in known and not str(name).endswith("_loss")]
        if undeclared:
            declared = ", ".join(sorted(known)) or "none"
            raise ValueError(f"{who} reports {undeclared[0]}, which it does not declare; it declares {declared}")
        if missing := sorted(known - reported.keys()):
            raise ValueError(f"{who} declares {missing[0]}, but does not report it")
        try:
            return {name: float(value) for name, value in reported.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{who} must report numbers: {error}") from error
