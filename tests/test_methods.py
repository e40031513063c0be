"""Training methods: one hand-derived step of each, and a contract that all of them keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import Parameter
from training_fixtures import digits, small_network, trainer, trial

from bnnsearch.config.method import (
    AdabinConfig,
    BiperConfig,
    BmdConfig,
    BnewConfig,
    Bop2Config,
    BopConfig,
    IrnetConfig,
    ProxquantConfig,
    ResteConfig,
    SteConfig,
)
from bnnsearch.config.optimizer import AdamConfig, SgdConfig
from bnnsearch.core.binarize import sign
from bnnsearch.core.data import eval_batches
from bnnsearch.core.evaluation import evaluate
from bnnsearch.core.layers import binary_layers, two_values, use_two_values
from bnnsearch.core.loop import GradientTrainer
from bnnsearch.core.methods.adabin import Adabin
from bnnsearch.core.methods.base import Method, Progress
from bnnsearch.core.methods.biper import build_biper
from bnnsearch.core.methods.bmd import Dual, Primal, mirror_step, temperature
from bnnsearch.core.methods.bnew import LARGEST_GROWTH, Bnew, growth
from bnnsearch.core.methods.bop import Bop
from bnnsearch.core.methods.build import build_phases
from bnnsearch.core.methods.irnet import Irnet
from bnnsearch.core.methods.proxquant import Proxquant, prox_l1, prox_l2
from bnnsearch.core.methods.relaxed import Frozen, Relaxed
from bnnsearch.core.methods.reste import Reste
from bnnsearch.core.methods.ste import Ste
from bnnsearch.core.metrics import BINARY_TOLERANCE
from bnnsearch.core.optimizers import Signum, set_lr_factor
from bnnsearch.core.trainer import EpochMetrics
from bnnsearch.testing import check_method

PLAIN_SGD = SgdConfig(lr=0.1, momentum=0)


def after_steps(method: Method, weight: float, gradients: list[float], *, epoch: float = 0.0) -> list[float]:
    """The values of one weight after each gradient, at `epoch` of ten."""
    parameter = Parameter(torch.tensor([weight]))
    optimizer = method.optimizer([parameter])
    assert optimizer is not None
    method.anneal(Progress(epoch, 10, 1))
    values = []
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        values.append(parameter.item())
    return values


def seen(view: Callable[[Tensor], Tensor], weights: list[float], gradients: list[float]) -> tuple[Tensor, Tensor]:
    """What `view` shows of one filter, and the gradient of its weights given that of what is shown."""
    filters = torch.tensor([weights], requires_grad=True)
    shown = view(filters)
    shown.backward(torch.tensor([gradients]))
    assert filters.grad is not None
    return shown.detach()[0], filters.grad[0]


class TestGoldenSteps:
    def test_ste_with_adam(self) -> None:
        method = Ste(SteConfig(), AdamConfig(lr=0.01))
        assert after_steps(method, 0.005, [0.3, -0.1]) == pytest.approx([-0.005, -0.009002], abs=1e-6)

    def test_ste_clips_latent_weights_unless_told_otherwise(self) -> None:
        assert after_steps(Ste(SteConfig(), PLAIN_SGD), 0.95, [-1.0]) == [1.0]
        assert after_steps(Ste(SteConfig(clip=False), PLAIN_SGD), 0.95, [-1.0]) == pytest.approx([1.05])

    def test_mirror_descent_temperature(self) -> None:
        assert temperature(1.01, 100) == pytest.approx(2.70481, abs=1e-5)
        assert temperature(1.3, 1e6) == 1e35

    def test_mirror_descent_view_and_its_gradient(self) -> None:
        method = Dual(BmdConfig(rate=1.01), AdamConfig())
        method.anneal(Progress(100, 200))
        latent = torch.tensor([0.3], requires_grad=True)
        weight = method.view(latent)
        weight.backward(torch.tensor([2.0]))
        assert weight.item() == pytest.approx(0.670386, abs=2e-6)
        assert latent.grad is not None
        assert latent.grad.item() == 2.0  # no factor tanh'

    def test_mirror_descent_closed_form(self) -> None:
        assert mirror_step(torch.tensor(0.2), torch.tensor(0.01), 2.0).item() == pytest.approx(0.180725, abs=1e-6)
        method = Primal(BmdConfig(form="primal", rate=2), PLAIN_SGD)
        assert after_steps(method, 0.2, [0.1], epoch=1) == pytest.approx([0.180725], abs=1e-6)

    def test_bop(self) -> None:
        method = Bop(BopConfig(gamma=0.1, threshold=0.05), PLAIN_SGD)
        # m = .1 flips, .07 has the other sign, -.237 flips back
        assert after_steps(method, 1.0, [1.0, -0.2, -3.0]) == [-1.0, -1.0, 1.0]

    @pytest.mark.parametrize(("threshold", "flips"), [(0.25, False), (0.249, True)])
    def test_bop_keeps_a_weight_at_the_threshold(self, threshold: float, flips: bool) -> None:
        method = Bop(BopConfig(gamma=0.5, threshold=threshold), PLAIN_SGD)
        assert after_steps(method, 1.0, [0.5]) == [-1.0 if flips else 1.0]

    @pytest.mark.parametrize(
        ("threshold", "expected"), [(0.99, [-1.0, -1.0]), (1.01, [1.0, 1.0]), (0.69, [-1.0, -1.0])]
    )
    def test_second_order_bop_first_ratio_is_one(self, threshold: float, expected: list[float]) -> None:
        method = Bop(Bop2Config(gamma=0.1, sigma=0.01, threshold=threshold), PLAIN_SGD)
        assert after_steps(method, 1.0, [1.0, -0.2]) == expected

    @pytest.mark.parametrize(("threshold", "flips"), [(0.68972, True), (0.68974, False)])
    def test_second_order_bop_second_ratio(self, threshold: float, flips: bool) -> None:
        parameter = Parameter(torch.tensor([1.0]))
        optimizer = Bop(Bop2Config(gamma=0.1, sigma=0.01, threshold=2.0), PLAIN_SGD).optimizer([parameter])
        parameter.grad = torch.tensor([1.0])
        optimizer.step()
        optimizer.threshold = threshold  # type: ignore[attr-defined]
        parameter.grad = torch.tensor([-0.2])
        optimizer.step()
        assert parameter.item() == (-1.0 if flips else 1.0)

    def test_second_order_bop_bias_correction(self) -> None:
        # after one step both moments are those of the gradient itself: ratio 1 whatever the rates
        for threshold, value in [(0.999, -1.0), (1.001, 1.0)]:
            config = Bop2Config(gamma=1e-3, sigma=1e-2, threshold=threshold, bias_correction=True)
            assert after_steps(Bop(config, PLAIN_SGD), 1.0, [0.3]) == [value]

    def test_proxquant_proximal_steps(self) -> None:
        weight = torch.tensor([0.4, 1.3, -0.4, -0.95])
        torch.testing.assert_close(prox_l1(weight, 0.1), torch.tensor([0.5, 1.2, -0.5, -1.0]))
        torch.testing.assert_close(prox_l1(weight, 0.05)[0], torch.tensor(0.45))
        torch.testing.assert_close(prox_l2(weight, 0.1)[0], torch.tensor(0.454545), atol=1e-6, rtol=0)

    @pytest.mark.parametrize(
        ("settings", "weight", "expected"),
        [({}, 0.4, 0.5), ({"l1_step": "half"}, 0.4, 0.45), ({"penalty": "l2"}, 0.4, 0.454545), ({}, 1.3, 1.0)],
    )
    def test_proxquant_step_has_strength_lr_times_rate_times_epoch(
        self, settings: dict[str, Any], weight: float, expected: float
    ) -> None:
        method = Proxquant(ProxquantConfig(reg_rate=0.2, **settings), PLAIN_SGD)
        assert after_steps(method, weight, [0.0], epoch=5) == pytest.approx([expected], abs=1e-6)

    @pytest.mark.parametrize(
        ("settings", "expected"),
        [({"step": "exact"}, 0.388889), ({"step": "approximate"}, 0.385), ({"order": "prox_first"}, 0.39)],
    )
    def test_bnew(self, settings: dict[str, Any], expected: float) -> None:
        """Lambda is .5, eta .1: epoch 5 at a rate of .1, or half of the phase at a rate of 1."""
        by_epoch = Bnew(BnewConfig(lambda_rate=0.1, time="epoch", **settings), PLAIN_SGD)
        assert after_steps(by_epoch, 0.4, [0.5], epoch=5) == pytest.approx([expected], abs=1e-6)
        method = Bnew(BnewConfig(lambda_rate=1.0, **settings), PLAIN_SGD)
        assert after_steps(method, 0.4, [0.5], epoch=5) == pytest.approx([expected], abs=1e-6)

    @pytest.mark.parametrize(("eta", "factor"), [("base", 0.1), ("current", 0.05), ("one", 1.0)])
    def test_bnew_readings_of_eta(self, eta: Any, factor: float) -> None:
        """Half of the phase at a rate of .2, the schedule at half of the base rate .1: .4 (1 + 2 * .5 * .2 * eta)."""
        method = Bnew(BnewConfig(lambda_rate=0.2, eta=eta), PLAIN_SGD)
        parameter = Parameter(torch.tensor([0.4]))
        optimizer = method.optimizer([parameter])
        set_lr_factor(optimizer, 0.5)
        method.anneal(Progress(5, 10))
        parameter.grad = torch.zeros(1)
        optimizer.step()
        assert parameter.item() == pytest.approx(0.4 * (1 + 0.2 * factor), abs=1e-7)
        assert method.state() == {"lambda": 0.1}

    def test_bnew_exact_step_beyond_its_pole(self) -> None:
        assert growth(0.25, exact=True) == 2
        assert growth(0.5, exact=True) == growth(3, exact=True) == LARGEST_GROWTH
        method = Bnew(BnewConfig(lambda_rate=100, step="exact"), PLAIN_SGD)
        assert after_steps(method, -0.01, [0.0], epoch=5) == [-1.0]

    def test_bnew_defaults_grow_weights_as_the_reference_code(self) -> None:
        """33.8 nats in 980 epochs of 352 steps, as the regulariser 1e-4 (e + 1)/1000 has it, at Adam's 0.01."""
        method = Bnew(BnewConfig(), AdamConfig(lr=0.01))
        nats = 0.0
        for epoch in range(980):
            method.anneal(Progress(epoch + 1, 1000, 352))
            nats += 352 * math.log(method._factor(lr=1e-9))
        assert nats == pytest.approx(33.8, abs=0.05)

    @pytest.mark.parametrize("epochs", [1, 20, 140])
    def test_bnew_growth_is_reached_at_any_budget(self, epochs: int) -> None:
        method, factor = Bnew(BnewConfig(growth=3.0), PLAIN_SGD), 1.0
        for step in range(7 * epochs):
            method.anneal(Progress(step / 7, epochs, 7))
            factor *= method._factor(lr=0.0)
        assert math.log(factor) == pytest.approx(3.0)
        assert method.state()["lambda"] * 2 * 0.1 == pytest.approx(
            math.expm1(3.0 * (14 * epochs - 1) / (7 * epochs) ** 2)
        )

    def test_mirror_descent_ends_at_its_final_beta(self) -> None:
        method = Dual(BmdConfig(final_beta=100.0), AdamConfig())
        for fraction, beta in [(0.0, 1.0), (0.5, 10.0), (1.0, 100.0)]:
            method.anneal(Progress(8 * fraction, 8))
            assert method.state()["beta"] == pytest.approx(beta)

    def test_proxquant_pulls_by_its_total(self) -> None:
        """Shares 1/16, 3/16, 5/16, 7/16 of .4 in four steps, whatever the learning rate is."""
        method = Proxquant(ProxquantConfig(pull=0.4), PLAIN_SGD)
        parameter = Parameter(torch.tensor([0.1]))
        optimizer = method.optimizer([parameter])
        values = []
        for step in range(4):
            method.anneal(Progress(step / 2, 2, 2))
            parameter.grad = torch.zeros(1)
            optimizer.step()
            values.append(parameter.item())
        assert values == pytest.approx([0.125, 0.2, 0.325, 0.5])

    @pytest.mark.parametrize(
        ("method", "said"),
        [
            ({"name": "bnew", "growth": 30, "lambda_rate": 0.1}, "growth takes the place of lambda_rate"),
            ({"name": "bnew", "growth": 30, "time": "epoch"}, "so that time epoch has no effect"),
            ({"name": "bmd", "final_beta": 1e3, "rate": 1.1}, "final_beta takes the place of rate"),
            ({"name": "proxquant", "pull": 7, "reg_rate": 1e-3}, "pull takes the place of reg_rate"),
        ],
    )
    def test_one_strength_at_a_time(self, method: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            trial({"pretrain_epochs": 0, "finetune_epochs": 0, **method})

    @pytest.mark.parametrize(
        ("method", "model", "said"),
        [
            ({"name": "irnet", "t_min": 2, "t_max": 1}, {}, "t_min <= t_max must hold, but got 2 > 1"),
            ({"name": "reste", "chord": 2}, {}, "chord <= bound must hold, but got 2 > 1.5"),
            ({"name": "biper", "pretrain_epochs": 1}, {}, "pretrain_epochs must be 0, but got 1"),
            ({"name": "adabin"}, {"scale": "xnor"}, "method adabin scales every filter itself, so that model.scale"),
            ({"name": "reste"}, {"standardise": True}, "so that model.standardise has no effect"),
        ],
    )
    def test_what_does_not_fit_is_one_line(self, method: dict[str, Any], model: dict[str, Any], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            trial(method, model={"name": "mlp", **model})

    def test_relaxed_clips_and_frozen_projects(self) -> None:
        assert after_steps(Relaxed(PLAIN_SGD), 0.95, [-1.0]) == [1.0]
        parameter = Parameter(torch.tensor([0.2, -0.3, 0.0]))
        Frozen().start([parameter])
        assert parameter.tolist() == [1, -1, 1]
        assert Frozen().optimizer([parameter]) is None
        assert not Frozen().view(parameter).requires_grad

    def test_irnet_view_and_its_gradient(self) -> None:
        """Half of the phase has t = 1 and k = 1.

        The weights less their mean .15 are (-.05, -.35, .15, .25), squares sum to .21, std = sqrt(.21/3) = .264575;
        v = (-.188982, -1.322876, .566947, .944911). mean |v| = .755929, log2 = -.4037, so that s = 0: signs alone.
        h = g (1 - tanh^2 v) = (.965119, .494897, 2.210144, 1.824549), mean h = 1.373677 and sum(h v)/3 = .713332; the
        gradient is (h - mean h - v sum(h v)/3) / std.
        """
        method = Irnet(IrnetConfig(), PLAIN_SGD)
        method.anneal(Progress(5, 10))
        shown, gradient = seen(method.view, [0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4])
        assert shown.tolist() == [-1, -1, 1, 1]
        torch.testing.assert_close(gradient, torch.tensor([-1.034682, 0.245178, 1.632981, -0.843476]))

    def test_irnet_scale_is_a_power_of_two(self) -> None:
        """(1, -1, 0 x 6): std = sqrt(2/7), mean |v| = 2 / .534522 / 8 = .467707, log2 = -1.096: 2^-1; sign(0) = +1."""
        shown = Irnet(IrnetConfig(), PLAIN_SGD).view(torch.tensor([[1.0, -1.0, 0, 0, 0, 0, 0, 0]]))
        assert shown.tolist() == [[0.5, -0.5, *[0.5] * 6]]

    def test_error_decay_estimator(self) -> None:
        """k t (1 - tanh^2(t x)): t = .1, x = 2: 1 (1 - .197375^2); t = 10, x = .1: 10 (1 - .761594^2)."""
        method = Irnet(IrnetConfig(), PLAIN_SGD)
        for fraction, t, x, slope in [(0.0, 0.1, 2.0, 0.961043), (0.5, 1.0, 0.0, 1.0), (1.0, 10.0, 0.1, 4.199743)]:
            method.anneal(Progress(8 * fraction, 8))
            assert method.state()["ede_t"] == pytest.approx(t)
            assert method.estimate is not None
            shown, gradient = seen(method.estimate, [x], [1])
            assert (shown.item(), gradient.item()) == (1, pytest.approx(slope, abs=1e-5))
        assert Irnet(IrnetConfig(activations=False), PLAIN_SGD).estimate is None

    def test_reste(self) -> None:
        """At o = 3: nothing beyond 1.5; 1/3 |x|^(-2/3) is 1/3 at 1 and 4/3 at .125; below .1 .1^(-2/3) = 4.641589."""
        method = Reste(ResteConfig(), PLAIN_SGD)
        method.anneal(Progress(10, 10))
        shown, gradient = seen(method.view, [-2, -1, 0.125, -0.05, 0, 1.5], [1, 2, 1, 1, 1, 0])
        assert shown.tolist() == [-1, -1, 1, -1, 1, 1]
        torch.testing.assert_close(gradient, torch.tensor([0, 2 / 3, 4 / 3, 4.641589, 4.641589, 0]))

    def test_reste_begins_as_ste_and_sharpens_by_a_cosine(self) -> None:
        """1 + 2 (1 - cos(pi/4)) = 1.585786 half way."""
        method = Reste(ResteConfig(), PLAIN_SGD)
        for fraction, o in [(0.5, 1.585786), (1.0, 3.0), (0.0, 1.0)]:
            method.anneal(Progress(8 * fraction, 8))
            assert method.state()["reste_o"] == pytest.approx(o, abs=1e-6)
        assert seen(method.view, [-1.6, -1.4, 0.01], [3, 3, 3])[1].tolist() == [0, 3, 3]

    def test_biper(self) -> None:
        """sin(2) = .909297 and 20 cos(2) = -8.322937; sin(4) = -.756802 and 20 cos(4) = -13.072872."""
        stages = build_biper(BiperConfig(), PLAIN_SGD)
        for method, expected in [(stages.first, [0.909297, -0.756802]), (stages.second, [1.0, -1.0])]:
            shown, gradient = seen(method.view, [0.1, 0.2], [1, 1])
            torch.testing.assert_close(shown, torch.tensor(expected))
            torch.testing.assert_close(gradient, torch.tensor([-8.322937, -13.072872]))

    def test_adabin(self) -> None:
        """Half of the phase has t = 1 and k = 1.

        mu = .15, sigma = sqrt(.21/4) = .229129: .15 -+ .229129. v = (-.218218, -1.527525, .654654, 1.091089),
        h = g (1 - tanh^2 v) = (.953853, .343799, 2.008834, 1.457408). mu has 1/4 of each gradient and sigma v/4 of its
        sign's, so that w gets mean g + v mean(g sign v) + h - mean h - v mean(h v), mean g = 2.5, mean(g sign v) = 1.
        """
        method = Adabin(AdabinConfig(), PLAIN_SGD)
        method.anneal(Progress(5, 10))
        shown, gradient = seen(method.view, [0.1, -0.2, 0.3, 0.4], [1, 2, 3, 4])
        torch.testing.assert_close(shown, torch.tensor([-0.079129, -0.079129, 0.379129, 0.379129]), atol=1e-6, rtol=0)
        torch.testing.assert_close(gradient, torch.tensor([2.163151, 0.954725, 3.617047, 3.265078]))

    def test_signum(self) -> None:
        parameter = Parameter(torch.tensor([0.0, 0.0, 0.0]))
        optimizer = Signum([parameter], 0.1, momentum=0.5)
        for gradient, expected in [([3.0, -1e-9, 0.0], [-0.1, 0.1, 0.0]), ([-9.0, 0.0, 0.0], [0.0, 0.2, 0.0])]:
            parameter.grad = torch.tensor(gradient)
            optimizer.step()
            torch.testing.assert_close(parameter.detach(), torch.tensor(expected))


weights = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20).map(torch.tensor)


class TestProximalStepsKeepSigns:
    @given(weights, st.floats(0, 5))
    def test_proxquant(self, weight: Tensor, strength: float) -> None:
        for prox in (prox_l1, prox_l2):
            assert torch.equal(sign(prox(weight, strength)), sign(weight))

    @given(weights, st.floats(0, 5))
    def test_proxquant_never_moves_away_from_binary(self, weight: Tensor, strength: float) -> None:
        for prox in (prox_l1, prox_l2):
            assert ((prox(weight, strength).abs() - 1).abs() <= (weight.abs() - 1).abs() + 1e-6).all()

    @given(weights, st.floats(0, 50), st.booleans())
    def test_bnew(self, weight: Tensor, strength: float, exact: bool) -> None:
        grown = weight * growth(strength, exact=exact)
        assert torch.equal(sign(grown), sign(weight))
        assert (grown.abs() >= weight.abs()).all()


class TestPhases:
    @staticmethod
    def lengths(method: Any, epochs: int) -> list[tuple[str, int]]:
        return [(phase.name, phase.epochs) for phase in build_phases(method, AdamConfig(), epochs=epochs)]

    def test_bnew_has_three(self) -> None:
        config = BnewConfig(pretrain_epochs=3, finetune_epochs=2)
        assert self.lengths(config, 10) == [("pretrain", 3), ("quantise", 5), ("finetune", 2)]

    def test_phases_without_epochs_fall_away(self) -> None:
        assert self.lengths(BnewConfig(pretrain_epochs=0, finetune_epochs=0), 10) == [("quantise", 10)]
        assert self.lengths(SteConfig(), 4) == [("train", 4)]
        assert self.lengths(BopConfig(pretrain_epochs=1), 4) == [("pretrain", 1), ("train", 3)]

    def test_biper_has_two_stages(self) -> None:
        assert self.lengths(BiperConfig(), 9) == [("periodic", 6), ("train", 3)]
        assert self.lengths(BiperConfig(first_share=0.99), 9) == [("periodic", 8), ("train", 1)]
        assert self.lengths(BiperConfig(first_share=0), 9) == [("train", 9)]

    def test_phases_must_leave_an_epoch_to_the_method(self) -> None:
        with pytest.raises(ValueError, match=r"finetune_epochs < plan\.epochs must hold, but got 3 \+ 2 >= 5"):
            build_phases(BnewConfig(pretrain_epochs=3, finetune_epochs=2), AdamConfig(), epochs=5)


@dataclass(frozen=True)
class Case:
    """A method at settings that suit six epochs on the digits."""

    method: dict[str, Any]
    sections: dict[str, Any]


PHASES = {"pretrain_epochs": 2, "finetune_epochs": 1}
CASES = {
    "ste": Case({"name": "ste"}, {}),
    "ste-recu": Case({"name": "ste", "clip": False}, {"recu": {}, "optimizer": {"name": "sgd", "lr": 0.1}}),
    "ste-signum": Case({"name": "ste"}, {"optimizer": {"name": "signum", "lr": 0.01}}),
    "ste-precision": Case({"name": "ste"}, {"precision": {"cycles": 3}}),
    "bmd": Case({"name": "bmd", "rate": 2.0, "finetune_epochs": 1}, {}),
    "bmd-final-beta": Case({"name": "bmd", "final_beta": 50.0, **PHASES}, {}),
    "bmd-primal": Case({"name": "bmd", "form": "primal", "finetune_epochs": 1}, {}),
    "bop": Case({"name": "bop", "gamma": 1e-3, "threshold": 1e-6, "pretrain_epochs": 1}, {}),
    "bop2": Case({"name": "bop2", "gamma": 1e-3, "threshold": 1e-2, "pretrain_epochs": 1}, {}),
    "proxquant-l1": Case({"name": "proxquant", "reg_rate": 0.5, **PHASES}, {}),
    "proxquant-l2": Case({"name": "proxquant", "penalty": "l2", "reg_rate": 5.0, **PHASES}, {}),
    "proxquant-pull": Case({"name": "proxquant", "pull": 3.0, **PHASES}, {}),
    "bnew": Case({"name": "bnew", "lambda_rate": 6.0, **PHASES}, {}),
    "bnew-growth": Case({"name": "bnew", "growth": 6.0, **PHASES}, {}),
    "bnew-last": Case({"name": "bnew", "growth": 6.0, "pretrained": "last", **PHASES}, {"plan": {"restart": True}}),
    "irnet": Case({"name": "irnet"}, {}),
    "reste": Case({"name": "reste"}, {}),
    "biper": Case({"name": "biper", "first_share": 0.5}, {}),
    "adabin": Case({"name": "adabin", "pretrain_epochs": 1}, {}),
    "bnew-precision": Case({"name": "bnew", "lambda_rate": 6.0, **PHASES}, {"precision": {"cycles": 3}}),
}
TOY_ACCURACY = 0.9


def new_trainer(case: str) -> GradientTrainer:
    return trainer(trial(CASES[case].method, **CASES[case].sections))


@cache
def finished(case: str) -> tuple[GradientTrainer, list[EpochMetrics]]:
    run = new_trainer(case)
    return run, list(run.fit())


@pytest.mark.parametrize("case", CASES)
class TestContract:
    def test_learns(self, case: str) -> None:
        _, history = finished(case)
        assert history[-1].values["val_acc"] >= TOY_ACCURACY

    def test_flips_bits(self, case: str) -> None:
        _, history = finished(case)
        assert all(rate > 0.01 for rate in history[0].layers["flip_rate"].values())

    def test_what_is_reported_is_the_sign_network(self, case: str) -> None:
        """A network of +-1 weights and default views, built anew from the exported state, has the reported accuracy.

        Of a method that has them, of two values per filter.
        """
        run, history = finished(case)
        network = small_network(seed=9)
        two_valued = run._config.method.two_valued
        if two_valued:
            use_two_values(network)
        network.load_state_dict(run.sign_network().state_dict())
        for layer in binary_layers(network).values():
            signs, spread, centre = two_values(layer.weight)
            torch.testing.assert_close(centre + spread * signs, layer.weight, rtol=0, atol=1e-6)
            assert two_valued or layer.weight.abs().eq(1).all()
        accuracy = evaluate(network, eval_batches(digits().val, batch_size=100)).acc
        assert accuracy == history[-1].values["val_acc"]

    def test_keeps_what_guests_are_held_to(self, case: str) -> None:
        config = new_trainer(case)._config
        check_method(config.method, **CASES[case].sections)


class TestGrowthAtAnyBudget:
    """BNEW's weights become binary along the same curve over the phase, whether it has 20, 140 or 980 epochs."""

    GROWTH, TENTHS = 12.0, [tenth / 10 for tenth in range(1, 11)]

    def trained(self, epochs: int) -> tuple[Tensor, list[float]]:
        """The pretrained weights, and the binary fraction after every tenth of a quantisation phase of `epochs`."""
        method = {"name": "bnew", "growth": self.GROWTH, "pretrain_epochs": 2, "finetune_epochs": 0}
        optimizer = {"name": "adam", "lr": 1e-4, "real_lr": 0.01}
        run = trainer(
            trial(method, epochs=epochs + 2, optimizer=optimizer, data={"name": "digits", "train_limit": 400})
        )
        list(islice(run.fit(), 2))
        kept = run.state_dict()["handed_on"]["network"]
        start = torch.cat([kept[f"{name}.weight"].flatten() for name in run._layers])
        fractions = [epoch.values["binary_fraction"] for epoch in run.fit()]
        return start, [fractions[round(tenth * epochs) - 1] for tenth in self.TENTHS]

    def simulated(self, start: Tensor, epochs: int) -> list[float]:
        """The same of the update alone: no gradient moves the weights."""
        parameter = Parameter(start.clone())
        method = Bnew(BnewConfig(growth=self.GROWTH), AdamConfig(lr=1e-4))
        optimizer, fractions = method.optimizer([parameter]), []
        for step in range(3 * epochs):
            method.anneal(Progress(step / 3, epochs, 3))
            parameter.grad = torch.zeros_like(start)
            optimizer.step()
            fractions.append(float((parameter.abs() >= 1 - BINARY_TOLERANCE).float().mean()))
        return [fractions[round(tenth * 3 * epochs) - 1] for tenth in self.TENTHS]

    def test_curves_are_the_same(self) -> None:
        start, short = self.trained(20)
        _, longer = self.trained(140)
        longest = self.simulated(start, 980)
        assert longest[0] < 0.1, "the curve spans the phase"
        assert longest[-1] > 0.9
        assert longer == pytest.approx(longest, abs=0.02)
        assert short == pytest.approx(longest, abs=0.02)
