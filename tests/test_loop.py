"""The training loop: what it reports, what it leaves alone, and how a run is cut short, repeated and continued."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest
import torch
from torch import nn
from training_fixtures import digits, repeatable, small_network, trainer, trial

from bnnsearch.config.optimizer import AdamConfig
from bnnsearch.core.data import eval_batches, train_batches
from bnnsearch.core.evaluation import evaluate, reestimate_batch_norm, sign_state
from bnnsearch.core.layers import BinaryLinear, binary_layers
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.metrics import binary_fractions, flip_rates, mean_over_weights, weight_histogram, weight_signs
from bnnsearch.core.optimizers import real_optimizer
from bnnsearch.core.reproducible import derived_seed, reproducible
from bnnsearch.core.trainer import WEIGHT_BINS, quantisation_note

BMD = {"name": "bmd", "pretrain_epochs": 1, "finetune_epochs": 1}
BNEW = {"name": "bnew", "pretrain_epochs": 2, "finetune_epochs": 2, "growth": 6.0}


class TestReport:
    def test_metrics_of_an_epoch(self) -> None:
        first = next(trainer(trial({"name": "ste"})).fit())
        assert (first.epoch, first.epochs, first.phase) == (1, 6, "train")
        assert set(first.values) == {
            "train_loss", "train_acc", "val_acc", "val_loss", "val_balanced_acc", "flip_rate", "binary_fraction",
            "lr", "real_lr", "images_per_s", "train_bitops", "train_cost_thesis",
        }  # fmt: skip
        assert set(first.layers["flip_rate"]) == {"3", "7"}
        assert first.values["binary_fraction"] == 1

    def test_a_soft_intermediate_is_never_reported(self) -> None:
        """While weights are real, the accuracy is still that of their signs."""
        run = trainer(trial(BNEW))
        first = next(run.fit())
        soft = run.network
        reported = evaluate(run.sign_network(), eval_batches(digits().val, batch_size=50))[0]
        assert first.values["binary_fraction"] < 0.01
        assert first.values["val_acc"] == reported
        assert evaluate(soft, eval_batches(digits().val, batch_size=50))[0] != reported

    def test_phases_in_turn(self) -> None:
        history = list(trainer(trial(BNEW)).fit())
        assert [epoch.phase for epoch in history] == ["pretrain"] * 2 + ["quantise"] * 2 + ["finetune"] * 2
        assert history[-1].values["binary_fraction"] == 1
        assert [epoch.values["flip_rate"] for epoch in history[-2:]] == [0, 0]

    @pytest.mark.parametrize("method", [{"name": "ste"}, BMD, BNEW])
    def test_costs_add_up_to_those_of_the_plan(self, method: dict[str, Any]) -> None:
        for sections in ({}, {"precision": {"cycles": 2}}, {"plan": {"dtype": "bfloat16"}}):
            run = trainer(trial(method, epochs=5, **sections))
            *_, last = run.fit()
            for name in ("train_bitops", "train_cost_thesis"):
                assert last.values[name] == pytest.approx(run.costs()[name])

    def test_bit_operations_of_a_precision(self) -> None:
        """A grid below a sign changes no product; the gradients' does, of both products of the backward pass."""
        ste = {"name": "ste"}
        full = trainer(trial(ste)).costs()
        mixed = {"weights": [3, 8], "activations": [2, 8], "gradients": [32, 32]}
        assert trainer(trial(ste, precision=mixed)).costs()["train_bitops"] == full["train_bitops"]
        images, unit = 6 * 20 * 64, 3 * 32**2
        real = 8 * 8 * 16 * 9 * 2 * 32 * 32 + 64 * 10 * 3 * 32 * 32  # a stem has no gradient of its inputs
        binary = 4 * 4 * 32 * 16 * 9 + 512 * 64
        assert full["train_bitops"] == pytest.approx(images / unit * (real + binary * (1 + 32 + 32)))
        eight = trainer(trial(ste, precision={"bits": [8, 8]})).costs()
        assert eight["train_bitops"] == pytest.approx(images / unit * (real + binary * (1 + 8 + 8)))
        assert full["train_cost_thesis"] / eight["train_cost_thesis"] == 4

    def test_every_phase_is_charged_for_what_it_sees(self) -> None:
        """Relaxed weights at their bits, frozen ones as signs whose gradient nobody computes."""
        run = trainer(trial(BNEW, precision={"bits": [8, 8]}))
        epochs = [epoch.values["train_bitops"] for epoch in run.fit()]
        spent = [after - before for before, after in pairwise([0.0, *epochs])]
        images, unit = 20 * 64, 3 * 32**2
        real = 8 * 8 * 16 * 9 * 2 * 32 * 32 + 64 * 10 * 3 * 32 * 32
        binary = 4 * 4 * 32 * 16 * 9 + 512 * 64
        relaxed, frozen = 8 * 1 + 8 * 8 + 8 * 1, 1 + 8
        expected = [images / unit * (real + binary * each) for each in [relaxed] * 4 + [frozen] * 2]
        assert spent == pytest.approx(expected)

    def test_a_diverged_run_says_so(self) -> None:
        network = small_network()
        network.get_parameter("10.bias").data.fill_(torch.nan)
        run = trainer(trial({"name": "ste"}), network)
        with pytest.raises(FloatingPointError, match="train_loss must be finite"):
            list(run.fit())

    def test_a_run_needs_a_seed(self) -> None:
        with pytest.raises(ValueError, match="needs a seed"):
            trainer(trial({"name": "ste"}, seed=None))


