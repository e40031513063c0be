"""Gradient runs, and the trained networks that they learn and start from, which are made or found first.

A run of our own that another one learns or starts from is trained by the same loop. With a folder to keep them in, such
runs are trained once under a hash of all that they depend on, and saved while they train: one that is interrupted goes
on where it stood. Processes of one `torchrun` train them together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnnsearch import __version__
from bnnsearch.config.distill import SourceSettings, TrainedConfig, TwinConfig, needed
from bnnsearch.config.guests import digests, use_of
from bnnsearch.config.method import GradientMethod, SteConfig
from bnnsearch.config.model import BinarySettings
from bnnsearch.config.plan import PlanConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.binarize import filter_mean_magnitude
from bnnsearch.core.checkpoint import CHECKPOINT, check_classes, load_checkpoint, misfit, save_checkpoint, take_up
from bnnsearch.core.data import Dataset
from bnnsearch.core.distill import check_units
from bnnsearch.core.distributed import share, wait_for_all
from bnnsearch.core.integers import Int8Conv2d
from bnnsearch.core.layers import BinaryConv2d, BinaryLinear, binary_layers, use_two_values
from bnnsearch.core.loop import STATE_FORMAT, GradientTrainer
from bnnsearch.core.models.build import build_model
from bnnsearch.core.models.real import real_twin
from bnnsearch.core.reproducible import derived_seed, reproducible
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.errors import EnvironmentProblem, InputError, printable
from bnnsearch.files import lock

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
"""Suffix of the state of a network that is being trained to be kept."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network.

    Attributes:
        network: as it would be exported.
        weights: its state as trained, binary weights still latent: what another run starts with.
        spent: what their training has cost, by name.
    """

    network: nn.Module
    weights: Mapping[str, Tensor]
    spent: Mapping[str, float]

    def state_dict(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"network": self.network.state_dict(), "weights": dict(self.weights), "spent": dict(self.spent)}


@dataclass(frozen=True, slots=True)
class RunBuilder:
    """Builds gradient runs over one data set.

    Attributes:
        data: their data set, on `device`.
        device: where to train.
        kept: folder of trained networks, shared by all runs; None trains each anew.
        interval: seconds between two saves of one in training.
        on_epoch: told after every epoch of one in training, the phase's name with `teacher` or `start` before it.
        trains: whether such networks are trained at all; without, trainers know their costs but must not be used.
    """

    data: Dataset
    device: torch.device | str = "cpu"
    kept: Path | None = None
    interval: float = 10.0
    on_epoch: Callable[[EpochMetrics], None] = lambda _: None
    trains: bool = True

    def trainer(self, config: TrialConfig, *, twin: TwinConfig | None = None) -> GradientTrainer:
        """The trainer of a run at its very beginning, its teacher trained, its first weights those of its start.

        Args:
            config: the run; its seed must be set.
            twin: what becomes of the model's signs and binary weights; None leaves them.

        Raises:
            InputError: teacher or start do not fit the model or the data.
            EnvironmentProblem: a file is missing or damaged, or a download failed.
        """
        model = self._model(config, twin)
        teacher = self._teacher(config, model)
        start = config.start.start_of(self, config, teacher) if config.start is not None else None
        if start is not None:
            take_weights(model, start.weights)
        return GradientTrainer(
            config,
            data=self.data,
            model=model,
            device=self.device,
            teacher=teacher.network if teacher else None,
            spent=start.spent if start else {},
        )

    def _model(self, config: TrialConfig, twin: TwinConfig | None) -> nn.Module:
        assert config.seed is not None and isinstance(config.model, BinarySettings), "a gradient run with a seed"
        with reproducible(derived_seed(config.seed, "initial weights"), device=torch.device("cpu")):
            model = build_model(config.model, shape=self.data.shape, classes=self.data.classes)
            return model if twin is None or twin.method else real_twin(model, twin.activations)

    def preparing(self, config: TrialConfig) -> Iterator[EpochMetrics]:
        """Train, and keep, the networks of our own that a run learns or starts from and that are not kept yet.

        `trainer` finds them then. What cannot be kept is left to it.

        Args:
            config: the run.

        Yields:
            Every epoch of that, the phase's name with `teacher` or `start` before it; its state may be saved already.

        Raises:
            InputError, EnvironmentProblem: as `trainer`, as far as it is seen before they are trained.
        """
        if config.distill is not None:
            self._check_pairs(config, None)
            yield from config.distill.teacher.preparing(self, config, "teacher")
        if config.start is not None:
            yield from config.start.preparing(self, config, "start")

    def _check_pairs(self, config: TrialConfig, model: nn.Module | None) -> None:
        """See that attention finds its units in a teacher that is not trained yet."""
        assert config.distill is not None
        if config.distill.attention > 0 and (untrained := config.distill.teacher.untrained(self, config)) is not None:
            check_units(model or self._model(config, None), untrained, self.data.shape)

    def _teacher(self, config: TrialConfig, model: nn.Module) -> Trained | None:
        if config.distill is None:
            return None
        source, attentive = config.distill.teacher, config.distill.attention > 0
        self._check_pairs(config, model)
        teacher = source.trained(self, config, role="teacher")
        check_fits(teacher.network, source, self.data, self.device)
        if attentive:
            check_units(model, teacher.network, self.data.shape)
        return teacher

    def taken(self, network: nn.Module) -> Trained:
        """A network that others have trained; nothing starts from it."""
        return Trained(network.to(self.device), {}, {})

    def loaded(self, source: TrainedConfig) -> Trained:
        """The network in a checkpoint."""
        path, saved = read_checkpoint(source)
        check_classes(saved, self.data.names, path)
        try:
            use_of(saved["config"], path.parent)
            config = TrialConfig.model_validate(saved["config"]).alone()
        except ValueError as error:  # that of a settings class has a line for each
            raise InputError(f"{printable(path)}: its configuration: {str(error).splitlines()[0]}") from error
        if not isinstance(config.model, BinarySettings):
            raise InputError(
                f"{printable(path)}: a teacher or start must be trained by gradients, but got {config.model.name}"
            )
        trainer = RunBuilder(self.data, self.device).trainer(config)
        try:
            take_up(trainer.load_state_dict, saved, path)
        except EnvironmentProblem:
            raise
        except RuntimeError as error:
            raise InputError(
                f"{printable(path)}: the network must fit images {self.data.shape} in {self.data.classes} classes, "
                f"but {misfit(error)}"
            ) from error
        return _result(trainer)

    def untrained(self, source: TwinConfig, config: TrialConfig) -> nn.Module:
        """The network of a run of our own, at its beginning."""
        return self._model(run_of(source, config), source)

    def trained_run(self, source: TwinConfig, config: TrialConfig, role: str) -> Trained:
        """The network of a run of our own, which is trained unless it is kept."""
        run = run_of(source, config)
        if not self.trains:
            trainer = self.trainer(run, twin=source)
            return Trained(trainer.network, trainer.network.state_dict(), trainer.planned)
        path = self._path(run, source)
        if path is None:
            trainer = self.trainer(run, twin=source)
            for metrics in self._training(trainer, None, role):
                self.on_epoch(metrics)
            return _result(trainer)
        with closing(self._kept(run, source, path, role)) as training:
            saved = _heard(training, self.on_epoch)
        network = self._model(run, source)
        if isinstance(run.method, GradientMethod) and run.method.two_valued:
            use_two_values(network)
        network.load_state_dict(saved["network"])
        return Trained(network.to(self.device), saved["weights"], saved["spent"])

    def preparing_run(self, source: TwinConfig, config: TrialConfig, role: str) -> Iterator[EpochMetrics]:
        """Every epoch of a run of our own that is trained to be kept; none where it is kept, or cannot be."""
        run = run_of(source, config)
        path = self._path(run, source)
        if path is not None:
            yield from self._kept(run, source, path, role)

    def _kept(
        self, run: TrialConfig, source: TwinConfig, path: Path, role: str
    ) -> Generator[EpochMetrics, None, dict[str, Any]]:
        """What is kept of `run`, which is trained where nothing is; others that want it wait."""
        with _held(path.with_suffix(".lock")):
            saved = _kept_state(path)
            if saved is None:
                yield from self.preparing(run)
                trainer = self.trainer(run, twin=source)
                yield from self._training(trainer, path.with_suffix(UNFINISHED), role)
                saved = _result(trainer).state_dict()
                if share()[0] == 0:
                    save_checkpoint(path, saved)
                    path.with_suffix(UNFINISHED).unlink(missing_ok=True)
            return saved

    def _path(self, run: TrialConfig, source: TwinConfig) -> Path | None:
        """Where the network of `run` is kept; None where nothing can be kept."""
        if self.kept is None:
            return None
        try:
            self.kept.mkdir(parents=True, exist_ok=True)
            (self.kept / ".writable").touch()
        except OSError as error:
            logger.warning("trained networks are not kept: %s", error)
            return None
        real = source.activations if source.method is None else None
        return self.kept / f"{fingerprint(run, real)}.pt"

    def _training(self, trainer: GradientTrainer, unfinished: Path | None, role: str) -> Iterator[EpochMetrics]:
        """Train to the end of the plan, from the state in `unfinished` where there is one, saving it there."""
        if unfinished is not None and unfinished.exists():
            try:
                trainer.load_state_dict(load_checkpoint(unfinished)["trainer"])
            except (ValueError, RuntimeError, KeyError) as error:  # it costs time, never the run
                logger.warning("%s: training starts anew: %s", unfinished, error)
        saved = time.monotonic()
        for metrics in trainer.fit():
            if unfinished is not None and share()[0] == 0 and time.monotonic() - saved >= self.interval:
                save_checkpoint(unfinished, {"trainer": trainer.state_dict(), "metrics": asdict(metrics)})
                saved = time.monotonic()
            yield replace(metrics, phase=f"{role} {metrics.phase}")


def run_of(source: TwinConfig, config: TrialConfig) -> TrialConfig:
    """The run of `source` for the run `config`: of that it takes the data, the model where it names none, and no more.

    Its `model` is the binary one even where the weights that it trains are real.
    """
    own = {"batch_size": source.batch_size, "augment": source.augment}
    return TrialConfig(
        data=config.data.model_copy(update={key: value for key, value in own.items() if value is not None}),
        model=source.network or config.model,
        method=source.method or SteConfig(),  # of no account where no weight is binary
        optimizer=source.optimizer,
        plan=PlanConfig.model_validate(source.plan.model_dump()),
        distill=source.distill,
        start=source.start,
        seed=source.seed,
    )


def fingerprint(config: TrialConfig, *more: str | None) -> str:
    """A hash of all that a run depends on: its settings, `more`, files it reads weights from, software, guests."""
    software = {"bnnsearch": __version__, "torch": torch.__version__, "state": STATE_FORMAT}
    files = [_digest(source.file) for source in needed(config.distill, config.start) if source.file]
    told = [config.model_dump(mode="json"), more, files, software]
    if guests := digests(config):
        told.append(guests)
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_sources(config: TrialConfig) -> None:
    """Find, before anything trains, whether the checkpoints and weights that a run names can be read.

    Raises:
        InputError: one is unknown.
        EnvironmentProblem: one is missing or damaged, or a download failed.
    """
    for source in needed(config.distill, config.start):
        source.check()


def take_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put into `model` every tensor of `weights` that has the name and shape of one of its own.

    A learned scale whose layer had none starts at mean |w| of its filter, nearest to the real weights (XNOR-Net).

    Raises:
        InputError: a convolution or linear layer would keep weights of its own.
    """
    own = model.state_dict()
    taken = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    names = [f"{name}.weight" for name, layer in model.named_modules() if isinstance(layer, _WEIGHTED)]
    if lacking := [name for name in names if name not in taken]:
        raise InputError(
            f"start must have weights for every layer, but has none of the shape {tuple(own[lacking[0]].shape)} "
            f"for {lacking[0]} ({len(lacking)} of {len(names)} are lacking)"
        )
    model.load_state_dict(own | taken)
    with torch.no_grad():
        for name, layer in binary_layers(model).items():
            if layer.alpha is not None and f"{name}.alpha" not in taken:
                layer.alpha.copy_(filter_mean_magnitude(layer.weight))


