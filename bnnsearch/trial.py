"""The composition root: from a `TrialConfig` to the `Trainer` that carries it out; it alone knows them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import nn

from bnnsearch.config.distill import needed
from bnnsearch.config.model import ModelSettings
from bnnsearch.config.trial import AnyTrial, OwnTrialConfig
from bnnsearch.core.cost import model_cost
from bnnsearch.core.data import check_data, load_data
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.own import DeclaredTrainer
from bnnsearch.core.teacher import RunBuilder, check_sources
from bnnsearch.core.trainer import EpochMetrics, Trainer
from bnnsearch.errors import InputError
from bnnsearch.packed.convert import convert
from bnnsearch.packed.graph import Normalisation


def network_costs(config: AnyTrial) -> dict[str, float]:
    """What the network of a gradient run costs, known without the data set; empty where only its files tell."""
    if isinstance(config, OwnTrialConfig) or config.known_network is None:
        return {}
    model, shape, classes = config.known_network
    return model_cost(build_model(model, shape=shape, classes=classes), shape).metrics(config.plan.costs)


def check_trial(config: AnyTrial) -> None:
    """Find, before anything trains, whether the data set, teachers and weights that a run names can be read.

    And whether a network of its own can be made, and packed.

    Raises:
        InputError, EnvironmentProblem: as `build_trainer`.
    """
    if not isinstance(config, OwnTrialConfig):
        check_data(config.data)
        check_sources(config)
        if config.model.must_pack is not None and config.known_network is not None:
            model, shape, classes = config.known_network
            check_packable(model, build_model(model, shape=shape, classes=classes), shape)


def check_packable(config: ModelSettings, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Whether a network of one's own has a packed form, where it must.

    Raises:
        InputError: it has none; with what in it has none.
    """
    if config.must_pack is not None:
        try:
            convert(network, Normalisation(shape=shape, mean=(0.0,) * shape[0], std=(1.0,) * shape[0]))
        except InputError as error:
            hint = "with `pack: false` it is trained nonetheless"
            raise InputError(f"{config.must_pack}: {error}; {hint}") from error


def class_names(config: AnyTrial, *, device: str = "cpu") -> Sequence[str]:
    """Names of the classes of a run's data set, by label, where they are known; its trainer has it in memory already.

    Raises:
        DataError: the data set is missing, short or corrupt.
    """
    return () if isinstance(config, OwnTrialConfig) else load_data(config.data, device=device).names


def preparing(config: AnyTrial, *, device: str = "cpu", kept: Path) -> Iterator[EpochMetrics]:
    """Train the networks of our own that a run learns or starts from, and keep them in `kept`, where they are not yet.

    Args:
        config: the training run; `config.seed` must be set.
        device: torch device.
        kept: folder where they are kept for all runs; where nothing can be written there, `build_trainer` trains them.

    Yields:
        Every epoch of that.

    Raises:
        DataError, InputError, EnvironmentProblem: as `build_trainer`.
    """
    if isinstance(config, OwnTrialConfig):
        return
    if any(source.trains for source in needed(config.distill, config.start)):
        yield from RunBuilder(load_data(config.data, device=device), device, kept=kept).preparing(config)


def build_trainer(
    config: AnyTrial,
    *,
    device: str = "cpu",
    kept: Path | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None,
    trains: bool = True,
) -> Trainer:
    """A trainer at its very beginning; the same configuration and seed give the same one.

    The networks that the run learns and starts from are trained, or found, first.

    Args:
        config: the training run; `config.seed` must be set.
        device: torch device for data, network and arithmetic, such as `cpu` or `cuda:0`.
        kept: folder where such networks are kept for other runs; None trains them anew.
        on_epoch: told after every epoch of their training.
        trains: whether they are trained or read at all; without, the trainer knows its costs, but must not be used.

    Raises:
        DataError: the data set is missing, short or corrupt.
        InputError: a teacher or start does not fit, or a network of one's own does not.
        EnvironmentProblem: a checkpoint or weights are missing or damaged.
    """
    assert config.seed is not None, "a trial's seed is set before it starts"
    if isinstance(config, OwnTrialConfig):
        return DeclaredTrainer(config.trainer, seed=config.seed, device=device)
    data = load_data(config.data, device=device)
    trainer = config.method.build_trainer(config, RunBuilder(data, device, kept=kept, on_epoch=on_epoch, trains=trains))
    if isinstance(trainer, GradientTrainer):
        check_packable(config.model, trainer.network, data.shape)
    return trainer