class Untouchable:
    def __len__(self) -> int:
        raise AssertionError("the test split was read")

    def __getattr__(self, name: str) -> object:
        raise AssertionError("the test split was read")


class TestWhatIsLeftAlone:
    def test_the_test_split(self) -> None:
        data = replace(digits(), test=Untouchable())  # type: ignore[arg-type]
        run = GradientTrainer(trial({"name": "ste"}, epochs=1), data=data, model=small_network())
        list(run.fit())
        run.costs()
        with pytest.raises(AssertionError, match="the test split was read"):
            run.test()

    def test_the_test_split_is_read_by_test(self) -> None:
        run = trainer(trial({"name": "ste"}, epochs=3))
        list(run.fit())
        measured = run.test()
        assert measured["test_acc"] == evaluate(run.sign_network(), eval_batches(digits().test, batch_size=100))[0]
        assert measured["test_acc"] > 0.9

    def test_generators_and_settings_of_the_process(self) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        list(trainer(trial({"name": "ste"}, epochs=1)).fit())
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.utils.deterministic.fill_uninitialized_memory

    def test_generators_are_restored_after_an_error(self) -> None:
        before = torch.get_rng_state()
        with pytest.raises(KeyError), reproducible(3, device=torch.device("cpu")):
            torch.rand(3)
            raise KeyError
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.are_deterministic_algorithms_enabled()