def check_fits(network: nn.Module, source: SourceSettings, data: Dataset, device: torch.device | str) -> None:
    """Whether `network` takes the images of `data` and knows its classes.

    Raises:
        InputError: it does not.
    """
    image = torch.zeros(1, *data.shape, device=device)
    try:
        with torch.no_grad():
            found = str(tuple(network.eval()(image).shape[1:]))
    except (RuntimeError, ValueError) as error:
        found = str(error).strip().splitlines()[0]
    if found != str((data.classes,)):
        raise InputError(
            f"distill.teacher {source.name} must give ({data.classes},) logits for an image {data.shape}, but: {found}"
        )


_WEIGHTED = (nn.Conv2d, nn.Linear, BinaryConv2d, BinaryLinear, Int8Conv2d)


def _digest(path: Path) -> str | None:
    file = path / CHECKPOINT if path.is_dir() else path
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def read_checkpoint(source: TrainedConfig) -> tuple[Path, dict[str, Any]]:
    """The checkpoint's file and content.

    Raises:
        EnvironmentProblem: it is missing or damaged.
        InputError: it is no checkpoint of a run.
    """
    path = Path(source.path)
    file = path / CHECKPOINT if path.is_dir() else path
    try:
        saved = load_checkpoint(file)
    except OSError as error:
        raise EnvironmentProblem(f"{printable(file)}: {error.strerror}; expected a checkpoint") from error
    except ValueError as error:
        raise EnvironmentProblem(str(error)) from error
    if not {"config", "trainer"} <= saved.keys():
        held = printable(", ".join(map(str, saved)))
        raise InputError(f"{printable(file)}: expected the checkpoint of a run, with its config, but it holds {held}")
    return file, saved


def _kept_state(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        saved = load_checkpoint(path)
        return {name: saved[name] for name in ("network", "weights", "spent")}
    except (ValueError, KeyError) as error:
        logger.warning("%s: not a trained network (%s); trained anew", path, printable(str(error)))
        return None


def _heard(
    training: Generator[EpochMetrics, None, dict[str, Any]], on_epoch: Callable[[EpochMetrics], None]
) -> dict[str, Any]:
    """What training comes to, each epoch told as it goes."""
    while True:
        try:
            metrics = next(training)
        except StopIteration as end:
            state: dict[str, Any] = end.value
            return state
        on_epoch(metrics)


def _result(trainer: GradientTrainer) -> Trained:
    network = trainer.sign_network()
    trained = trainer.network if binary_layers(network) else network  # without latent weights the exported say it all
    weights = {name: value.detach().cpu().clone() for name, value in trained.state_dict().items()}
    return Trained(network, weights, trainer.spent)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for all processes of this run; whoever else wants it waits.

    The system frees it should this process die.
    """
    with path.open("a") as file:
        if share()[0] == 0:
            lock(file)
        wait_for_all()
        yield
        wait_for_all()
