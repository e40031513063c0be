"""Learning-rate schedules: their values at known moments, and that a run follows them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fixtures import trainer, trial

from bnnsearch.config.plan import ConstantConfig, CosineConfig, LinearConfig, ScheduleConfig, WarmRestartsConfig
from bnnsearch.core.schedule import stretch, warmup_factor

SCHEDULES: tuple[ScheduleConfig, ...] = (LinearConfig(), CosineConfig(), WarmRestartsConfig(), ConstantConfig())


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"),
    [
        (LinearConfig(), 2.5, 0.75),
        (CosineConfig(), 2.5, 0.853553),
        (CosineConfig(), 9, 0.0244717),
        (WarmRestartsConfig(period=10), 2.5, 0.853553),
        (WarmRestartsConfig(period=10), 9, 0.0244717),
        (WarmRestartsConfig(period=10), 10, 1.0),
        (ConstantConfig(), 9, 1.0),
    ],
)
def test_values(schedule: ScheduleConfig, epoch: float, expected: float) -> None:
    assert schedule.at(epoch, 10) == pytest.approx(expected, abs=1e-6)


def test_the_254_epochs_of_the_thesis_are_seven_whole_periods() -> None:
    schedule = WarmRestartsConfig(period=2, factor=2)
    restarts = [epoch for epoch in range(255) if schedule.at(epoch, 254) == 1]
    assert restarts == [0, 2, 6, 14, 30, 62, 126, 254]


@given(st.sampled_from(SCHEDULES), st.floats(0, 1), st.integers(1, 1000))
def test_a_factor_lies_between_0_and_1_and_starts_at_1(schedule: ScheduleConfig, share: float, epochs: int) -> None:
    assert 0 <= schedule.at(share * epochs, epochs) <= 1
    assert schedule.at(0, epochs) == 1


def test_warmup_rises_linearly_and_stays() -> None:
    assert [warmup_factor(epoch, 2) for epoch in (0, 0.5, 2, 9)] == [0, 0.25, 1, 1]
    assert warmup_factor(0, 0) == 1


@pytest.mark.parametrize(
    ("restart", "rates"),
    [
        (True, [1 / 20, 1 / 20, 1 / 20]),
        (["train", "quantise"], [1 / 20, (1 + 1 / 20) / 2, 1 / 20 / 2]),
        (["finetune"], [(1 + 1 / 20) / 2, 1 / 20 / 2, 1 / 20]),
        (False, [(2 + 1 / 20) / 3, (1 + 1 / 20) / 3, 1 / 20 / 3]),
    ],
)
def test_a_run_restarts_its_schedule_with_the_phases_named(restart: Any, rates: list[float]) -> None:
    """The rate at the last of 20 steps of an epoch: 19/20 of the epoch has passed."""
    method = {"name": "bnew", "pretrain_epochs": 1, "finetune_epochs": 1}
    optimizer = {"name": "adam", "lr": 1.0, "real_lr": 0.01}
    run = trainer(
        trial(method, epochs=3, optimizer=optimizer, plan={"schedule": {"name": "linear"}, "restart": restart})
    )
    epochs = list(run.fit())
    assert [epoch.values["real_lr"] for epoch in epochs] == pytest.approx([0.01 * rate for rate in rates])
    assert [epoch.values["lr"] for epoch in epochs[:2]] == pytest.approx(rates[:2])
    assert "lr" not in epochs[2].values, "no optimizer holds frozen weights"


def test_a_phase_that_ends_early_leaves_the_schedule_as_planned() -> None:
    lengths, restarts = [2, 5, 3], [False, True, False]
    assert [stretch(lengths, restarts, phase) for phase in range(3)] == [(0, 2), (0, 8), (5, 8)]
    assert [stretch(lengths, [False] * 3, phase) for phase in range(3)] == [(0, 10), (2, 10), (7, 10)]