class TestCourse:
    def test_a_broken_off_fit_goes_on_where_it_was(self) -> None:
        whole = repeatable(trainer(trial(BNEW)).fit())
        run = trainer(trial(BNEW))
        assert [*repeatable(islice(run.fit(), 1)), *repeatable(islice(run.fit(), 2)), *repeatable(run.fit())] == whole
        assert list(run.fit()) == []

    def test_another_seed_is_another_run(self) -> None:
        losses = {next(trainer(trial({"name": "ste"}, seed=seed)).fit()).values["train_loss"] for seed in (1, 2, 2**62)}
        assert len(losses) == 3

    def test_quantisation_ends_once_the_weights_are_binary(self) -> None:
        method = {**BNEW, "growth": 30.0, "until_binary": 0.9}
        history = list(trainer(trial(method, epochs=30)).fit())
        quantise = [epoch for epoch in history if epoch.phase == "quantise"]
        assert 1 < len(quantise) < 26
        assert quantise[-1].values["binary_fraction"] >= 0.9 > quantise[-2].values["binary_fraction"]
        assert [epoch.phase for epoch in history[-2:]] == ["finetune"] * 2
        assert history[-1].epoch == history[-1].epochs == 2 + len(quantise) + 2

    def test_the_method_starts_from_the_best_pretrained_network(self) -> None:
        """Pretraining gets worse again: its last epoch starts from a classifier turned round, and hardly learns."""
        method = {**BNEW, "pretrain_epochs": 3, "finetune_epochs": 0}
        optimizer = {"name": "sgd", "lr": 1e-3, "momentum": 0.0, "real_lr": 0.03}
        run = trainer(trial(method, epochs=5, optimizer=optimizer, plan={"schedule": {"name": "constant"}}))
        states, accuracies = [], []
        for metrics in islice(run.fit(), 3):
            states.append(deepcopy(run.network.state_dict()))
            accuracies.append(metrics.values["relaxed_val_acc"])
            if len(states) == 2:
                *_, classifier = (m for m in run.network.modules() if isinstance(m, torch.nn.Linear))
                classifier.weight.data.neg_()
        best = accuracies.index(max(accuracies))
        assert best != 2, f"the last network is the best: {accuracies}"
        assert run._go_on()
        assert all(torch.equal(value, states[best][name]) for name, value in run.network.state_dict().items())
        assert "relaxed_val_acc" not in next(run.fit()).values

    def test_a_run_says_how_soon_its_weights_were_binary(self) -> None:
        *_, fast = (epoch.values for epoch in trainer(trial({**BNEW, "growth": 60.0}, epochs=10)).fit())
        *_, slow = (epoch.values for epoch in trainer(trial({**BNEW, "growth": 0.1}, epochs=10)).fit())
        assert fast["mostly_binary_at"] <= 0.5
        assert fast["quantised_fraction"] > 0.99
        assert "mostly_binary_at" not in slow
        assert slow["quantised_fraction"] < 0.5 < slow["binary_fraction"] == 1.0
        assert "few signs could change from then on" in str(quantisation_note(fast))
        assert f"{slow['quantised_fraction']:.1%} of the weights were binary at the end" in str(quantisation_note(slow))
        assert quantisation_note({"mostly_binary_at": 0.8, "quantised_fraction": 0.995, "val_acc": 0.9}) is None
        assert quantisation_note({"val_acc": 0.9}) is None

    def test_what_changes_with_time_is_recorded(self) -> None:
        """By its own name, as the last of the 20 steps of an epoch had it."""
        sections = {"precision": {"bits": [4, 8], "gradients": [8, 8], "cycles": 2}}
        epochs = list(trainer(trial(BNEW, **sections)).fit())
        assert [("lambda" in epoch.values, "lr" in epoch.values) for epoch in epochs] == (
            [(False, True)] * 2 + [(True, True)] * 2 + [(False, False)] * 2
        )
        assert epochs[3].values["lambda"] == pytest.approx(math.expm1(6.0 * 79 / 40**2) / (2 * 0.01))
        assert {epoch.values["bits_gradients"] for epoch in epochs} == {8.0}
        assert len({epoch.values["bits_weights"] for epoch in epochs}) > 1
        taus = [epoch.values["tau"] for epoch in trainer(trial({"name": "ste"}, recu={})).fit()]
        assert taus == sorted(set(taus))
        assert "gamma" in next(trainer(trial({"name": "bop"})).fit()).values

    def test_frozen_weights_stay_and_the_rest_learns(self) -> None:
        run = trainer(trial(BNEW))
        list(islice(run.fit(), 5))
        frozen = {name: layer.weight.detach().clone() for name, layer in run._layers.items()}
        stem = run.network.get_parameter("0.weight").detach().clone()
        list(run.fit())
        assert all(torch.equal(run._layers[name].weight, weight) for name, weight in frozen.items())
        assert not torch.equal(run.network.get_parameter("0.weight"), stem)

    def test_low_precision_arithmetic_keeps_full_precision_weights(self) -> None:
        run = trainer(trial({"name": "ste"}, plan={"dtype": "bfloat16"}))
        *_, last = run.fit()
        assert last.values["val_acc"] > 0.9
        assert {parameter.dtype for parameter in run.network.parameters()} == {torch.float32}

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "method",
        [
            {"name": "bmd", "rate": 1.5, "finetune_epochs": 0},
            {"name": "bnew", "pretrain_epochs": 0, "finetune_epochs": 0},
        ],
    )
    def test_a_compiled_step_is_compiled_once(self, method: dict[str, object]) -> None:
        """Temperatures, tau, bit-widths and learning rates change; the code does not."""
        recu = {"recu": {}} if method["name"] == "bmd" else {}
        sections = {"precision": {"cycles": 1}, **recu}
        eager = trainer(trial(method, epochs=3, **sections))
        compiled = trainer(trial(method, epochs=3, plan={"compile": True}, **sections))
        torch._dynamo.reset()
        with torch._dynamo.config.patch(error_on_recompile=True):
            accuracies = [epoch.values["val_acc"] for epoch in compiled.fit()]
        assert accuracies[-1] == pytest.approx([epoch.values["val_acc"] for epoch in eager.fit()][-1], abs=0.08)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @pytest.mark.parametrize(
        "method",
        [
            {"name": "ste"},
            {"name": "bop"},
            {"name": "bmd", "rate": 1.5, "finetune_epochs": 1},
            {"name": "bnew", "pretrain_epochs": 1, "finetune_epochs": 1},
        ],
    )
    def test_a_captured_step_is_the_same_step(self, method: dict[str, object]) -> None:
        """Temperatures, tau, bit-widths and learning rates change; what was captured follows them."""
        recu = {"recu": {}} if method["name"] == "bmd" else {}
        sections = {"precision": {"cycles": 1}, **recu}
        eager = trainer(trial(method, epochs=4, **sections), device="cuda")
        captured = trainer(trial(method, epochs=4, plan={"cuda_graph": True}, **sections), device="cuda")
        for one, other in zip(eager.fit(), captured.fit(), strict=True):
            assert other.values["train_loss"] == pytest.approx(one.values["train_loss"], rel=1e-4)
            assert other.values["val_acc"] == pytest.approx(one.values["val_acc"], abs=0.02)


