"""The training loop: a network, a data set and a `TrialConfig`, an epoch at a time.

A run is a sequence of phases, each with its own method, view of the weights and optimizers. Everything that changes
with time is a function of the position in the run, and every epoch draws its randomness from a seed of its own; what
has to be kept to go on exactly is therefore the network, the optimizers and the position.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from math import isfinite
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bnnsearch.config.method import GradientMethod
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.arithmetic import takes_bfloat16
from bnnsearch.core.captured import CapturedStep, hold_on
from bnnsearch.core.checkpoint import check_format
from bnnsearch.core.cost import model_cost
from bnnsearch.core.data import Dataset, eval_batches, steps_per_epoch, train_batches
from bnnsearch.core.distill import Distillation
from bnnsearch.core.distributed import average_gradients, share, summed
from bnnsearch.core.evaluation import evaluate, reestimate_batch_norm, sign_state
from bnnsearch.core.kept import Kept
from bnnsearch.core.layers import RSign, Sign, View, binary_layers, use_two_values
from bnnsearch.core.loss import class_weights, label_loss
from bnnsearch.core.methods.base import Estimating, Phase, Progress
from bnnsearch.core.methods.build import build_phases
from bnnsearch.core.metrics import (
    binary_fractions,
    correct,
    flip_rates,
    mean_over_weights,
    weight_histogram,
    weight_signs,
)
from bnnsearch.core.optimizers import real_optimizer, set_lr_factor
from bnnsearch.core.precision import CyclicPrecision
from bnnsearch.core.recu import Recu
from bnnsearch.core.reproducible import compiled, derived_seed, reproducible
from bnnsearch.core.schedule import stretch, warmup_factor
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.core.training_cost import TrainingCost

EVAL_BATCH = 512

STATE_FORMAT = 2
"""Of `GradientTrainer.state_dict`: one more with every change of what it holds or means. States of another are refused,
and what was trained by another is not found in the cache.
"""

MOSTLY_BINARY = 0.9
"""The share of binary weights whose time is noted: from then on few signs can still change."""


@dataclass(slots=True)
class _Position:
    """Where a run stands: epochs finished in all, index of the phase, epochs finished in it."""

    epoch: int = 0
    phase: int = 0
    phase_epoch: int = 0


class GradientTrainer:
    """Trains a binary network by gradients.

    Args:
        config: the training run; its seed must be set.
        data: the data set, on `device`.
        model: a network of binary layers with the default view; it is taken over and trained in place.
        device: where to train.
        teacher: a trained network to learn from, with `config.distill`.
        spent: what training the weights that the network starts with has cost, by name.

    Attributes:
        network: the network in training; what is exported is `sign_network()`.

    Raises:
        ValueError: the seed is missing, or the phases do not fit into the plan, or the class weights the classes.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        data: Dataset,
        model: nn.Module,
        device: torch.device | str = "cpu",
        teacher: nn.Module | None = None,
        spent: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        if config.seed is None:
            raise ValueError("a training run needs a seed, but got seed=None")
        assert isinstance(config.method, GradientMethod), "evolution has a trainer of its own"
        self._seed = config.seed
        self._config = config
        self._data = data
        self._device = torch.device(device)
        self._low = takes_bfloat16(config.plan.dtype, self._device)
        self._sign_network = deepcopy(model).to(self._device)
        if config.method.two_valued:
            use_two_values(self._sign_network)
        # the layout in which oneDNN and cuDNN convolve fastest
        self.network = model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._layers = binary_layers(model)
        self._weights = [layer.weight for layer in self._layers.values()]
        self._phases = build_phases(config.method, config.optimizer, epochs=config.plan.epochs)
        lengths, restarts = zip(*((each.epochs, config.plan.restarts(each.name)) for each in self._phases), strict=True)
        self._stretches = [stretch(lengths, restarts, phase) for phase in range(len(lengths))]
        self._steps = steps_per_epoch(data.train, config.data.batch_size)
        self._captures = config.plan.cuda_graph and self._device.type == "cuda"
        self._recu = Recu(config.recu) if config.recu else None
        self._precision = CyclicPrecision(config.precision) if config.precision else None
        if self._precision:
            self._precision.attach(self.network)
        self._cost = model_cost(self._sign_network, data.shape)
        self._training = self._training_cost(teacher)
        weights = class_weights(config.plan.class_weights, data.train.labels, classes=data.classes)
        self._class_weights = None if weights is None else weights.to(self._device)
        self._distillation = self._learn_from(teacher)
        self._spent_before = Counter(spent)
        self._spent = Counter(spent)
        self._quantisation: dict[str, float] = {}
        self._position = _Position()
        self._kept = Kept(config.plan.keep)
        self._handed_on = Kept(self._phase.hands_on)
        self._phase.method.start(self._weights)
        self._optimizers = self._enter_phase()

    def fit(self) -> Iterator[EpochMetrics]:
        """Train on from the present state to the end of the plan, an epoch at a time.

        Raises:
            FloatingPointError: the loss of an epoch is not finite.
        """
        while self._go_on():
            yield self._train_epoch()

    def costs(self) -> dict[str, float]:
        """What the network costs, and what training it by the full plan does, that of its first weights included."""
        return self._cost.metrics(self._config.plan.costs) | self.planned

    @property
    def planned(self) -> dict[str, float]:
        """What training costs by the full plan, by name, that of the weights it starts with included."""
        return dict(self._spent_before + Counter(self._plan_charge()))

    @property
    def spent(self) -> dict[str, float]:
        """What training has cost so far, by name, that of the weights it started with included."""
        return dict(self._spent)

    def test(self) -> dict[str, float]:
        """Accuracy, loss and balanced accuracy of the sign network on the test split."""
        batches = eval_batches(self._data.test, batch_size=EVAL_BATCH)
        return evaluate(self.sign_network(), batches, self._config.plan.metrics).of("test")

    def sign_network(self) -> nn.Module:
        """The network as it would be exported now: weights +-1, batch norm re-estimated. Calls share one network."""
        if self._kept.network is None:
            return self._present_sign_network()
        self._sign_network.load_state_dict(self._kept.network)
        return self._sign_network

    def exported(self) -> nn.Module:
        """What is packed: the same."""
        return self.sign_network()

    def _present_sign_network(self) -> nn.Module:
        self._sign_network.load_state_dict(sign_state(self.network))
        generator = torch.Generator().manual_seed(derived_seed(self._seed, "batch norm"))
        batches = train_batches(self._data.train, batch_size=self._config.data.batch_size, generator=generator)
        reestimate_batch_norm(self._sign_network, islice(batches, self._config.plan.bn_batches))
        return self._sign_network

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizers, position and the networks that are kept."""
        position = self._position
        return {
            "format": STATE_FORMAT,
            "model": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "position": [position.epoch, position.phase, position.phase_epoch],
            "spent": dict(self._spent),
            "kept": self._kept.state_dict(),
            "handed_on": self._handed_on.state_dict(),
            "quantisation": dict(self._quantisation),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the state; the next `fit` goes on with the epoch after it.

        Raises:
            ValueError: it is of another format; nothing has been taken up.
        """
        check_format(state, STATE_FORMAT)
        self._position = _Position(*state["position"])
        self._spent = Counter(state["spent"])
        self._kept.load_state_dict(state["kept"])
        self._handed_on.load_state_dict(state["handed_on"])
        self._quantisation = dict(state["quantisation"])
        self.network.load_state_dict(state["model"])
        self._optimizers = self._enter_phase()
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _learn_from(self, teacher: nn.Module | None) -> Distillation | None:
        config = self._config.distill
        assert (teacher is None) == (config is None), "a run distils if and only if it has a teacher"
        if teacher is None or config is None:
            return None
        return Distillation(
            teacher.to(self._device), self.network,
            attention=config.attention, labels=config.labels, weights=self._class_weights,
        )  # fmt: skip

    def _training_cost(self, teacher: nn.Module | None) -> TrainingCost:
        config = self._config
        return TrainingCost(
            self._cost,
            images=min(config.data.batch_size, len(self._data.train)),
            steps=config.plan.epochs * self._steps,
            real=16 if self._low else 32,
            precision=self._precision,
            teacher=model_cost(teacher, self._data.shape) if teacher else None,
        )

    def _charge(self, phase: Phase, first: int, epochs: int) -> dict[str, float]:
        """What `epochs` of `phase` cost, `first` being the run's epochs before them."""
        seen = phase.method.seen
        if self._recu and seen == "relaxed":
            seen = "mapped"
        return self._training.of(seen, range(first * self._steps, (first + epochs) * self._steps))

    def _plan_charge(self) -> dict[str, float]:
        """What the full plan costs: no phase ends early."""
        first = 0
        total: Counter[str] = Counter()
        for phase in self._phases:
            total.update(self._charge(phase, first, phase.epochs))
            first += phase.epochs
        return dict(total)

    @property
    def _phase(self) -> Phase:
        return self._phases[self._position.phase]

    def _enter_phase(self) -> list[Optimizer]:
        """Show the weights as the phase's method does; its optimizers, new."""
        method = self._phase.method
        transforms: list[View] = [view for view in (self._precision, self._recu) if view] + [method.view]

        def view(weight: Tensor) -> Tensor:
            return reduce(lambda seen, transform: transform(seen), transforms, weight)

        for layer in self._layers.values():
            layer.view, layer.two_valued = view, self._phase.two_valued
        estimate = method.estimate if isinstance(method, Estimating) else None
        for part in self.network.modules():
            if isinstance(part, Sign | RSign):
                part.estimate = estimate
        plan = self._config.plan
        self._forward = compiled(self._loss, deterministic=plan.deterministic) if plan.compile else self._loss
        if self._captures:
            self._captured: CapturedStep | None = None
            self.network.zero_grad()  # what the last phase's graph writes is its own
            hold_on(self._device, *(each for each in (method, self._recu, self._precision) if each))
        binary = method.optimizer(self._weights) if self._weights else None
        real = real_optimizer(self._config.optimizer, self.network, self._weights)
        return [real] if binary is None else [binary, real]

    def _go_on(self) -> bool:
        """Whether an epoch is left; enters the next phase where the present one is over."""
        position, phase = self._position, self._phase
        if position.phase_epoch < phase.epochs and not self._is_binary(phase.until_binary):
            return True
        if position.phase + 1 == len(self._phases):
            return False
        self._position = _Position(position.epoch, position.phase + 1, 0)
        if self._handed_on.network is not None:
            self.network.load_state_dict(self._handed_on.network)
        self._handed_on = Kept(self._phase.hands_on)
        self._phase.method.start(self._weights)
        self._optimizers = self._enter_phase()
        return True

    def _is_binary(self, share: float | None) -> bool:
        if share is None or self._position.phase_epoch == 0:
            return False
        return mean_over_weights(binary_fractions(self._layers), self._layers, empty=1.0) >= share

    def _train_epoch(self) -> EpochMetrics:
        seed = derived_seed(self._seed, self._position.epoch)
        with reproducible(seed, device=self._device, deterministic=self._config.plan.deterministic):
            before = weight_signs(self._layers)
            values = self._train_steps(torch.Generator().manual_seed(seed)) | self._schedules()
            flips = flip_rates(before, weight_signs(self._layers))
            network = self._present_sign_network()
            batches = eval_batches(self._data.val, batch_size=EVAL_BATCH)
            measured = evaluate(network, batches, self._config.plan.metrics).of("val")
            if self._phase.hands_on == "best":
                values["relaxed_val_acc"] = self._keep_relaxed()
        self._spent.update(self._charge(self._phase, self._position.epoch, 1))
        self._position.epoch += 1
        self._position.phase_epoch += 1
        if not isfinite(values["train_loss"]):
            raise FloatingPointError(
                f"train_loss must be finite, but is {values['train_loss']} in epoch {self._position.epoch}"
            )
        binary = binary_fractions(self._layers)
        binary_fraction = mean_over_weights(binary, self._layers, empty=1.0)
        self._note_quantisation(binary_fraction)
        summary = {
            **self._kept.weigh(self._position.epoch, measured, lambda: deepcopy(network.state_dict())),
            "flip_rate": mean_over_weights(flips, self._layers, empty=0.0),
            "binary_fraction": binary_fraction,
            **self._spent,
            **self._quantisation,
        }
        return EpochMetrics(
            self._position.epoch,
            self._planned_epochs(),
            self._phase.name,
            values | summary,
            layers={"flip_rate": flips, "binary_fraction": binary},
            weights=weight_histogram(self._layers),
        )

    def _schedules(self) -> dict[str, float]:
        """What changes with time, as the last step of the epoch had it: each by who changes it."""
        *binary, real = self._optimizers
        values = {"real_lr": real.param_groups[0]["lr"]}
        if binary:
            values[self._phase.method.rate_name] = binary[0].param_groups[0]["lr"]
        for changing in (self._phase.method, self._recu, self._precision):
            values |= changing.state() if changing else {}
        return values

    def _keep_relaxed(self) -> float:
        """The validation accuracy of the network as this phase trains it; keeps the network if none was better.

        It decides what the next phase begins from and nothing else: what a run reports is the sign network's.
        """
        if self._precision:
            self._precision.lift()  # until the next step: at the bit-width of the moment, accuracy follows the cycle
        accuracy = evaluate(self.network, eval_batches(self._data.val, batch_size=EVAL_BATCH)).acc
        epoch = self._position.phase_epoch + 1
        self._handed_on.weigh(epoch, {"val_acc": accuracy}, lambda: deepcopy(self.network.state_dict()))
        return accuracy

    def _note_quantisation(self, binary_fraction: float) -> None:
        """How far and how soon the quantisation phase made the weights binary; kept for the epochs that follow."""
        if self._phase.name != "quantise":
            return
        self._quantisation["quantised_fraction"] = binary_fraction
        if binary_fraction >= MOSTLY_BINARY:
            self._quantisation.setdefault("mostly_binary_at", self._position.phase_epoch / self._phase.epochs)

    def _planned_epochs(self) -> int:
        """Epochs of the whole run as things stand: a phase that has ended early shortens it."""
        position = self._position
        later = sum(phase.epochs for phase in self._phases[position.phase :])
        return position.epoch - position.phase_epoch + later

    def _train_steps(self, generator: torch.Generator) -> dict[str, float]:
        """One pass over the training split; its loss, accuracy and speed."""
        config = self._config.data
        total, hits = torch.zeros(2, device=self._device).unbind()
        self.network.train()
        start = time.perf_counter()
        batches = train_batches(
            self._data.train,
            batch_size=config.batch_size,
            augment=config.augment,
            generator=generator,
            epoch=self._position.epoch,
            share=share(),
        )
        seen = 0
        for step, (images, labels) in enumerate(batches):
            self._anneal(step)
            loss, logits = self._gradients(images, labels)
            average_gradients(self.network.parameters())
            for optimizer in self._optimizers:
                optimizer.step()
            total += loss.detach() * len(labels)
            hits += correct(logits.detach(), labels)
            seen += len(labels)
        sums = torch.stack([total, hits, torch.full_like(total, seen)])
        total_loss, all_hits, images_seen = summed(sums).tolist()  # waits for the device
        return {
            "train_loss": total_loss / images_seen,
            "train_acc": all_hits / images_seen,
            "images_per_s": images_seen / (time.perf_counter() - start),
        }

    def _gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch; the gradients of the loss are in the parameters."""
        if self._captures:
            self._captured = self._captured or CapturedStep(self._forward, self.network, images, labels)
            return self._captured(images, labels)
        self.network.zero_grad()
        loss, logits = self._forward(images, labels)
        loss.backward()
        return loss, logits

    def _anneal(self, step: int) -> None:
        """Set everything that changes with time for `step` of this epoch."""
        plan, phase, position = self._config.plan, self._phase, self._position
        in_run = position.epoch + step / self._steps
        in_phase = position.phase_epoch + step / self._steps
        phase.method.anneal(Progress(in_phase, phase.epochs, self._steps))
        if self._recu:
            self._recu.anneal(in_run / plan.epochs)
        if self._precision:
            self._precision.anneal(position.epoch * self._steps + step, plan.epochs * self._steps)
        before, length = self._stretches[position.phase]
        factor = plan.schedule.at(before + in_phase, length) * warmup_factor(in_run, plan.warmup_epochs)
        for optimizer in self._optimizers:
            set_lr_factor(optimizer, factor)

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._low):
            logits = self.network(images)
            if self._distillation:
                return self._distillation(images, logits, labels), logits
        smoothing = self._config.plan.label_smoothing
        return label_loss(logits.float(), labels, weights=self._class_weights, smoothing=smoothing), logits