class TestEvaluation:
    def test_batch_norm_statistics_are_means_over_the_batches(self) -> None:
        network = nn.Sequential(nn.BatchNorm1d(3))
        batches = [torch.randn(50, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
        network[0].running_mean.fill_(99.0)
        reestimate_batch_norm(network, [(batch, torch.zeros(50)) for batch in batches])
        torch.testing.assert_close(network[0].running_mean, torch.stack(batches).mean(dim=(0, 1)))
        torch.testing.assert_close(network[0].running_var, torch.stack([batch.var(dim=0) for batch in batches]).mean(0))
        assert network[0].momentum == 0.1
        assert not network.training

    def test_accuracy_and_loss_do_not_depend_on_the_batches(self) -> None:
        network = small_network()
        results = [evaluate(network, eval_batches(digits().val, batch_size=size)) for size in (7, 1000)]
        assert results[0][0] == results[1][0]
        assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)

    def test_sign_state_keeps_what_is_not_binary(self) -> None:
        network = small_network(scale="learned")
        state = sign_state(network)
        for name, value in network.state_dict().items():
            same = torch.equal(state[name], value)
            assert same != (name in {"3.weight", "7.weight"})

    def test_an_xnor_network_keeps_its_scale_through_sign(self) -> None:
        network, exported = small_network(scale="xnor").eval(), small_network(seed=1, scale="xnor").eval()
        exported.load_state_dict(sign_state(network))
        images = torch.randn(16, 1, 8, 8)
        torch.testing.assert_close(exported(images), network(images))

    def test_training_batches_serve_the_statistics_in_random_order(self) -> None:
        """The split may be sorted by class; statistics of its first images would then be those of one class."""
        batches = train_batches(digits().train, batch_size=64, generator=torch.Generator().manual_seed(0))
        labels = torch.cat([y for _, y in islice(batches, 2)])
        assert len(labels.unique()) == 10


class TestMetrics:
    @staticmethod
    def layer(*weights: float) -> BinaryLinear:
        layer = BinaryLinear(len(weights), 1)
        layer.weight.data = torch.tensor([weights])
        layer.view = lambda weight: weight
        return layer

    def test_flip_rate_counts_sign_changes(self) -> None:
        layers = {"a": self.layer(0.5, -0.5, 0.1, -0.1), "b": self.layer(1.0)}
        before = weight_signs(layers)
        layers["a"].weight.data = torch.tensor([[0.5, 0.5, 0.0, 0.1]])
        assert flip_rates(before, weight_signs(layers)) == {"a": 0.5, "b": 0.0}

    def test_binary_fraction_counts_weights_near_one(self) -> None:
        layers = {"a": self.layer(1.0, -0.9995, 0.99, 0.0)}
        assert binary_fractions(layers) == {"a": 0.5}

    def test_weights_are_counted_in_bins_of_a_tenth(self) -> None:
        shares = weight_histogram({"a": self.layer(1.0, -0.96, 0.04), "b": self.layer(-7.0)})
        assert {centre: share for centre, share in zip(WEIGHT_BINS, shares, strict=True) if share} == {
            -1.5: 0.25, -1.0: 0.25, 0.0: 0.25, 1.0: 0.25,
        }  # fmt: skip
        assert weight_histogram({}) == []

    def test_layers_count_by_their_weights(self) -> None:
        layers = {"a": self.layer(1.0, 1.0, 1.0), "b": self.layer(1.0)}
        assert mean_over_weights({"a": 1.0, "b": 0.0}, layers, empty=0.0) == 0.75
        assert mean_over_weights({}, {}, empty=0.5) == 0.5


class TestOptimizers:
    def test_only_real_matrices_and_kernels_decay(self) -> None:
        network = small_network(scale="learned")
        binary = [layer.weight for layer in binary_layers(network).values()]
        groups = real_optimizer(AdamConfig(weight_decay=0.1, real_lr=0.5), network, binary).param_groups
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        decayed, others = ({names[id(parameter)] for parameter in group["params"]} for group in groups)
        assert decayed == {"0.weight", "10.weight"}
        assert {"3.alpha", "1.weight", "1.bias", "5.bias", "10.bias"} <= others
        assert not (decayed | others) & {"3.weight", "7.weight"}
        assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.5, 0.1), (0.5, 0.0)]

    def test_seeds_are_derived_without_collisions(self) -> None:
        seeds = {derived_seed(seed, epoch) for seed in range(50) for epoch in range(50)}
        assert len(seeds) == 2500
        assert all(0 <= seed < 2**63 for seed in seeds)
